-- One row a box of a labelling.
select
    labels.frame_hash,
    labels.created_at,
    labels.is_reviewed,
    labels.is_in_force,
    item.value ->> 'class_name' as class_name,
    item.value ->> 'origin' as origin
from {{ ref("stg_labels") }} as labels
cross join lateral {{ json_items("labels.boxes") }} as item
