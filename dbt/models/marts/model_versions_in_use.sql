with released as (
    select
        stage,
        model_name,
        version,
        max(model) as model,
        count(*) as releases,
        min(since) as first_released_at,
        max(since) as last_released_at,
        count(case when is_open then 1 end) > 0 as is_in_use,
        case when count(case when is_open then 1 end) > 0 then null else max(until) end as ended_at
    from {{ ref("stg_releases") }}
    group by stage, model_name, version
),

answered as (
    select
        stage,
        version,
        count(*) as predictions,
        count(distinct camera_id) as cameras,
        max(captured_at) as last_captured_at,
        -- An answer from the cache says nothing of how long the version takes.
        avg(case when not is_cached then latency_ms end) as mean_latency_ms
    from {{ ref("stg_predictions") }}
    group by stage, version
)

select
    released.stage,
    released.model_name,
    released.version,
    released.model,
    released.releases,
    released.first_released_at,
    released.last_released_at,
    released.ended_at,
    released.is_in_use,
    coalesce(answered.predictions, 0) as predictions,
    coalesce(answered.cameras, 0) as cameras,
    answered.last_captured_at,
    answered.mean_latency_ms
from released
left join answered on answered.stage = released.stage and answered.version = released.version
