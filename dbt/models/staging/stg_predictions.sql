-- What live cameras were answered; probes, references and pictures drawn by hand are left out.
select
    row_key,
    {{ utc("captured_at") }} as captured_at,
    {{ utc("logged_at") }} as logged_at,
    date_trunc('hour', {{ utc("captured_at") }}) as captured_hour,
    camera_id,
    model,
    version,
    stage,
    light,
    counts,
    objects,
    latency_ms,
    -- Rows from before there was a cache do not say.
    coalesce(is_cached, false) as is_cached,
    load_number
from {{ source("platform", "predictions") }}
where purpose = 'live'
