"""Whether a detector is as sure as it is right: the expected calibration error of its confidences.

Enters: true and found boxes of some frames. Leaves: a `Calibration`. Pure numpy.

Expected calibration error as in Guo et al., "On Calibration of Modern Neural Networks" (2017), with precision in the
place of accuracy, as Küppers et al., "Multivariate Confidence Calibration for Object Detection" (2020), define it for
detectors: boxes are sorted into bins of equal width by confidence; the error is the mean over bins, weighted by their
boxes, of the distance between the share of boxes that match a true box of their class (IoU 0.5) and the mean
confidence. A box that is missed has no confidence and does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from its_platform.model.scoring import DEFAULT_THRESHOLD, match_class

BINS = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """error: 0 to 1, 0 where nothing was found. boxes: found boxes that it stands on.

    overconfidence: mean confidence less the share of hits, positive where the detector promises too much.
    """

    error: float
    boxes: int
    overconfidence: float


def calibration(
    truth: Sequence[npt.NDArray[Any]],
    found: Sequence[npt.NDArray[Any]],
    classes: Sequence[str],
    thresholds: Mapping[str, float],
    bins: int = BINS,
) -> Calibration:
    """Of the boxes at or above their class's threshold, which are those that live systems see.

    truth `[k, 5]`, found `[m, 6]` a frame, class as in `classes`.
    """
    confidences, hits = [], []
    for class_id, name in enumerate(classes):
        match = match_class(truth, found, class_id)
        sure = match.confidence >= thresholds.get(name, DEFAULT_THRESHOLD)
        confidences.append(match.confidence[sure].astype(np.float64))
        hits.append(match.hit[sure, 0].astype(np.float64))
    confidence = np.concatenate(confidences) if confidences else np.zeros(0)
    hit = np.concatenate(hits) if hits else np.zeros(0)
    if not len(confidence):
        return Calibration(0.0, 0, 0.0)
    place = np.clip((confidence * bins).astype(int), 0, bins - 1)
    distance = np.bincount(place, weights=hit - confidence, minlength=bins)
    return Calibration(
        error=float(np.abs(distance).sum() / len(confidence)),
        boxes=len(confidence),
        overconfidence=float((confidence - hit).mean()),
    )
