"""What has to be true of a dataset version before anything is trained on it. Leaves a `CheckResult`.

The build keeps these rules; this reads the manifest that was stored and looks again, because a rule that nothing
checks from outside is a hope. A failing check stops the training.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from its_platform.dataset.selection import place_of
from its_platform.dataset.splits import JUDGES, SPLITS, Spacing, guard_breaches
from its_platform.dataset.versions import DatasetVersion, load_manifest, version
from its_platform.frames.expectations import CheckResult, run_expectations
from its_platform.settings import DatasetSettings
from its_platform.stores import Stores

ORIGINS_THAT_JUDGE = ("human", "imported", "simulated")


def check_dataset(stores: Stores, name: str) -> CheckResult:
    """Check a stored version. Raises `NotFound` for an unknown name."""
    return check_manifest(load_manifest(stores, name), version(stores, name), stores.settings.dataset)


def check_manifest(manifest: pd.DataFrame, made: DatasetVersion, settings: DatasetSettings) -> CheckResult:
    """Check frames (one split each, no leak over a guard gap or a block), boxes, sizes and balance."""
    spacing = Spacing(**made.request["spacing"])
    figures = _statistics(manifest, made.classes)
    if manifest.empty:
        return CheckResult(False, ["dataset: it holds no frames."], figures)
    frames = run_expectations(frames_table(manifest, spacing), "dataset_frames", frame_expectations())
    splits = run_expectations(splits_table(manifest), "dataset_splits", split_expectations(settings))
    checks = [frames, splits]
    boxes = boxes_table(manifest)
    if not boxes.empty:
        checks.append(run_expectations(boxes, "dataset_boxes", box_expectations(made.classes)))
    untaught = [name for name in made.classes if not figures["boxes_by_class"]["train"].get(name)]
    failures = [failure for check in checks for failure in check.failures]
    failures += [f"dataset: no box of class {name} is in train." for name in untaught]
    passed = all(check.passed for check in checks) and not untaught
    number = sum(check.statistics.get("expectations", 0) for check in checks)
    return CheckResult(passed, failures, {**figures, "expectations": number, "expectations_failed": len(failures)})


def frames_table(manifest: pd.DataFrame, spacing: Spacing) -> pd.DataFrame:
    """One row a frame, with what only shows when frames are compared."""
    rows = manifest.to_dict("records")
    splits = {row["frame_hash"]: row["split"] for row in rows}
    breached = {h for pair in guard_breaches([place_of(row) for row in rows], splits, spacing) for h in pair}
    table = manifest[["frame_hash", "object_key", "camera_id", "split", "light", "width", "height"]].copy()
    table["splits_of_block"] = manifest.groupby("block")["split"].transform("nunique")
    table["is_guarded"] = [row["frame_hash"] not in breached for row in rows]
    table["is_fit_for_split"] = [row["split"] not in JUDGES or bool(row["may_judge"]) for row in rows]
    return table


def splits_table(manifest: pd.DataFrame) -> pd.DataFrame:
    """One row, a column a split and figure."""
    row = {f"{split}_frames": int((manifest["split"] == split).sum()) for split in SPLITS}
    for split in SPLITS:
        row[f"{split}_boxes"] = int(manifest.loc[manifest["split"] == split, "boxes"].map(len).sum())
    return pd.DataFrame([row])


def boxes_table(manifest: pd.DataFrame) -> pd.DataFrame:
    """One row a box, with whether its origin may be in its split."""
    rows = []
    for frame in manifest.to_dict("records"):
        for box in frame["boxes"]:
            is_seen = box["origin"] in ORIGINS_THAT_JUDGE and box["review"] == "reviewed"
            outside = max(0.0, -box["x1"], -box["y1"], box["x2"] - frame["width"], box["y2"] - frame["height"])
            rows.append(
                {
                    "class_name": box["class_name"],
                    "is_fit_for_split": frame["split"] not in JUDGES or is_seen,
                    "outside_px": outside,
                    "side_px": min(box["x2"] - box["x1"], box["y2"] - box["y1"]),
                }
            )
    return pd.DataFrame(rows)


def frame_expectations() -> list[Any]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeUnique(column="frame_hash"),
        gxe.ExpectColumnValuesToNotBeNull(column="object_key"),
        gxe.ExpectColumnValuesToBeInSet(column="split", value_set=list(SPLITS)),
        gxe.ExpectColumnValuesToBeBetween(column="splits_of_block", min_value=1, max_value=1),
        gxe.ExpectColumnValuesToBeInSet(column="is_guarded", value_set=[True]),
        gxe.ExpectColumnValuesToBeInSet(column="is_fit_for_split", value_set=[True]),
    ]


def split_expectations(settings: DatasetSettings) -> list[Any]:
    import great_expectations.expectations as gxe

    least = {
        "train_frames": settings.minimum_train_frames,
        "val_frames": settings.minimum_judge_frames,
        "golden_frames": settings.minimum_judge_frames,
        "train_boxes": 1,
        "val_boxes": 1,
        "golden_boxes": 1,
    }
    return [gxe.ExpectColumnValuesToBeBetween(column=name, min_value=number) for name, number in least.items()]


def box_expectations(classes: tuple[str, ...]) -> list[Any]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeInSet(column="class_name", value_set=list(classes)),
        gxe.ExpectColumnValuesToBeInSet(column="is_fit_for_split", value_set=[True]),
        gxe.ExpectColumnValuesToBeBetween(column="outside_px", max_value=0.01),
        gxe.ExpectColumnValuesToBeBetween(column="side_px", min_value=0.5),
    ]


def _statistics(manifest: pd.DataFrame, classes: tuple[str, ...]) -> dict[str, Any]:
    boxes: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for split, found in zip(manifest["split"], manifest["boxes"], strict=True):
        boxes[split].update(box["class_name"] for box in found)
    teaching = boxes["train"]
    most, least = max(teaching.values(), default=0), min((teaching[name] for name in classes), default=0)
    return {
        "frames": {split: int((manifest["split"] == split).sum()) for split in SPLITS},
        "boxes": {split: sum(boxes[split].values()) for split in SPLITS},
        "boxes_by_class": {split: dict(sorted(boxes[split].items())) for split in SPLITS},
        "frames_by_slice": {
            split: {str(k): int(v) for k, v in manifest.loc[manifest["split"] == split, "slice"].value_counts().items()}
            for split in SPLITS
        },
        "train_class_imbalance": round(most / least, 1) if least else None,
    }
