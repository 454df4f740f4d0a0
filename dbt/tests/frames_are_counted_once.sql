{{ config(meta={"dagster": {"ref": {"name": "frames_by_camera_day"}}}) }}
with counted as (select coalesce(sum(frames), 0) as frames from {{ ref("frames_by_camera_day") }}),

there as (select count(*) as frames from {{ ref("stg_frames") }})

select counted.frames, there.frames as frames_there
from counted
cross join there
where counted.frames <> there.frames
