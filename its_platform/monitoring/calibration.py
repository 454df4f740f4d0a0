"""What is too far: effects of a window, and thresholds from same-condition halves of the reference.

Enter: cells, the figures and embeddings of both sides. Leaves: effect and threshold of each column, such that the
worst column of a window under unchanged conditions passes its threshold in at most `false_alarm_rate` of windows.

How. In each cell the reference's blocks of time are split at random: as many as the window has (at most half) play
the window, the rest the reference. Half of the splits draw a run of neighbouring blocks, as a window is one; the
others draw freely. Effects of these pretended windows are false by construction. With s the 95 % point of a column,
and q the (1 - rate) point of the largest effect/s over the columns, the column's threshold is
`max(floor, q * s * allowance)`.

The allowance is for what the splits cannot show, that so few blocks were seen: (t / z)^2 (t / z for Wasserstein) with
t the (1 - rate/2) point of Student's distribution with blocks - cells degrees of freedom, z the normal one's. A
pretended pair is never larger than the real one, so that its effects are rather too large than too small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from its_platform.monitoring import effects
from its_platform.monitoring.effects import Floats, Method, Split
from its_platform.monitoring.strata import Cell, resolution

if TYPE_CHECKING:
    import pandas as pd

Vectors = npt.NDArray[np.float32]

SPLITS = 400
EMBEDDING = "embedding"
# Effects below these are too small to act on, however sure one is of them. 0.2 is the customary bound of PSI.
FLOOR = {"psi": 0.2, "wasserstein": 0.08, EMBEDDING: 0.05}
# With fewer, Student's distribution would make every threshold unreachable: a reference that small judges badly anyway.
MINIMUM_FREEDOM = 3
# A column needs this many values on each side.
MINIMUM_VALUES = 10


@dataclass(frozen=True)
class ColumnEffect:
    """How far a column is from its reference, and from where on that counts."""

    effect: float
    threshold: float

    @property
    def ratio(self) -> float:
        return self.effect / self.threshold

    @property
    def is_drifted(self) -> bool:
        return self.ratio >= 1.0


@dataclass(frozen=True)
class Calibrated:
    """Effects by column; `blocks` (of full length, in the reference) and `allowance` say what they rest on."""

    columns: dict[str, ColumnEffect]
    blocks: int
    allowance: float


def calibrate(
    cells: Sequence[Cell],
    window: pd.DataFrame,
    reference: pd.DataFrame,
    vectors: tuple[Vectors, Vectors] | None,
    method: Method = "psi",
    false_alarm_rate: float = 0.01,
    seed: int = 0,
    splits: int = SPLITS,
) -> Calibrated:
    """Effects and thresholds of every column of `window` and `reference` (tables of `strata.figures`).

    vectors: embeddings of the window and of the reference by the same embedder, or None to leave them out.
    Columns with too few values on either side are left out.
    """
    rng = np.random.default_rng(seed)
    pretended = [_splits(cell, rng, splits) for cell in cells]
    found: dict[str, tuple[float, Floats]] = {}
    for column in window.columns:
        live, held = window[column].to_numpy(float), reference[column].to_numpy(float)
        if min(_values(cells, live, "window"), _values(cells, held, "reference")) < MINIMUM_VALUES:
            continue
        found[column] = _column(cells, pretended, live, held, resolution(column), method)
    if vectors is not None and _has_enough(cells, vectors):
        found[EMBEDDING] = _embedding(cells, pretended, *vectors)
    units = sum(cell.units for cell in cells)
    root = _allowance(units - len(cells), false_alarm_rate)
    thresholds = _thresholds(found, root, method, false_alarm_rate)
    columns = {name: ColumnEffect(found[name][0], thresholds[name]) for name in found}
    return Calibrated(columns, units, root)


def _thresholds(
    found: dict[str, tuple[float, Floats]], root: float, method: Method, false_alarm_rate: float
) -> dict[str, float]:
    floors = {name: FLOOR[EMBEDDING if name == EMBEDDING else method] for name in found}
    # A column whose pretended effects are all tiny must not set the pace for the others.
    scale = {name: max(float(np.quantile(null, 0.95)), floors[name] / 4) for name, (_, null) in found.items()}
    if not found:
        return {}
    worst = np.max([null / scale[name] for name, (_, null) in found.items()], axis=0)
    q = float(np.quantile(worst, 1.0 - false_alarm_rate, method="higher"))
    # A distance grows with the first power of the uncertainty, but that held one false alarm in 50, not in 100.
    return {name: max(floors[name], q * scale[name] * root**2) for name in found}


def _column(
    cells: Sequence[Cell], pretended: Sequence[Split], live: Floats, held: Floats, width: float, method: Method
) -> tuple[float, Floats]:
    real, null, weights = [], [], []
    for cell, split in zip(cells, pretended, strict=True):
        ours, theirs = live[cell.window], held[cell.reference]
        weights.append(float(np.isfinite(ours).sum()))
        real.append(effects.curve(theirs, np.ones((len(theirs), 1)), ours, np.ones((len(ours), 1)), width))
        null.append(effects.curve(theirs, split.as_reference, theirs, split.as_window, width))
    effect = effects.distance(effects.pooled(real, weights), method)
    false = effects.distance(effects.pooled(null, weights), method)
    # A split in which no cell had values on both sides says nothing.
    return float(np.nan_to_num(effect[0])), np.nan_to_num(false)


def _embedding(cells: Sequence[Cell], pretended: Sequence[Split], live: Vectors, held: Vectors) -> tuple[float, Floats]:
    weights, real, null = [], [], []
    for cell, split in zip(cells, pretended, strict=True):
        ours, theirs = live[cell.window], held[cell.reference]
        is_there = np.isfinite(theirs).all(axis=1)
        ours, theirs = ours[np.isfinite(ours).all(axis=1)], theirs[is_there]
        weights.append(float(len(ours)))
        both = np.concatenate([theirs, ours])
        is_reference = np.r_[np.ones(len(theirs)), np.zeros(len(ours))][:, None]
        distances = effects.pairwise(both, both)
        np.fill_diagonal(distances, 0.0)
        real.append(effects.energy_parts(distances, Split(is_reference, 1.0 - is_reference)))
        kept = Split(split.as_reference[is_there], split.as_window[is_there])
        null.append(effects.energy_parts(distances[: len(theirs), : len(theirs)], kept))
    shares = np.array(weights)
    return float(_coefficient(real, shares)[0]), _coefficient(null, shares)


def _coefficient(parts: Sequence[tuple[Floats, Floats]], weights: Floats) -> Floats:
    above = np.nansum([w * np.asarray(part[0]) for w, part in zip(weights, parts, strict=True)], axis=0)
    below = np.nansum([w * np.asarray(part[1]) for w, part in zip(weights, parts, strict=True)], axis=0)
    return np.clip(np.divide(above, below, out=np.zeros_like(above), where=below > 0), 0.0, None)


def _splits(cell: Cell, rng: np.random.Generator, count: int) -> Split:
    """Random splits of the cell's reference rows by block; with one block alone, by halves of it."""
    blocks = cell.blocks
    total = int(blocks.max()) + 1
    if total == 1:
        blocks = np.minimum(np.arange(len(blocks)) * 2 // max(1, len(blocks)), 1)
        total = 2
    drawn = int(np.clip(cell.window_blocks, 1, total // 2))
    chosen = np.zeros((total, count))
    for b in range(count):
        if b % 2:
            chosen[(rng.integers(total) + np.arange(drawn)) % total, b] = 1.0
        else:
            chosen[rng.choice(total, drawn, replace=False), b] = 1.0
    as_window = chosen[blocks]
    return Split(1.0 - as_window, as_window)


def _allowance(freedom: int, false_alarm_rate: float) -> float:
    from scipy.stats import norm, t

    point = 1.0 - false_alarm_rate / 2
    return float(t.ppf(point, max(MINIMUM_FREEDOM, freedom)) / norm.ppf(point))


def _has_enough(cells: Sequence[Cell], vectors: tuple[Vectors, Vectors]) -> bool:
    live, held = (np.isfinite(side).all(axis=1).astype(float) for side in vectors)
    live[live == 0], held[held == 0] = np.nan, np.nan
    return min(_values(cells, live, "window"), _values(cells, held, "reference")) >= MINIMUM_VALUES


def _values(cells: Sequence[Cell], column: Floats, side: str) -> int:
    return int(sum(np.isfinite(column[getattr(cell, side)]).sum() for cell in cells))
