"""Pictures of a training for people: curves, confusion, precision over recall, predictions beside the truth.

Enters: figures, or an exported detector and frames. Leaves: PNG bytes, kept in the run's artefacts. No figure is
computed for a gate here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from its_platform.charts import png_of
from its_platform.model.evaluate import JUDGED_SPLITS, detect_frames, truth_of
from its_platform.model.scoring import Evaluation, iou_matrix, match_class
from its_platform.model.trainer import EpochFigures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from its_platform.model.train import Candidate
    from its_platform.stores import Stores

SAMPLES = 8
MOST_FRAMES = 120


def curves(stores: Stores, candidate: Candidate) -> bytes:
    """The training curves of a candidate, PNG."""
    return _kept(stores, candidate, "curves.png")


def sample_predictions(stores: Stores, candidate: Candidate) -> bytes:
    """Judged frames with what the candidate found and what is true, PNG."""
    return _kept(stores, candidate, "predictions.png")


def draw_judged(stores: Stores, folder: Path, onnx: Path, manifest: DataFrame, evaluation: Evaluation) -> None:
    """Write confusion.png, precision_recall.png, predictions.png and slices.png into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    judged = manifest[manifest["split"].isin(list(JUDGED_SPLITS))]
    shown = judged.iloc[_spread(len(judged), MOST_FRAMES)].reset_index(drop=True)
    classes = list(evaluation.classes)
    truth, found = truth_of(shown, classes), detect_frames(stores, onnx, shown, classes)
    limits = [evaluation.thresholds[name] for name in classes]
    (folder / "confusion.png").write_bytes(confusion_picture(confusion(truth, found, limits), classes))
    (folder / "precision_recall.png").write_bytes(precision_recall_picture(truth, found, classes))
    (folder / "predictions.png").write_bytes(_predictions(stores, shown, truth, found, classes, limits))
    (folder / "slices.png").write_bytes(slices_picture(evaluation))


def confusion(
    truth: Sequence[npt.NDArray[Any]], found: Sequence[npt.NDArray[Any]], limits: Sequence[float], iou: float = 0.5
) -> npt.NDArray[np.int64]:
    """Counts `[classes + 1, classes + 1]`: row what is true, column what was found; the last is "nothing".

    A box is matched whatever its class, best confidence first, among boxes at or above its class's limit.
    """
    nothing = len(limits)
    counts = np.zeros((nothing + 1, nothing + 1), np.int64)
    for true, rows in zip(truth, found, strict=True):
        sure = rows[rows[:, 4] >= np.array([limits[int(c)] for c in rows[:, 5]])] if len(rows) else rows
        sure = sure[np.argsort(-sure[:, 4], kind="stable")]
        overlap = iou_matrix(sure[:, :4], true[:, :4])
        is_free = np.ones(len(true), bool)
        for row in range(len(sure)):
            open_overlap = np.where(is_free, overlap[row], 0.0)
            best = int(np.argmax(open_overlap)) if len(true) else -1
            if best >= 0 and open_overlap[best] >= iou:
                is_free[best] = False
                counts[int(true[best, 4]), int(sure[row, 5])] += 1
            else:
                counts[nothing, int(sure[row, 5])] += 1
        for missed in true[is_free]:
            counts[int(missed[4]), nothing] += 1
    return counts


def curves_picture(epochs: Sequence[EpochFigures]) -> bytes:
    """Losses on the left, validation figures on the right, over epochs."""
    figure, (left, right) = _figure(2)
    at = [e.epoch for e in epochs]
    for name in sorted({n for e in epochs for n in e.values}):
        series = [e.values.get(name, float("nan")) for e in epochs]
        if "loss" in name:
            left.plot(at, series, marker="o", markersize=3, label=name)
        elif name.startswith("metrics/"):
            right.plot(at, series, marker="o", markersize=3, label=name.removeprefix("metrics/"))
    left.set_title("losses")
    right.set_title("validation")
    right.set_ylim(0, 1)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=7)
    return png_of(figure)


def confusion_picture(counts: npt.NDArray[np.int64], classes: Sequence[str]) -> bytes:
    """The confusion counts; shades are shares of each true class."""
    figure, (axes,) = _figure(1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [*classes, "nothing"]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("found")
    axes.set_ylabel("true")
    for row, column in np.ndindex(*counts.shape):
        if counts[row, column]:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=7, color=colour)
    return png_of(figure)


def precision_recall_picture(
    truth: Sequence[npt.NDArray[Any]], found: Sequence[npt.NDArray[Any]], classes: Sequence[str]
) -> bytes:
    """Precision over recall at IoU 0.5, a line for each class that the truth holds."""
    figure, (axes,) = _figure(1)
    for class_id, name in enumerate(classes):
        match = match_class(truth, found, class_id)
        total = match.truth.sum()
        if total and len(match.confidence):
            hits = np.cumsum(match.hit[:, 0])
            axes.plot(hits / total, hits / np.arange(1, len(hits) + 1), label=name)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="IoU 0.5")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=7)
    return png_of(figure)


def slices_picture(evaluation: Evaluation) -> bytes:
    """mAP50 of each slice that holds a true box, with its interval."""
    figure, (axes,) = _figure(1)
    shown = [s for s in evaluation.slices if s.class_name is None and s.boxes]
    for place, score in enumerate(reversed(shown)):
        axes.barh(place, score.ap50, color="#9ecae1")
        axes.plot([score.ap50_low, score.ap50_high], [place, place], color="#08519c")
    axes.set_yticks(range(len(shown)), [s.slice for s in reversed(shown)], fontsize=min(8.0, 200 / max(1, len(shown))))
    axes.set(xlim=(0, 1), title="mAP50, and the middle 95 % over blocks of frames")
    axes.grid(alpha=0.3, axis="x")
    return png_of(figure)


def _predictions(
    stores: Stores,
    frames: DataFrame,
    truth: Sequence[npt.NDArray[Any]],
    found: Sequence[npt.NDArray[Any]],
    classes: Sequence[str],
    limits: Sequence[float],
) -> bytes:
    from its_platform.frames import load_image
    from its_platform.frames.pictures import contact_sheet

    cells: list[Any] = []
    for index in _spread(len(frames), SAMPLES):
        row = frames.iloc[index]
        image = load_image(stores, row["object_key"])
        sure = [r for r in found[index] if r[4] >= limits[int(r[5])]]
        guessed = [(*map(float, r[:4]), f"{classes[int(r[5])]} {r[4]:.2f}") for r in sure]
        actual = [(*map(float, t[:4]), classes[int(t[4])]) for t in truth[index]]
        where = f"{row['camera_id']} {row.get('light', '')}"
        cells += [(image, f"found: {where}", guessed), (image, f"true: {where}", actual)]
    return contact_sheet(cells, columns=4)


def _kept(stores: Stores, candidate: Candidate, name: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = stores.registry.client().download_artifacts(candidate.run_id, f"pictures/{name}", folder)
        return Path(path).read_bytes()


def _spread(length: int, most: int) -> list[int]:
    """At most `most` indices, evenly over `length`."""
    return sorted({round(i) for i in np.linspace(0, length - 1, min(most, length))}) if length else []


def _figure(columns: int) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * columns, 4), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(1, columns))
