"""What has to be true of the labels in force before a dataset is built from them.

The store refuses what cannot be; this looks at the whole again, so that a damaged table or a frame that has gone
since is seen, and counts what a person wants to know. Leaves a `CheckResult`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any, get_args

import pandas as pd

from its_platform.frames.expectations import CheckResult, run_expectations
from its_platform.labels.labelling import EDGE_TOLERANCE_PX, MINIMUM_SIDE_PX, FrameLabels, Origin, Review
from its_platform.labels.store import current_labels, frames_of
from its_platform.stores import Stores

COLUMNS = ["frame_hash", "class_name", "is_class_known", "has_frame", "outside_px", "side_px", "origin", "review"]
COLUMNS += ["confidence"]


def check_labels(stores: Stores, frame_hashes: Collection[str] | None = None) -> CheckResult:
    """Check the labellings in force of these frames, of all by default. No labels at all is a failure."""
    current = current_labels(stores, frame_hashes)
    rows = frames_of(stores, set(current), ["frame_hash", "width", "height"])
    sizes = {
        str(h): (int(w), int(t)) for h, w, t in zip(rows["frame_hash"], rows["width"], rows["height"], strict=True)
    }
    figures = _statistics(current)
    if not current:
        return CheckResult(False, ["labels: there are none."], figures)
    missing = sorted(frame_hash for frame_hash in current if frame_hash not in sizes)
    failures = [f"labels: frame {frame_hash} is not in the index." for frame_hash in missing]
    table = boxes_table(current, sizes)
    if table.empty:
        # Empty roads are a fine labelling, but nothing that a detector could learn from.
        return CheckResult(False, [*failures, "labels: no frame has a box."], figures)
    ruled = run_expectations(table, "labels", label_expectations())
    return CheckResult(ruled.passed and not failures, [*failures, *ruled.failures], {**ruled.statistics, **figures})


def boxes_table(current: dict[str, FrameLabels], sizes: dict[str, tuple[int, int]]) -> pd.DataFrame:
    """One row a box, with how far it reaches outside its picture and its shorter side, in pixels."""
    rows: list[dict[str, Any]] = []
    for frame_hash, entry in current.items():
        width, height = sizes.get(frame_hash, (0, 0))
        for box in entry.boxes:
            rows.append(
                {
                    "frame_hash": frame_hash,
                    "class_name": box.class_name,
                    "is_class_known": box.class_name in entry.classes,
                    "has_frame": frame_hash in sizes,
                    "outside_px": max(0.0, -box.x1, -box.y1, box.x2 - width, box.y2 - height),
                    "side_px": min(box.x2 - box.x1, box.y2 - box.y1),
                    "origin": box.origin,
                    "review": box.review,
                    "confidence": box.confidence,
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def label_expectations() -> list[Any]:
    """What each box has to satisfy."""
    import great_expectations.expectations as gxe

    rules: list[Any] = [gxe.ExpectColumnValuesToNotBeNull(column=name) for name in COLUMNS]
    rules += [
        gxe.ExpectColumnValuesToBeInSet(column="has_frame", value_set=[True]),
        gxe.ExpectColumnValuesToBeInSet(column="is_class_known", value_set=[True]),
        gxe.ExpectColumnValuesToBeBetween(column="outside_px", max_value=EDGE_TOLERANCE_PX),
        gxe.ExpectColumnValuesToBeBetween(column="side_px", min_value=MINIMUM_SIDE_PX - 0.02),
        gxe.ExpectColumnValuesToBeInSet(column="origin", value_set=list(get_args(Origin))),
        gxe.ExpectColumnValuesToBeInSet(column="review", value_set=list(get_args(Review))),
        gxe.ExpectColumnValuesToBeBetween(column="confidence", min_value=0, max_value=1),
    ]
    return rules


def _statistics(current: dict[str, FrameLabels]) -> dict[str, Any]:
    boxes = [box for entry in current.values() for box in entry.boxes]
    return {
        "frames": len(current),
        "reviewed_frames": sum(entry.is_reviewed for entry in current.values()),
        "empty_frames": sum(not entry.boxes for entry in current.values()),
        "boxes": len(boxes),
        "boxes_by_class": dict(Counter(box.class_name for box in boxes).most_common()),
        "boxes_by_origin": dict(Counter(box.origin for box in boxes).most_common()),
    }
