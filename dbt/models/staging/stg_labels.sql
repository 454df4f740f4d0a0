-- One row a labelling of a frame. The one in force is the latest reviewed one, else the latest.
select
    frame_hash,
    review,
    is_reviewed,
    source,
    {{ utc("created_at") }} as created_at,
    cast({{ utc("created_at") }} as date) as created_day,
    boxes,
    row_number() over (partition by frame_hash order by is_reviewed desc, created_at desc) = 1 as is_in_force
from {{ source("platform", "labels") }}
