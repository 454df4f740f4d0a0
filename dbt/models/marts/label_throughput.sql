with ingested as (
    select frame_hash, min(ingested_at) as ingested_at from {{ ref("stg_frames") }} group by frame_hash
),

boxes as (
    select frame_hash, created_at, is_reviewed, count(*) as boxes
    from {{ ref("stg_label_boxes") }}
    group by frame_hash, created_at, is_reviewed
)

select
    labels.created_day as day,
    labels.review,
    count(*) as labellings,
    count(distinct labels.frame_hash) as frames,
    cast(coalesce(sum(boxes.boxes), 0) as bigint) as boxes,
    cast(avg(extract(epoch from labels.created_at - ingested.ingested_at)) / 3600 as double precision)
        as mean_hours_after_ingest
from {{ ref("stg_labels") }} as labels
left join boxes
    on
        boxes.frame_hash = labels.frame_hash
        and boxes.created_at = labels.created_at
        and boxes.is_reviewed = labels.is_reviewed
left join ingested on ingested.frame_hash = labels.frame_hash
group by labels.created_day, labels.review
