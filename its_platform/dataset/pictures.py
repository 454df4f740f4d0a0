"""Pictures of a dataset version for people: its balance, and some of its frames with their boxes. PNG bytes leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from its_platform.charts import png_of
from its_platform.dataset.splits import SPLITS
from its_platform.dataset.versions import load_manifest, version
from its_platform.stores import Stores

if TYPE_CHECKING:
    import pandas as pd

COLOURS = {"train": "#2f6fb3", "val": "#e0a030", "test": "#4d9d5b", "golden": "#b5443c"}


def summary(stores: Stores, name: str) -> bytes:
    """PNG of three charts: boxes by class, frames by condition and frames by camera, each by split."""
    return draw_summary(load_manifest(stores, name), version(stores, name).classes, f"Dataset {name}")


def draw_summary(manifest: pd.DataFrame, classes: tuple[str, ...], title: str) -> bytes:
    from matplotlib.figure import Figure

    boxes: dict[str, dict[str, int]] = {split: dict.fromkeys(classes, 0) for split in SPLITS}
    for split, found in zip(manifest["split"], manifest["boxes"], strict=True):
        for box in found:
            boxes[split][box["class_name"]] += 1
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    axes = figure.subplots(1, 3)
    _bars(axes[0], list(classes), boxes, "boxes by class")
    for axis, column, what in ((axes[1], "slice", "condition"), (axes[2], "camera_id", "camera")):
        names = sorted(manifest[column].unique())
        counted: dict[str, dict[str, int]] = {
            split: manifest.loc[manifest["split"] == split, column].value_counts().to_dict() for split in SPLITS
        }
        _bars(axis, names, counted, f"frames by {what}")
    axes[0].legend(frameon=False)
    figure.suptitle(title)
    return png_of(figure)


def _bars(axis: Any, names: list[str], counted: dict[str, dict[str, int]], title: str) -> None:
    """Stacked bars, each with its total written at its end."""
    below = [0] * len(names)
    for split in SPLITS:
        values = [int(counted[split].get(name, 0)) for name in names]
        axis.barh(names, values, left=below, color=COLOURS[split], label=split)
        below = [low + value for low, value in zip(below, values, strict=True)]
    for row, total in enumerate(below):
        axis.text(total, row, f" {total}", va="center", fontsize=9)
    axis.set_title(title)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.spines[["top", "right"]].set_visible(False)


def sample_sheet(stores: Stores, name: str, count: int = 12) -> bytes:
    """PNG sheet of frames with their boxes, drawn in turns from splits and conditions."""
    from its_platform.frames import load_image
    from its_platform.frames.pictures import contact_sheet

    manifest = load_manifest(stores, name).sort_values("frame_hash")
    manifest["turn"] = manifest.groupby(["slice", "split"]).cumcount()
    chosen = manifest.sort_values(["turn", "slice", "split"]).head(count)
    cells = []
    for row in chosen.to_dict("records"):
        boxes = [(box["x1"], box["y1"], box["x2"], box["y2"], box["class_name"]) for box in row["boxes"]]
        caption = f"{row['camera_id']} {row['slice']} {row['split']}"
        cells.append((load_image(stores, row["object_key"]), caption, boxes))
    return contact_sheet(cells)
