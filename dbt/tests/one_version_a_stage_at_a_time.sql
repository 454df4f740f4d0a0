select earlier.id, later.id as later_id
from {{ ref("stg_releases") }} as earlier
inner join {{ ref("stg_releases") }} as later
    on later.stage = earlier.stage and later.id > earlier.id
where earlier.until is null or earlier.until > later.since
