"""How many blocks an experiment needs, before it begins.

Enters: the measure, the smallest effect of interest, how much blocks scatter, the challenger's share, and how often the
answer may be wrong. Leaves: a `Plan` with the number of blocks. Pure: nothing is read here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from its_platform.errors import BadInput
from its_platform.release.confidence_sequence import MOST_STAKED, bets_of_variance

MeasureName = Literal["boxes", "confidence", "latency_ms", "f1"]
# A block further away than this from what is expected of it counts as this far: one jam must not decide.
MOST_DEVIATIONS = 5.0
# Four weeks of fifty cameras; an experiment that needs more asks for something that is not worth finding.
MOST_BLOCKS = 2_000_000
# A training by the sensor waits for an experiment, so that none may last for ever.
USUAL_DAYS, MOST_DAYS = 28.0, 366.0


@dataclass(frozen=True, slots=True)
class Measure:
    """What is compared: a mean a frame, averaged over the frames of a block. is_paired: on the same pictures."""

    name: MeasureName
    said: str
    is_paired: bool = False


MEASURES: Mapping[MeasureName, Measure] = {
    measure.name: measure
    for measure in (
        Measure("boxes", "boxes a frame"),
        Measure("confidence", "mean confidence of the boxes"),
        Measure("latency_ms", "milliseconds in the front"),
        Measure("f1", "F1 against the truth, on the same pictures", is_paired=True),
    )
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided before the first block.

    effect: the smallest difference of interest, and deviation: the standard deviation of a block around what is
    expected of it, both in the measure's unit. baseline: what is expected of a camera before it was seen. percent: of
    the blocks, those that the challenger answers. blocks, days: at most so many, whatever comes in.
    """

    measure: MeasureName
    effect: float
    deviation: float
    baseline: float
    percent: float
    alpha: float
    power: float
    blocks: int
    days: float = USUAL_DAYS

    @property
    def share(self) -> float:
        return self.percent / 100

    @property
    def half_width(self) -> float:
        """How far from zero the value of a block can be (`values_of` in `blocks.py`)."""
        return half_width(self.measure, self.deviation, self.share)

    @property
    def spread(self) -> float:
        """Standard deviation of the values of blocks."""
        return spread(self.measure, self.deviation, self.share)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_experiment(
    measure: str,
    effect: float,
    deviation: float,
    baseline: float,
    percent: float,
    alpha: float,
    power: float,
    days: float = USUAL_DAYS,
) -> Plan:
    """A plan with the number of blocks that it needs. Raises `BadInput` for what cannot be planned."""
    name = measure_named(measure).name
    if not effect > 0 or not math.isfinite(effect):
        raise BadInput("The smallest effect of interest is more than 0.", f"In {MEASURES[name].said}.")
    if not deviation > 0 or not math.isfinite(deviation):
        raise BadInput("Blocks have to scatter by more than 0.", "Give --deviation, in the measure's unit.")
    if not 0 < percent < 100:
        raise BadInput("The challenger answers more than 0 and less than 100 per cent of the blocks.", "Give --share.")
    if not 0 < alpha < 0.5 or not 0.5 <= power < 1:
        raise BadInput("Alpha lies between 0 and 0.5, power between 0.5 and 1.", "0.05 and 0.8 are usual.")
    if not 0 < days <= MOST_DAYS:
        raise BadInput(f"An experiment lasts for more than 0 and at most {MOST_DAYS:g} days.", "28 are usual.")
    share = percent / 100
    blocks = blocks_needed(effect, spread(name, deviation, share), half_width(name, deviation, share), alpha, power)
    return Plan(name, effect, deviation, baseline, percent, alpha, power, blocks, days)


def measure_named(name: str) -> Measure:
    """The measure of this name. Raises `BadInput`."""
    for measure in MEASURES.values():
        if measure.name == name:
            return measure
    raise BadInput(f"There is no measure {name}.", f"The measures are {', '.join(MEASURES)}.")


def blocks_needed(effect: float, spread: float, half_width: float, alpha: float, power: float) -> int:
    """After how many blocks an effect of this size has been found with a probability of `power` at least.

    The values of blocks lie within `half_width` of zero, with mean `effect` and standard deviation `spread`. The
    confidence sequence gives a mean of zero up when the capital of its bets reaches 2 / alpha (the other half of the
    capital bets on the other side). With bets l and values x of scale 1 the logarithm of the capital after n values is
    about sum(l x - l² x² / 2): normal, with mean `effect` sum(l) - (spread² + effect²) sum(l²) / 2 and variance
    spread² sum(l²). The first n is taken at which the quantile of `power` is high enough. Raises `BadInput` where no
    reasonable number is.
    """
    scaled, deviation = effect / (2 * half_width), spread / (2 * half_width)
    enough = math.log(2 / alpha)
    unlucky = NormalDist().inv_cdf(power)
    length = 1024
    while length <= MOST_BLOCKS:
        bets = np.minimum(bets_of_variance(np.full(length, deviation**2), alpha), MOST_STAKED / 0.5)
        total, squares = np.cumsum(bets), np.cumsum(bets**2)
        capital = scaled * total - (deviation**2 + scaled**2) * squares / 2
        is_enough = capital - unlucky * deviation * np.sqrt(squares) >= enough
        if is_enough.any():
            return int(is_enough.argmax()) + 1
        length *= 4
    raise BadInput(
        f"More than {MOST_BLOCKS:,} blocks would be needed to find a difference of {effect:g}.",
        "Ask for a larger effect, a larger share, or less power.",
    )


def spread(measure: MeasureName, deviation: float, share: float) -> float:
    """Standard deviation of the values of blocks; see `values_of` in `blocks.py`."""
    return deviation if MEASURES[measure].is_paired else deviation / math.sqrt(share * (1 - share))


def half_width(measure: MeasureName, deviation: float, share: float) -> float:
    """How far from zero the value of a block can be."""
    return 1.0 if MEASURES[measure].is_paired else MOST_DEVIATIONS * deviation / min(share, 1 - share)
