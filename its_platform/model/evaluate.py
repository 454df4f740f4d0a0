"""An exported detector judged on the held-out part of a dataset version, slice by slice.

Enters: an exported detector, of any format, and a version's manifest. Leaves: an `Evaluation`. The judged part is
`test` and `golden` together (`all` and its slices); the slices `golden` and `golden/...` are the golden frames alone,
and it is those that gates read. Training and validation frames never judge: the first taught, the second chose the
thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from its_platform.errors import BadInput
from its_platform.model.exported import MAX_BATCH, open_detector, read_detector
from its_platform.model.letterbox import Fit, letterbox, to_picture
from its_platform.model.scoring import (
    BOOTSTRAP_ROUNDS,
    Evaluation,
    SliceScore,
    best_thresholds,
    score_detections,
)
from its_platform.telemetry import Progress, no_progress

if TYPE_CHECKING:
    from pandas import DataFrame

    from its_platform.stores import Stores

__all__ = [
    "JUDGED_SPLITS",
    "Evaluation",
    "SliceScore",
    "best_thresholds",
    "detect_frames",
    "evaluate_onnx",
    "evaluate_version",
    "slice_masks",
    "truth_of",
]

JUDGED_SPLITS = ("test", "golden")
SLICE_COLUMNS = {"camera_id": "camera", "light": "light", "weather": "weather"}
BLOCK_S = 10.0  # frames of one camera this close in time are resampled together

Load = Callable[[str], npt.NDArray[np.uint8]]


def evaluate_onnx(
    stores: Stores,
    onnx: Path,
    manifest: DataFrame,
    classes: Sequence[str],
    thresholds: Mapping[str, float] | None = None,
    splits: Sequence[str] = JUDGED_SPLITS,
    dataset: str = "",
    progress: Progress = no_progress,
    rounds: int = BOOTSTRAP_ROUNDS,
    load: Load | None = None,
) -> Evaluation:
    """Run the detector over the judged frames and score it over `classes`.

    Classes are matched by name: what the detector calls by a name that is not in `classes` is left out, and a class
    that it does not know scores 0. `load` reads a picture by its object key (default: from the stores).
    """
    judged = manifest[manifest["split"].isin(list(splits))].reset_index(drop=True)
    about = read_detector(onnx)
    found = detect_frames(stores, onnx, judged, classes, progress, load)
    limits = {name: float((thresholds or {}).get(name, 0.25)) for name in classes}
    scores = score_detections(
        truth_of(judged, classes), found, classes, slice_masks(judged), block_names(judged), limits, rounds
    )
    scores += [_renamed(s) for s in scores if s.slice == "all" and s.class_name in classes]
    return Evaluation(tuple(scores), tuple(classes), limits, dataset, about.digest)


def evaluate_version(stores: Stores, version: int, dataset: str, progress: Progress = no_progress) -> Evaluation:
    """Judge a registered version on the held-out frames of any dataset version, over that dataset's classes."""
    from its_platform.dataset import load_manifest
    from its_platform.dataset import version as dataset_version
    from its_platform.model.registered import exported_file
    from its_platform.stores.registry import MODEL_NAME

    known = stores.registry.get(MODEL_NAME, version)
    classes = dataset_version(stores, dataset).classes
    exported, manifest = exported_file(stores, version), load_manifest(stores, dataset)
    return evaluate_onnx(stores, exported, manifest, classes, known.thresholds, dataset=dataset, progress=progress)


def detect_frames(
    stores: Stores | None,
    onnx: Path,
    frames: DataFrame,
    classes: Sequence[str],
    progress: Progress = no_progress,
    load: Load | None = None,
) -> list[npt.NDArray[np.float32]]:
    """What the detector finds in each row of a manifest: `[k, 6]` in pixels of the picture, class as in `classes`."""
    if load is None:
        load = _loader(stores)
    detector = open_detector(onnx)
    about = detector.about
    place = {i: list(classes).index(name) for i, name in enumerate(about.classes) if name in classes}
    found: list[npt.NDArray[np.float32]] = []
    for keys in _chunks(list(frames["object_key"])):
        pictures = [load(key) for key in keys]
        squares, fits = zip(*(letterbox(picture, about.image_size) for picture in pictures), strict=True)
        rows = detector.detect(np.stack(squares))
        for answer, fit, picture in zip(rows, fits, pictures, strict=True):
            found.append(_in_picture(answer, fit, picture.shape[:2], place))
        progress("evaluate", len(found), len(frames))
    return found


def truth_of(frames: DataFrame, classes: Sequence[str]) -> list[npt.NDArray[np.float32]]:
    """The true boxes of each row of a manifest: `[k, 5]` x1, y1, x2, y2, class as in `classes`; others left out."""
    index = {name: i for i, name in enumerate(classes)}
    return [
        np.array(
            [[b["x1"], b["y1"], b["x2"], b["y2"], index[b["class_name"]]] for b in boxes if b["class_name"] in index],
            np.float32,
        ).reshape(-1, 5)
        for boxes in frames["boxes"]
    ]


def slice_masks(frames: DataFrame) -> dict[str, npt.NDArray[np.bool_]]:
    """The frames of each slice: `all`, by camera, light and weather; the same of the golden frames as `golden/...`."""
    masks = {"all": np.ones(len(frames), bool)}
    masks |= {f"{name}={value}": mask for name, value, mask in _by_column(frames)}
    golden = (frames["split"] == "golden").to_numpy(bool)
    if golden.any():
        masks["golden"] = golden
        for name, value, mask in _by_column(frames):
            if (mask & golden).any():
                masks[f"golden/{name}={value}"] = mask & golden
    return masks


def block_names(frames: DataFrame) -> list[str]:
    """The block of each frame: its camera and ten seconds of capture time, or the frame itself."""
    import pandas

    names: list[str] = []
    for camera, captured_at in zip(frames["camera_id"], frames["captured_at"], strict=True):
        # Where no time is known each frame stands for itself: the interval is then too narrow, never absent.
        span = len(names) if pandas.isna(captured_at) else int(pandas.Timestamp(captured_at).timestamp() // BLOCK_S)
        names.append(f"{camera}/{span}")
    return names


def _by_column(frames: DataFrame) -> Iterator[tuple[str, str, npt.NDArray[np.bool_]]]:
    for column, name in SLICE_COLUMNS.items():
        if column in frames:
            for value in sorted(frames[column].dropna().astype(str).unique()):
                yield name, value, (frames[column].astype(str) == value).to_numpy(bool)


def _in_picture(
    rows: npt.NDArray[np.float32], fit: Fit, shape: tuple[int, ...], place: Mapping[int, int]
) -> npt.NDArray[np.float32]:
    rows = rows[(rows[:, 4] > 0) & np.isin(rows[:, 5].astype(int), list(place))]
    boxes = to_picture(rows[:, :4], fit, shape[0], shape[1])
    named = np.array([place[int(c)] for c in rows[:, 5]], np.float32)
    return np.concatenate([boxes, rows[:, 4:5], named[:, None]], axis=1)


def _renamed(score: SliceScore) -> SliceScore:
    from dataclasses import replace

    return replace(score, slice=f"class={score.class_name}", class_name=None)


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(keys), MAX_BATCH):
        yield keys[at : at + MAX_BATCH]


def _loader(stores: Stores | None) -> Load:
    from its_platform.frames import load_image

    if stores is None:
        raise BadInput("Pictures can only be read by key with stores or a loader.", "Hand in one of the two.")
    kept: Any = stores
    return lambda key: load_image(kept, key)
