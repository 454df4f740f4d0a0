"""Rows of the prediction log as what drift compares: columns of figures, cells of like conditions, blocks of time.

Enter: logged rows of the window and of the reference. Leave: one table of figures each, and a `Cell` for each camera
and light of the window with the reference rows it is to be held against. How far two samples are apart belongs in
`effects`, what is too far in `calibration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Differences of this size mean nothing, however steady the reference is: a fixed camera on a still day has figures
# that hardly move, and without this any cloud would be a drift. Units are those of the log.
RESOLUTION = {
    "n": 0.5,
    "mean_confidence": 0.02,
    "box_size": 0.01,
    "brightness": 0.015,
    "contrast": 0.006,
    "sharpness": 0.12,
    "noise": 0.4,
    "overexposed": 0.005,
    "underexposed": 0.01,
}
COUNT_RESOLUTION = 0.5
SHARE_RESOLUTION = 0.1
# A class in fewer of the reference's frames than this says nothing by being absent or present for a while.
RARE_CLASS_SHARE = 0.15
MINIMUM_CELL_ROWS = 8
MINIMUM_BLOCKS = 6
MINIMUM_BLOCK_ROWS = 3
# More rows than this in one cell add time, not knowledge: neighbours say the same.
MAXIMUM_CELL_ROWS = 300


@dataclass(frozen=True)
class Cell:
    """One stratum of the window and the reference it is compared with.

    window, reference: row numbers in the two tables. blocks: for each reference row the number of its block, counted
    from 0 in order of time. window_blocks: how many blocks of that length the window has. units: how many blocks of
    the full length the reference has; cutting them shorter gives more blocks but no more knowledge. seen: `matched`
    (the reference has this camera in this light), `thin` (too few rows of it: the camera's whole reference is used),
    `unseen` (none: likewise) or `new_camera` (the whole reference is used).
    """

    name: str
    seen: str
    window: Ints
    reference: Ints
    blocks: Ints
    window_blocks: int
    units: int


def figures(rows: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """One column a figure that is watched, one row a frame; NaN where a frame has none.

    `count_<class>` objects and `share_<class>` of the objects for each of `classes`; `count_rare` all other classes.
    `box_size` is the median of the boxes' sizes (square root of the share of the picture).
    """
    import pandas as pd

    found = pd.DataFrame(index=rows.index)
    found["n"] = rows["n"].astype(float)
    counts = list(rows["counts"])
    for name in classes:
        found[f"count_{name}"] = np.array([float(c.get(name, 0)) for c in counts])
    found["count_rare"] = np.array([float(sum(v for k, v in c.items() if k not in classes)) for c in counts])
    with np.errstate(invalid="ignore", divide="ignore"):
        for name in classes:
            share = found[f"count_{name}"] / found["n"].where(found["n"] > 0)
            found[f"share_{name}"] = share
    found["box_size"] = np.array([float(np.median(areas)) if len(areas) else np.nan for areas in rows["box_areas"]])
    for name in RESOLUTION:
        if name not in found:
            found[name] = rows[name].astype(float)
    found.loc[found["n"] == 0, "mean_confidence"] = np.nan
    return found.replace([np.inf, -np.inf], np.nan)


def common_classes(reference: pd.DataFrame) -> list[str]:
    """Classes that stand in enough of the reference's frames to be watched one by one."""
    counts = list(reference["counts"])
    present: dict[str, int] = {}
    for row in counts:
        for name, n in row.items():
            present[name] = present.get(name, 0) + (n > 0)
    return sorted(name for name, frames in present.items() if frames >= RARE_CLASS_SHARE * len(counts))


def resolution(column: str) -> float:
    """The difference below which two values of this column count as the same."""
    if column.startswith("count_"):
        return COUNT_RESOLUTION
    return SHARE_RESOLUTION if column.startswith("share_") else RESOLUTION[column]


def cells(window: pd.DataFrame, reference: pd.DataFrame, block_s: float) -> list[Cell]:
    """A cell for each camera and light in the window, in order of name."""
    keys = ["camera_id", "light"]
    window, reference = window.reset_index(drop=True), reference.reset_index(drop=True)
    seconds = _seconds(reference)
    window_seconds = _seconds(window)
    found = []
    for (camera, light), group in window.groupby(keys, sort=True):
        same_camera = reference["camera_id"] == camera
        matched = np.flatnonzero(same_camera & (reference["light"] == light))
        if len(matched) >= MINIMUM_CELL_ROWS:
            seen, rows = "matched", matched
        elif same_camera.any():
            seen, rows = ("thin" if len(matched) else "unseen"), np.flatnonzero(same_camera)
        else:
            seen, rows = "new_camera", np.arange(len(reference))
        rows = _thinned(rows[np.argsort(seconds[rows], kind="stable")])
        live = _thinned(group.index.to_numpy())
        length = _block_length(seconds[rows], block_s)
        blocks = _blocks(seconds[rows], length)
        spanned = int(_blocks(np.sort(window_seconds[live]), length).max()) + 1
        units = int(_blocks(seconds[rows], block_s).max()) + 1
        found.append(Cell(f"camera={camera} light={light}", seen, live, rows, blocks, spanned, units))
    return found


def unseen(found: Sequence[Cell]) -> list[str]:
    """Names of the strata that the reference has never seen."""
    return [cell.name for cell in found if cell.seen in {"unseen", "new_camera"}]


def embeddings(rows: pd.DataFrame) -> npt.NDArray[np.float32] | None:
    """Embeddings of the rows `[n, D]`, NaN in a row that has none (the front does not embed every picture).

    None where no row has one.
    """
    vectors: list[Any] = list(rows["embedding"])
    sizes = {len(vector) for vector in vectors if vector is not None and len(vector)}
    if len(sizes) != 1:
        return None
    found = np.full((len(vectors), sizes.pop()), np.nan, np.float32)
    for number, vector in enumerate(vectors):
        if vector is not None and len(vector):
            found[number] = vector
    return found


def _seconds(rows: pd.DataFrame) -> Floats:
    return np.array([moment.timestamp() for moment in rows["at"]], float)


def _thinned(rows: Ints) -> Ints:
    if len(rows) <= MAXIMUM_CELL_ROWS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MAXIMUM_CELL_ROWS).astype(int)]


def _block_length(seconds: Floats, block_s: float) -> float:
    """The longest block up to `block_s` that still leaves `MINIMUM_BLOCKS`, and `MINIMUM_BLOCK_ROWS` rows in each."""
    length = block_s
    while length > 1e-3:
        count = int(_blocks(seconds, length).max()) + 1
        if count >= MINIMUM_BLOCKS:
            return length
        shorter = length * 0.8
        if len(seconds) / (int(_blocks(seconds, shorter).max()) + 1) < MINIMUM_BLOCK_ROWS:
            return length
        length = shorter
    return length


def _blocks(seconds: Floats, length: float) -> Ints:
    """Block numbers of sorted times: a new block after `length` seconds, or after a gap that long."""
    numbers = np.zeros(len(seconds), int)
    start, number = seconds[0], 0
    for i in range(1, len(seconds)):
        if seconds[i] - start >= length or seconds[i] - seconds[i - 1] >= length:
            number += 1
            start = seconds[i]
        numbers[i] = number
    return numbers
