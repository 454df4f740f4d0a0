-- A picture that two cameras or two days share counts on the first of its days.
with captured as (
    select frame_hash, min(captured_day) as day from {{ ref("stg_frames") }} group by frame_hash
),

counted as (
    select
        captured.day,
        boxes.class_name,
        count(*) as boxes,
        count(case when boxes.is_reviewed then 1 end) as reviewed_boxes,
        count(distinct boxes.frame_hash) as frames
    from {{ ref("stg_label_boxes") }} as boxes
    inner join captured on captured.frame_hash = boxes.frame_hash
    where boxes.is_in_force
    group by captured.day, boxes.class_name
)

select
    day,
    class_name,
    boxes,
    reviewed_boxes,
    frames,
    cast(boxes as double precision) / cast(sum(boxes) over (partition by day) as double precision) as share_of_boxes
from counted
