"""How good boxes are, as numbers: matching, average precision, precision and recall, with an interval.

Enters: true boxes and found boxes of some frames, whoever found them. Leaves: one `SliceScore` a slice and class.
Pure numpy: no file, no store, no network is touched here.

A found box matches as in COCO: best confidence first, each takes the free true box of its class with the largest
IoU. Average precision is COCO's: the precision envelope read at 101 recalls (Lin et al., 2014).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IOU_LEVELS = np.arange(0.5, 0.96, 0.05)
RECALLS = np.linspace(0, 1, 101)
ANY_CLASS = "*"
DEFAULT_THRESHOLD = 0.25
BOOTSTRAP_ROUNDS = 200


@dataclass(frozen=True)
class SliceScore:
    """One slice's figures.

    `class_name` None: the mean over the classes that the slice's truth holds (precision and recall are pooled);
    `"*"`: classes ignored. `ap50_low` and `ap50_high` bound the middle 95 % of `ap50` over resampled blocks of frames.
    A slice without any true box has `boxes` 0 and zeros everywhere: it says nothing, and a gate must not judge it.
    """

    slice: str
    class_name: str | None
    boxes: int
    frames: int
    ap50: float
    ap50_95: float
    precision: float
    recall: float
    ap50_low: float
    ap50_high: float


@dataclass(frozen=True)
class Evaluation:
    """All slices of one detector on one dataset version."""

    slices: tuple[SliceScore, ...]
    classes: tuple[str, ...]
    thresholds: dict[str, float]
    dataset: str = ""
    digest: str = ""

    def score(self, name: str, class_name: str | None = None) -> SliceScore | None:
        """One slice's figures; None for a slice that has no frames."""
        for found in self.slices:
            if found.slice == name and found.class_name == class_name:
                return found
        return None

    def names(self) -> list[str]:
        """The slices there are, in the order of measuring."""
        return list(dict.fromkeys(s.slice for s in self.slices))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """Read what `as_dict` gave, through JSON or not."""
        slices = tuple(SliceScore(**s) for s in data["slices"])
        rest = {key: data.get(key, "") for key in ("dataset", "digest")}
        return cls(slices, tuple(data["classes"]), dict(data["thresholds"]), **rest)


@dataclass(frozen=True)
class ClassMatches:
    """The found boxes of one class over all frames, best confidence first.

    confidence `[d]`, hit bool `[d, 10]` for each IoU level, frame `[d]` index; truth `[f]` true boxes in each frame.
    """

    confidence: npt.NDArray[np.float32]
    hit: npt.NDArray[np.bool_]
    frame: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64]


