"""How far a window is from its reference: effect sizes, for the real window and for many pretended ones at once.

Enter: values of one cell and who of them plays which side. Leave: one figure a column. A cell's window is expressed as
a curve over the reference's quantiles (which share of the window lies below the reference's 5 % point, 10 % point, and
so on), so that cells can be pooled whatever their levels are; PSI or the Wasserstein distance is taken on the pooled
curve. Embeddings are compared by the energy coefficient. What is too far belongs in `calibration`.

The pretended windows are columns of 0/1 matrices: `as_reference` `[n, B]` says which reference rows play the
reference in each of B splits, `as_window` which of them play the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Method = Literal["psi", "wasserstein"]

# Levels of the reference's distribution at which a window is read: 5 %, 10 %, ... 95 %.
LEVELS = np.arange(1, 20) / 20
FIFTHS = (3, 7, 11, 15)
# Added to each fifth's share: an empty fifth of a small window is not infinitely surprising.
SMOOTHING = 0.01
# Kernels reach this many widths beyond the outermost value; the grid has this many points a width, within limits.
REACH, POINTS_A_WIDTH, FEWEST_POINTS, MOST_POINTS = 4.0, 2.0, 48, 400
TINY = 1e-12


@dataclass(frozen=True)
class Split:
    """B ways in which some rows play the reference and others the window; matrices `[rows, B]` of 0 and 1."""

    as_reference: Floats
    as_window: Floats


def curve(reference: Floats, as_reference: Floats, values: Floats, as_window: Floats, resolution: float) -> Floats:
    """Share of the window below the reference's quantile at each of `LEVELS`; `[len(LEVELS), B]`.

    reference `[n]` with `as_reference` `[n, B]`, values `[m]` with `as_window` `[m, B]`. Both distributions are
    smoothed with a normal kernel of the width `resolution`, so that a difference below it hardly shows and counts need
    no rule for ties. NaN is no value; a split in which a side has no value gives NaN.
    """
    known = reference[np.isfinite(reference)]
    if known.size == 0:
        return np.full((len(LEVELS), as_reference.shape[1]), np.nan)
    low, high = known.min() - REACH * resolution, known.max() + REACH * resolution
    points = int(np.clip((high - low) / resolution * POINTS_A_WIDTH, FEWEST_POINTS, MOST_POINTS))
    grid = np.linspace(low, high, points)
    kernel = _kernel(grid, reference, resolution)
    below_reference = _smooth_cdf(kernel, reference, as_reference)
    # Pretended windows are made of the reference's own rows: the costly part is the same.
    others = kernel if values is reference else _kernel(grid, values, resolution)
    below_window = _smooth_cdf(others, values, as_window)
    splits = np.arange(as_reference.shape[1])
    found = np.empty((len(LEVELS), len(splits)))
    for number, level in enumerate(LEVELS):
        right = np.clip((below_reference < level).sum(axis=0), 1, points - 1)
        left = right - 1
        a, b = below_reference[left, splits], below_reference[right, splits]
        part = np.minimum((level - a) / np.maximum(b - a, TINY), 1.0)
        found[number] = below_window[left, splits] * (1 - part) + below_window[right, splits] * part
    found[:, ~np.isfinite(below_reference).all(axis=0)] = np.nan
    return found


def pooled(curves: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Mean of the cells' curves, weighted by the window's rows in each; cells without values are left out."""
    total, weight = np.zeros_like(curves[0]), np.zeros(curves[0].shape[1])
    for shares, share in zip(curves, weights, strict=True):
        there = np.isfinite(shares).all(axis=0)
        total += np.where(there, shares, 0.0) * share
        weight += there * share
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / weight


def distance(window: Floats, method: Method) -> Floats:
    """Effect size of pooled curves `[len(LEVELS), B]`; `[B]`.

    psi: population stability index over fifths of the reference, smoothed, 0 to about 9.
    wasserstein: mean distance between the curve and the reference's own, in shares of the reference, 0 to 0.5.
    """
    if method == "wasserstein":
        return np.asarray(np.abs(window - LEVELS[:, None]).mean(axis=0))
    ends = np.zeros((1, window.shape[1]))
    shares = np.diff(np.concatenate([ends, window[list(FIFTHS)], ends + 1.0]), axis=0)
    p, q = _smoothed(np.full_like(shares, 1 / len(shares))), _smoothed(shares)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=0))


def energy_parts(distances: Floats, split: Split) -> tuple[Floats, Floats]:
    """Numerator and denominator of the energy coefficient of each split; `[B]` each.

    distances: `[n, n]` Euclidean, zero diagonal. The coefficient is (2 E|X-Y| - E|X-X'| - E|Y-Y'|) / (2 E|X-Y|)
    (Székely and Rizzo, 2013), with unbiased means, so that it does not grow for small samples.
    """
    a, b = split.as_reference, split.as_window
    n_a, n_b = a.sum(axis=0), b.sum(axis=0)
    towards_a, towards_b = distances @ a, distances @ b
    with np.errstate(invalid="ignore", divide="ignore"):
        within_a = (a * towards_a).sum(axis=0) / (n_a * (n_a - 1))
        within_b = (b * towards_b).sum(axis=0) / (n_b * (n_b - 1))
        between = (b * towards_a).sum(axis=0) / (n_a * n_b)
        above = 2 * between - within_a - within_b
    # One row alone has no distance within: such a cell must not weigh below the line only.
    return above, np.where(np.isfinite(above), 2 * between, np.nan)


def pairwise(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> Floats:
    """Euclidean distances `[len(x), len(y)]`."""
    squares = (x.astype(float) ** 2).sum(1)[:, None] + (y.astype(float) ** 2).sum(1)[None, :]
    return np.sqrt(np.maximum(squares - 2.0 * x.astype(float) @ y.astype(float).T, 0.0))


def _kernel(grid: Floats, values: Floats, width: float) -> Floats:
    """Normal distribution function of each value that is one, at each point of the grid; `[len(grid), values]`."""
    from scipy.special import ndtr

    return np.asarray(ndtr((grid[:, None] - values[np.isfinite(values)][None, :]) / width))


def _smooth_cdf(kernel: Floats, values: Floats, membership: Floats) -> Floats:
    """Share of the members below each point of the grid, `[len(grid), B]`; NaN where a split has no member."""
    members = membership[np.isfinite(values)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((kernel @ members) / members.sum(axis=0))


def _smoothed(shares: Floats) -> Floats:
    return np.asarray((np.maximum(shares, 0.0) + SMOOTHING) / (1.0 + len(shares) * SMOOTHING))
