{{ config(meta={"dagster": {"ref": {"name": "detections_by_camera_class_hour"}}}) }}
with counted as (select coalesce(sum(detections), 0) as detections from {{ ref("detections_by_camera_class_hour") }}),

there as (select coalesce(sum(objects), 0) as detections from {{ ref("stg_predictions") }})

select counted.detections, there.detections as detections_there
from counted
cross join there
where counted.detections <> there.detections
