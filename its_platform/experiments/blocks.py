"""What live traffic says of two versions, block by block: from the front's logs to one value for each block.

Enters: rows of the log of predictions and pairs of answers. Leaves: blocks of one camera and one minute in the order in
which they came in, each answered by one version, and values whose mean is the effect. What the values mean for the
experiment is judged in `judging.py`.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean
from typing import Any

from its_platform.experiments.planning import MEASURES, MOST_DEVIATIONS, MeasureName, Plan
from its_platform.monitoring.predictions import collect, query
from its_platform.release.canary import Evidence
from its_platform.release.comparing import evidence_of, truth_of
from its_platform.release.experiment import Experiment
from its_platform.serving.pairs import collect_pairs, read_pairs
from its_platform.stores import Stores

# As the front logs a picture that came without a camera: it belongs to no block.
NO_CAMERA = "unknown"
# Fewer blocks say nothing of how much blocks scatter.
LEAST_PILOT = 20
COLUMNS = ("at", "logged_at", "camera_id", "version", "light", "n", "mean_confidence", "latency_ms", "is_cached")
_COLUMN = {"boxes": "n", "confidence": "mean_confidence", "latency_ms": "latency_ms"}


@dataclass(frozen=True, slots=True)
class ArmBlock:
    """One camera in one minute. value: the measure's mean over its frames; of a paired one, the challenger's gain."""

    camera_id: str
    minute: datetime
    light: str
    is_challengers: bool
    frames: int
    value: float


@dataclass(frozen=True)
class Observed:
    """All that came in. safety: failures and latencies of both versions, control first, as the canary's evidence."""

    blocks: tuple[ArmBlock, ...]
    safety: Evidence = field(default_factory=lambda: Evidence((), 0))


def is_challengers(challenger: int, percent: float, camera_id: str, minute: datetime) -> bool:
    """Whether the front has the challenger answer a block: the draw of `routing.py` in the front.

    minute: aware, UTC.
    """
    text = f"canary/{challenger}/{camera_id}/{minute:%Y-%m-%dT%H:%M}"
    drawn = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(drawn, "big") * 100 / 2**64 < percent


def observe(stores: Stores, running: Experiment, plan: Plan) -> Observed:
    """All that was logged of an experiment until it ended, newly collected. Raises `LogUnreadable`."""
    collect(stores)
    collect_pairs(stores)
    until = running.until
    rows = query(stores, purpose="live", columns=COLUMNS, logged_since=running.since)
    rows = rows[rows["version"].isin([running.control, running.challenger]) & (rows["camera_id"] != NO_CAMERA)]
    pairs = read_pairs(stores, running.control, running.challenger, running.since)
    if until is not None:
        rows = rows[rows["logged_at"] < until]
        pairs = [pair for pair in pairs if pair.logged_at < until]
    timed = rows[~rows["is_cached"].fillna(False).astype(bool) & rows["latency_ms"].notna()]
    latency = tuple(
        timed.loc[timed["version"] == version, "latency_ms"].tolist()
        for version in (running.control, running.challenger)
    )
    failures = sum(pair.canary.problem is not None and pair.production.problem is None for pair in pairs)
    safety = Evidence((), 0, pictures=len(rows), failures=failures, latency=((latency[0], latency[1]),))
    if MEASURES[plan.measure].is_paired:
        found = evidence_of(pairs, truth_of(stores, pairs), running.since)
        blocks = tuple(
            ArmBlock(block.camera_id, block.minute, block.light, True, block.pairs, block.gain)
            for block in found.blocks
            if block.gain is not None
        )
        return Observed(blocks, safety)
    drawn = [
        (row, is_challengers(running.challenger, plan.percent, row.camera_id, row.at.floor("min")))
        for row in rows.sort_values("logged_at", kind="stable").itertuples(index=False)
    ]
    # What the other version answered than the one that was drawn: it failed, or the request named a version.
    kept = [(row, drew) for row, drew in drawn if (row.version == running.challenger) == drew]
    return Observed(blocks_of(kept, plan.measure), safety)


def blocks_of(rows: Iterable[tuple[Any, bool]], measure: MeasureName) -> tuple[ArmBlock, ...]:
    """Blocks of log rows, each with whether it is the challenger's, in the order of their first rows.

    A frame of which the measure says nothing (no box, or an answer from memory) is left out.
    """
    column = _COLUMN[measure]
    found: dict[tuple[str, datetime, bool], list[tuple[float, str]]] = defaultdict(list)
    for row, is_of_challenger in rows:
        value = getattr(row, column)
        if value is None or value != value or (measure == "latency_ms" and row.is_cached):
            continue
        minute = row.at.to_pydatetime().replace(second=0, microsecond=0)
        found[(row.camera_id, minute, is_of_challenger)].append((float(value), str(row.light)))
    return tuple(
        ArmBlock(camera, minute, members[0][1], is_of, len(members), fmean(value for value, _ in members))
        for (camera, minute, is_of), members in found.items()
    )


def values_of(blocks: Sequence[ArmBlock], plan: Plan) -> list[float]:
    """A value for each block, in order; their mean is how much higher the measure is with the challenger.

    A block's value is its distance from what the earlier blocks of the same camera and light let expect, divided by
    the probability with which its version was drawn, and negative for the control (augmented inverse probability
    weighting, Robins, Rotnitzky and Zhao 1994). It is right whatever was expected; a good expectation takes the
    difference between cameras out of it. Of a paired measure the gain itself is the value.
    """
    if MEASURES[plan.measure].is_paired:
        return [block.value for block in blocks]
    most = MOST_DEVIATIONS * plan.deviation
    seen: dict[tuple[str, str], tuple[float, int]] = {}
    values = []
    for block in blocks:
        key = (block.camera_id, block.light)
        total, count = seen.get(key, (0.0, 0))
        expected = total / count if count else plan.baseline
        distance = min(most, max(-most, block.value - expected))
        values.append(distance / plan.share if block.is_challengers else -distance / (1 - plan.share))
        seen[key] = (total + block.value, count + 1)
    return values


def pilot(stores: Stores, version: int, measure: MeasureName, since: datetime) -> tuple[float, float | None]:
    """Mean and deviation of the blocks of a version, from what it answered lately.

    The deviation is that around the mean of the same camera and light, None where too little was logged for it, and
    for a paired measure, for which the answers of both versions are needed.
    """
    if MEASURES[measure].is_paired:
        return 0.0, None
    collect(stores)
    rows = query(stores, purpose="live", version=version, columns=COLUMNS, logged_since=since)
    blocks = blocks_of(((row, False) for row in rows.itertuples(index=False) if row.camera_id != NO_CAMERA), measure)
    strata: dict[tuple[str, str], list[float]] = defaultdict(list)
    for block in blocks:
        strata[(block.camera_id, block.light)].append(block.value)
    mean = fmean(block.value for block in blocks) if blocks else 0.0
    repeated = [values for values in strata.values() if len(values) > 1]
    left = [value - fmean(values) for values in repeated for value in values]
    if len(left) < LEAST_PILOT:
        return mean, None
    # Each stratum's blocks lie nearer to their own mean than to the true one: it costs a degree of freedom.
    return mean, math.sqrt(sum(value * value for value in left) / (len(left) - len(repeated)))