def iou_matrix(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """IoU `[len(a), len(b)]` of boxes `[n, 4]` xyxy."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    shared = np.clip(high - low, 0, None).prod(2)
    area_a, area_b = ((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b))
    together = area_a[:, None] + area_b[None, :] - shared
    return np.divide(shared, together, out=np.zeros_like(together, dtype=np.float32), where=together > 0)


def match_class(
    truth: Sequence[npt.NDArray[Any]], detections: Sequence[npt.NDArray[Any]], class_id: int | None
) -> ClassMatches:
    """Match one class (None: whatever the class) over all frames.

    truth: `[k, 5]` a frame (x1, y1, x2, y2, class); detections: `[m, 6]` a frame (x1, y1, x2, y2, confidence, class).
    """
    confidences, hits, frames = [], [], []
    counts = np.zeros(len(truth), np.int64)
    for index, (true, found) in enumerate(zip(truth, detections, strict=True)):
        if class_id is not None:
            true, found = true[true[:, 4] == class_id], found[found[:, 5] == class_id]
        counts[index] = len(true)
        if not len(found):
            continue
        found = found[np.argsort(-found[:, 4], kind="stable")]
        confidences.append(found[:, 4].astype(np.float32))
        hits.append(_hits(iou_matrix(found[:, :4], true[:, :4])))
        frames.append(np.full(len(found), index, np.int64))
    if not confidences:
        return ClassMatches(
            np.zeros(0, np.float32), np.zeros((0, len(IOU_LEVELS)), bool), np.zeros(0, np.int64), counts
        )
    confidence = np.concatenate(confidences)
    order = np.argsort(-confidence, kind="stable")
    return ClassMatches(confidence[order], np.concatenate(hits)[order], np.concatenate(frames)[order], counts)


def _hits(iou: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    hit = np.zeros((len(iou), len(IOU_LEVELS)), bool)
    if not iou.shape[1]:
        return hit
    for level, least in enumerate(IOU_LEVELS):
        open_iou = iou.copy()
        for row in np.flatnonzero(iou.max(1) >= least):
            best = int(np.argmax(open_iou[row]))
            if open_iou[row, best] >= least:
                hit[row, level] = True
                open_iou[:, best] = -1
    return hit


def average_precision(hit: npt.NDArray[Any], truth: float, weight: npt.NDArray[Any] | None = None) -> float:
    """COCO's 101-point average precision of hits `[d]`, best confidence first, among `truth` true boxes.

    `weight` `[d]` counts a found box more than once (a resampled frame). Without true boxes it is 0.
    """
    if truth <= 0 or not len(hit):
        return 0.0
    weights = np.ones(len(hit)) if weight is None else weight
    hits, all_found = np.cumsum(hit * weights), np.cumsum(weights)
    precision = np.divide(hits, all_found, out=np.zeros(len(hits)), where=all_found > 0)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    # A recall is reached when it differs by rounding alone: 3 of 3 boxes is recall 1.
    at = np.searchsorted(hits / truth, RECALLS - 1e-9, side="left")
    return float(np.append(envelope, 0.0)[at].mean())


def score_detections(
    truth: Sequence[npt.NDArray[Any]],
    detections: Sequence[npt.NDArray[Any]],
    classes: Sequence[str],
    slices: Mapping[str, npt.NDArray[np.bool_]] | None = None,
    blocks: Sequence[object] | None = None,
    thresholds: Mapping[str, float] | None = None,
    rounds: int = BOOTSTRAP_ROUNDS,
    seed: int = 0,
) -> list[SliceScore]:
    """Score boxes by slice and class.

    `slices`: name to bool `[frames]` (default: `all`). `blocks`: what is resampled together, one value a frame
    (default: each frame is its own). A slice with one block has no interval: both bounds are its own value.
    """
    named = dict(slices or {"all": np.ones(len(truth), bool)})
    matches = [match_class(truth, detections, i) for i in range(len(classes))]
    anyhow = match_class(truth, detections, None)
    limits = [float((thresholds or {}).get(name, DEFAULT_THRESHOLD)) for name in classes]
    block_of = numbered_blocks(blocks if blocks is not None else range(len(truth)))
    scores: list[SliceScore] = []
    for name, mask in named.items():
        weights = resampled_blocks(block_of, mask, rounds, seed)
        scores.append(_mean_score(name, None, matches, limits, mask, weights))
        scores.append(_mean_score(name, ANY_CLASS, [anyhow], [min(limits, default=DEFAULT_THRESHOLD)], mask, weights))
        for class_name, match, limit in zip(classes, matches, limits, strict=True):
            if match.truth[mask].any():
                scores.append(_mean_score(name, class_name, [match], [limit], mask, weights))
    return scores


def best_thresholds(
    truth: Sequence[npt.NDArray[Any]],
    detections: Sequence[npt.NDArray[Any]],
    classes: Sequence[str],
    low: float = 0.1,
    high: float = 0.6,
) -> dict[str, float]:
    """By class, the confidence of the best F1 at IoU 0.5, within `low` and `high`; 0.25 where nothing matches."""
    chosen = {}
    for class_id, name in enumerate(classes):
        match = match_class(truth, detections, class_id)
        hits = np.cumsum(match.hit[:, 0])
        total = match.truth.sum()
        if not total or not len(hits) or not hits[-1]:
            chosen[name] = DEFAULT_THRESHOLD
            continue
        f1 = 2 * hits / (np.arange(1, len(hits) + 1) + total)
        chosen[name] = round(float(np.clip(match.confidence[int(np.argmax(f1))], low, high)), 3)
    return chosen


def numbered_blocks(blocks: Iterable[object]) -> npt.NDArray[np.int64]:
    """The blocks of frames `[frames]` as numbers from 0."""
    return np.unique(np.asarray(list(blocks), str), return_inverse=True)[1].astype(np.int64)


def resampled_blocks(
    block_of: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_], rounds: int, seed: int
) -> npt.NDArray[np.float64]:
    """How often each frame `[rounds, frames]` occurs when the slice's blocks are drawn anew."""
    inside = np.unique(block_of[mask])
    weights = np.zeros((rounds, len(mask)))
    if not len(inside):
        return weights
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(inside), (rounds, len(inside)))
    for row, blocks in enumerate(drawn):
        weights[row] = np.bincount(inside[blocks], minlength=int(block_of.max()) + 1)[block_of] * mask
    return weights


def _mean_score(
    name: str,
    class_name: str | None,
    matches: Sequence[ClassMatches],
    limits: Sequence[float],
    mask: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.float64],
) -> SliceScore:
    present = [(m, limit) for m, limit in zip(matches, limits, strict=True) if m.truth[mask].any()]
    boxes = int(sum(m.truth[mask].sum() for m, _ in present))
    inside = [(m.hit[mask[m.frame]], int(m.truth[mask].sum())) for m, _ in present]
    ap50 = _mean([average_precision(hit[:, 0], total) for hit, total in inside])
    levels = [_mean([average_precision(hit[:, i], total) for hit, total in inside]) for i in range(len(IOU_LEVELS))]
    found = hits = 0
    for match, limit in zip(matches, limits, strict=True):
        sure = mask[match.frame] & (match.confidence >= limit)
        found, hits = found + int(sure.sum()), hits + int(match.hit[sure, 0].sum())
    low = high = ap50
    if len(weights) and boxes:
        drawn = np.array([resampled_ap50([m for m, _ in present], weight) for weight in weights])
        low, high = (float(x) for x in np.percentile(drawn, [2.5, 97.5]))
    return SliceScore(
        slice=name,
        class_name=class_name,
        boxes=boxes,
        frames=int(mask.sum()),
        ap50=round(ap50, 5),
        ap50_95=round(_mean(levels), 5),
        precision=round(hits / found, 5) if found and boxes else 0.0,
        recall=round(hits / boxes, 5) if boxes else 0.0,
        ap50_low=round(low, 5),
        ap50_high=round(high, 5),
    )


def resampled_ap50(matches: Sequence[ClassMatches], weight: npt.NDArray[np.float64]) -> float:
    """The mean over classes of AP at IoU 0.5, each frame counted `weight` `[frames]` times."""
    totals = [float((m.truth * weight).sum()) for m in matches]
    drawn = [
        average_precision(m.hit[:, 0], total, weight[m.frame])
        for m, total in zip(matches, totals, strict=True)
        if total
    ]
    return _mean(drawn)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
