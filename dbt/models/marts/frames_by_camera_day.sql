with reviewed as (
    select distinct frame_hash from {{ ref("stg_labels") }} where is_in_force and is_reviewed
)

select
    frames.camera_id,
    frames.captured_day as day,
    count(*) as frames,
    count(reviewed.frame_hash) as reviewed_frames,
    count(case when frames.is_frozen then 1 end) as frozen_frames,
    count(case when frames.light = 'night' then 1 end) as night_frames,
    avg(frames.brightness) as mean_brightness,
    avg(frames.sharpness) as mean_sharpness,
    min(frames.captured_at) as first_captured_at,
    max(frames.captured_at) as last_captured_at
from {{ ref("stg_frames") }} as frames
left join reviewed on reviewed.frame_hash = frames.frame_hash
group by frames.camera_id, frames.captured_day
