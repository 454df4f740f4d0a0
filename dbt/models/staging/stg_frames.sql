select
    camera_id,
    {{ utc("captured_at") }} as captured_at,
    cast({{ utc("captured_at") }} as date) as captured_day,
    frame_hash,
    light,
    weather,
    brightness,
    sharpness,
    is_frozen,
    {{ utc("ingested_at") }} as ingested_at
from {{ source("platform", "frames") }}
