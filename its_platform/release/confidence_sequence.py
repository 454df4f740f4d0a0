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
# That of two values as far apart as they can be.
PRIOR_VARIANCE = 0.25
# No bet may stake more than this share of the capital; the rest of the formula keeps it positive.
MOST_STAKED = 0.9


def confidence_sequence(
    values: Sequence[float], alpha: float = 0.05, variance: float = PRIOR_VARIANCE, grid: int = GRID
) -> tuple[float, float]:
    """An interval for the mean of values in [0, 1], in the order in which they came, at this look and all before.

    variance: what is expected of the values before any came. A wrong guess makes the interval wider and never wrong.
    grid: how many means are looked at, which bounds how finely the ends are known.

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
    means = np.linspace(0, 1, grid)
    above, below = np.zeros(grid), np.zeros(grid)
    is_left = np.ones(grid, bool)
    bets = _bets(seen, alpha, variance)
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


def bets_of_variance(before: npt.NDArray[np.float64], alpha: float) -> npt.NDArray[np.float64]:
    """How much to stake on each value, given the variance that was expected before it; see `confidence_sequence`."""
    count = np.arange(1, len(before) + 1)
    return np.sqrt(2 * math.log(2 / alpha) / (before * count * np.log1p(count)))


def _bets(values: npt.NDArray[np.float64], alpha: float, prior: float) -> npt.NDArray[np.float64]:
    """How much to stake on each value, of what the ones before it tell alone (their predictable variance)."""
    count = np.arange(1, len(values) + 1)
    mean = (0.5 + np.cumsum(values)) / (count + 1)
    variance = (prior + np.cumsum((values - mean) ** 2)) / (count + 1)
    return bets_of_variance(np.concatenate([[prior], variance])[: len(values)], alpha)
