"""What a detector found on the golden frames, and the figures that gates read from it.

Enters: `GoldenAnswers`, made once a detector by running it over the golden frames of a dataset version. Leaves: scores
of the parts that have a floor, scores by class, calibration, and drops against another detector's answers on the same
frames. Pure; what is measured how is `model`'s business, what it has to reach that of `gates`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from its_platform.model.comparison import Drop, paired_drops
from its_platform.model.confidence import Calibration, calibration
from its_platform.model.scoring import ANY_CLASS, SliceScore, score_detections
from its_platform.release.gates import GOLDEN

WORLDS = ("simulated", "real")
# These intervals are shown beside a verdict and decide nothing, so rough ones will do.
SHOWN_ROUNDS = 50


@dataclass(frozen=True)
class GoldenAnswers:
    """The frames of a golden set with what is true and what was found in them.

    truth `[k, 5]` and found `[m, 6]` a frame, class as in `classes`; slices: `golden`, `golden/light=day`... to bool
    `[frames]`; blocks: what is resampled together; is_simulated bool `[frames]`: whose camera is no real one.
    """

    classes: tuple[str, ...]
    truth: tuple[npt.NDArray[Any], ...]
    found: tuple[npt.NDArray[Any], ...]
    slices: Mapping[str, npt.NDArray[np.bool_]]
    blocks: tuple[str, ...]
    is_simulated: npt.NDArray[np.bool_]

    def over(self, classes: Sequence[str]) -> GoldenAnswers:
        """The same over some of the classes; boxes of the others are neither true nor found."""
        place = {self.classes.index(name): i for i, name in enumerate(classes)}
        return replace(
            self,
            classes=tuple(classes),
            truth=tuple(_renamed(boxes, 4, place) for boxes in self.truth),
            found=tuple(_renamed(boxes, 5, place) for boxes in self.found),
        )


def floor_parts(answers: GoldenAnswers, own_floors: Collection[str]) -> dict[str, SliceScore]:
    """Scores with classes ignored of the parts that have a floor each, as `gates.accuracy_floors` takes them.

    own_floors: slices (`light=night`) that are held to a floor of their own, and are not part of their world then.
    """
    golden = answers.slices.get(GOLDEN)
    if golden is None or not golden.any():
        return {}
    masks, left = {}, golden.copy()
    for name in own_floors:
        mask = answers.slices.get(f"{GOLDEN}/{name}", np.zeros_like(left)) & left
        masks[f"{GOLDEN}/{name}"], left = mask, left & ~mask
    for world, of_world in zip(WORLDS, (answers.is_simulated, ~answers.is_simulated), strict=True):
        masks[f"{GOLDEN}/world={world}"] = left & of_world
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    found = score_detections(answers.truth, answers.found, answers.classes, masks, answers.blocks, rounds=SHOWN_ROUNDS)
    parts = [score for score in found if score.class_name == ANY_CLASS]
    return {GOLDEN if len(masks) == 1 else score.slice: score for score in parts}


def class_scores(answers: GoldenAnswers) -> list[SliceScore]:
    """The score of each class that the golden frames hold."""
    whole = {name: mask for name, mask in answers.slices.items() if name == GOLDEN}
    if not whole:
        return []
    found = score_detections(answers.truth, answers.found, answers.classes, whole, answers.blocks, rounds=SHOWN_ROUNDS)
    return [score for score in found if score.class_name not in (None, ANY_CLASS)]


def calibration_of(answers: GoldenAnswers, thresholds: Mapping[str, float]) -> Calibration:
    """How far confidences are from the share of hits, of the boxes that live systems see."""
    return calibration(answers.truth, answers.found, answers.classes, thresholds)


def drops_between(served: GoldenAnswers, candidate: GoldenAnswers) -> list[Drop]:
    """How much worse the candidate is, by slice and over the whole golden set by class; both on the same frames.

    Both are held to what both can know: a class that only one of them has is no regression and no gain.
    """
    shared = [name for name in candidate.classes if name in served.classes]
    ours, theirs = candidate.over(shared), served.over(shared)
    return paired_drops(ours.truth, theirs.found, ours.found, shared, ours.slices, ours.blocks, by_class=GOLDEN)


def _renamed(boxes: npt.NDArray[Any], column: int, place: Mapping[int, int]) -> npt.NDArray[Any]:
    kept = boxes[np.isin(boxes[:, column].astype(int), list(place))].copy()
    kept[:, column] = [place[int(one)] for one in kept[:, column]]
    return kept
