"""How far a window is from its reference: effect sizes, for the real window and for many pretended ones at once.

Enter: cells, figures, embeddings. Leave: one figure a column. A value is first turned into its place (0 to 1) among
the reference values of its own camera and light, so that strata can be pooled whatever their levels are; PSI or the
Wasserstein distance is taken on places. Embeddings are compared by the energy coefficient. What is too far belongs in
`calibration`.

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

FIFTHS = 5
FINE = 20
# Added to each fifth's share: an empty fifth of a small window is not infinitely surprising.
SMOOTHING = 0.01


@dataclass(frozen=True)
class Split:
    """B ways in which some rows play the reference and others the window; matrices `[rows, B]` of 0 and 1."""

    as_reference: Floats
    as_window: Floats


def places(values: Floats, among: Floats, membership: Floats, resolution: float) -> Floats:
    """Place of each value among the members, `[len(values), B]`, 0 (below all of them) to 1 (above all).

    The mid-rank of Hazen, smoothed with a normal kernel of the width `resolution`, so that differences below it
    hardly move a value. Values that are NaN come back as NaN; members that are NaN do not count.
    """
    from scipy.special import ndtr

    valid = np.isfinite(among)
    member = membership * valid[:, None]
    kernel = ndtr((values[:, None] - np.where(valid, among, 0.0)[None, :]) / resolution)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (kernel @ member) / member.sum(axis=0)


def histogram(place: Floats, membership: Floats) -> Floats:
    """Shares of the members in `FINE` equal bins of place, `[FINE, B]`; NaN where a split has no such member."""
    valid = np.isfinite(place)
    bins = np.clip((np.where(valid, place, 0.0) * FINE).astype(int), 0, FINE - 1)
    weight = membership * valid
    splits = place.shape[1]
    numbers = (bins * splits + np.arange(splits)).ravel()
    flat = np.bincount(numbers, weights=weight.ravel(), minlength=FINE * splits)
    with np.errstate(invalid="ignore", divide="ignore"):
        return flat.reshape(FINE, splits) / weight.sum(axis=0)


def pooled(histograms: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Mean of the cells' histograms, weighted by the window's rows in each; cells without values are left out."""
    total, weight = np.zeros_like(histograms[0]), np.zeros(histograms[0].shape[1])
    for shares, share in zip(histograms, weights, strict=True):
        there = np.isfinite(shares).all(axis=0)
        total += np.where(there, shares, 0.0) * share
        weight += there * share
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / weight


def distance(reference: Floats, window: Floats, method: Method) -> Floats:
    """Effect size between pooled histograms `[FINE, B]`; `[B]`.

    psi: population stability index over fifths of the reference, smoothed, 0 to about 4.
    wasserstein: mean absolute difference of the cumulated shares, 0 to 0.5.
    """
    if method == "wasserstein":
        return np.asarray(np.abs(np.cumsum(reference - window, axis=0)).mean(axis=0))
    p, q = _fifths(reference), _fifths(window)
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


def _fifths(shares: Floats) -> Floats:
    fifth = shares.reshape(FIFTHS, FINE // FIFTHS, -1).sum(axis=1)
    return np.asarray((fifth + SMOOTHING) / (1.0 + FIFTHS * SMOOTHING))
