"""Confidence sequences: intervals that hold at every look, however often somebody looks and whenever he stops.

A canary is looked at again with each block that comes in. An interval that is right at one look only would find a
difference in time where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

GRID = 401
# No bet may stake more than this share of the capital; the rest of the formula keeps it positive.
MOST_STAKED = 0.9


def confidence_sequence(values: Sequence[float], alpha: float = 0.05) -> tuple[float, float]:
    """An interval for the mean of values in [0, 1], in the order in which they came, at this look and all before.

    The hedged capital process of Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting"
    (2024): for each mean on a grid one bets that the values lie above it and that they lie below; a mean at which the
    capital has ever reached 1 / alpha is given up. The probability that the true mean is ever outside is at most
    alpha. No values: (0, 1).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
    seen = np.asarray(values, np.float64)
    if seen.size and (not np.isfinite(seen).all() or seen.min() < 0 or seen.max() > 1):
        raise ValueError("the values must lie between 0 and 1")
    means = np.linspace(0, 1, GRID)
    above, below = np.zeros(GRID), np.zeros(GRID)
    is_left = np.ones(GRID, bool)
    bets = _bets(seen, alpha)
    # Zero and one are given up only by the values, never by rounding.
    with np.errstate(divide="ignore"):
        most_above, most_below = MOST_STAKED / means, MOST_STAKED / (1 - means)
    for value, bet in zip(seen, bets, strict=True):
        above += np.log1p(np.minimum(bet, most_above) * (value - means))
        below += np.log1p(-np.minimum(bet, most_below) * (value - means))
        is_left &= np.logaddexp(above, below) - math.log(2) < math.log(1 / alpha)
    if not is_left.any():
        # Values that contradict each other at every mean: as wide as it can be is all that can be said.
        return 0.0, 1.0
    kept = means[is_left]
    return float(kept.min()), float(kept.max())


def _bets(values: npt.NDArray[np.float64], alpha: float) -> npt.NDArray[np.float64]:
    """How much to stake on each value, of what the ones before it tell alone (their predictable variance)."""
    count = np.arange(1, len(values) + 1)
    mean = (0.5 + np.cumsum(values)) / (count + 1)
    variance = (0.25 + np.cumsum((values - mean) ** 2)) / (count + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    return np.sqrt(2 * math.log(2 / alpha) / (before * count * np.log1p(count)))
