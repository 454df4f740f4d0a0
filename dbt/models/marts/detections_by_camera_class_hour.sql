-- The log grows with every live picture, so only the hours that new rows fell into are counted again. Rows come late
-- (a spool waits for its collection): what was loaded since decides, not the clock.
{{
    config(
        materialized="incremental",
        incremental_strategy="delete+insert",
        unique_key=["camera_id", "hour"],
        on_schema_change="append_new_columns",
    )
}}

with predictions as (
    select * from {{ ref("stg_predictions") }}
),

due as (
    select predictions.*
    from predictions
    {% if is_incremental() %}
        inner join (
            select distinct camera_id, captured_hour
            from predictions
            where load_number > (select coalesce(max(load_number), 0) from {{ this }})
        ) as touched
            on touched.camera_id = predictions.camera_id and touched.captured_hour = predictions.captured_hour
    {% endif %}
),

counted as (
    select
        due.camera_id,
        due.captured_hour,
        due.load_number,
        entry.key as class_name,
        cast(entry.value as integer) as detections
    from due
    cross join lateral {{ json_pairs("due.counts") }} as entry
)

select
    camera_id,
    class_name,
    captured_hour as hour,
    count(*) as frames,
    cast(sum(detections) as bigint) as detections,
    cast(max(load_number) as bigint) as load_number
from counted
group by camera_id, class_name, captured_hour
