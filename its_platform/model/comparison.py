"""Two detectors on the same frames: how much worse the one is than the other, and how sure that is.

Enters: true boxes of some frames, what either detector found in them, slices and blocks of the frames. Leaves: one
`Drop` a slice and class. Pure numpy. What a drop leads to does not belong here.

The bootstrap is paired (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993): in each round the same blocks
are drawn for both detectors, so that what makes a block hard makes it hard for both and cancels. Blocks rather than
frames, because neighbouring frames of a camera agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from its_platform.model.scoring import (
    ClassMatches,
    match_class,
    numbered_blocks,
    resampled_ap50,
    resampled_blocks,
)

ROUNDS = 400
LOW, HIGH = 5.0, 95.0


@dataclass(frozen=True, slots=True)
class Drop:
    """How much AP50 is lost from one detector to another on a slice.

    class_name None: mean over the classes that the slice's truth holds. `low` and `high` bound the middle 90 % of the
    drop over resampled blocks, so that the true drop is below `low` in one of twenty cases; both are None where the
    slice has a single block, of which nothing can be drawn.
    """

    slice: str
    class_name: str | None
    boxes: int
    blocks: int
    before: float
    after: float
    low: float | None
    high: float | None

    @property
    def value(self) -> float:
        return self.before - self.after


def paired_drops(
    truth: Sequence[npt.NDArray[Any]],
    before: Sequence[npt.NDArray[Any]],
    after: Sequence[npt.NDArray[Any]],
    classes: Sequence[str],
    slices: Mapping[str, npt.NDArray[np.bool_]],
    blocks: Sequence[object],
    by_class: str = "",
    rounds: int = ROUNDS,
    seed: int = 0,
) -> list[Drop]:
    """The drop of each slice, and of each class in the slice that `by_class` names.

    truth `[k, 5]`, before and after `[m, 6]` a frame; slices: name to bool `[frames]`; blocks: one value a frame.
    """
    block_of = numbered_blocks(blocks)
    pairs = [(match_class(truth, before, i), match_class(truth, after, i)) for i in range(len(classes))]
    drops = []
    for name, mask in slices.items():
        weights = resampled_blocks(block_of, mask, rounds, seed)
        count = len(np.unique(block_of[mask]))
        present = [(class_name, pair) for class_name, pair in zip(classes, pairs, strict=True) if _true(pair, mask)]
        drops.append(_drop(name, None, [pair for _, pair in present], mask, weights, count))
        if name == by_class:
            drops += [_drop(name, class_name, [pair], mask, weights, count) for class_name, pair in present]
    return drops


def _inside(match: ClassMatches, mask: npt.NDArray[np.bool_]) -> ClassMatches:
    """The found boxes of a slice's frames alone: no round draws any other, and they are looked at in each."""
    kept = mask[match.frame]
    return replace(match, confidence=match.confidence[kept], hit=match.hit[kept], frame=match.frame[kept])


def _true(pair: tuple[ClassMatches, ClassMatches], mask: npt.NDArray[np.bool_]) -> int:
    return int(pair[0].truth[mask].sum())


def _drop(
    name: str,
    class_name: str | None,
    pairs: Sequence[tuple[ClassMatches, ClassMatches]],
    mask: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.float64],
    blocks: int,
) -> Drop:
    first, second = [_inside(pair[0], mask) for pair in pairs], [_inside(pair[1], mask) for pair in pairs]
    once = mask.astype(np.float64)
    before, after = resampled_ap50(first, once), resampled_ap50(second, once)
    low = high = None
    if blocks > 1 and pairs:
        drawn = [resampled_ap50(first, weight) - resampled_ap50(second, weight) for weight in weights]
        low, high = (float(bound) for bound in np.percentile(drawn, [LOW, HIGH]))
    boxes = sum(_true(pair, mask) for pair in pairs)
    return Drop(name, class_name, boxes, blocks, before, after, low, high)
