select
    id,
    stage,
    model_name,
    version,
    model,
    {{ utc("since") }} as since,
    {{ utc("until") }} as until,
    released_by,
    until is null as is_open
from {{ source("platform", "releases") }}
