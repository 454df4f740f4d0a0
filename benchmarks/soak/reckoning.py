"""What a soak came to: latency by minute, the gap that a killed Triton leaves, rows, what grows, and the verdict.

Enters: requests as the cameras wrote them down, samples of what the parts hold. Leaves: numbers and sentences.
Everything here is a function of its arguments; times are seconds since 1970.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from footprint import Footprint

MINUTE_S = 60.0
# An answer of the old server may still arrive within this.
LAST_WORDS_S = 2.0
WARM_UP = 0.25
"""Share of a part's life that is left out: it loads, fills its caches and finds its size."""
LEAST_WATCHED_S = 300.0
BINS = 12
MOST_GROWTH = 0.2
LEAST_GROWTH = {"memory_mb": 32.0, "descriptors": 20.0, "threads": 10.0}
"""A leak is what grows by more than a fifth after its warm-up, and by more than this: small parts breathe."""
FILLS_CACHES = frozenset({"postgres"})
"""Its connections keep the files of the tables that they have touched open, each once, and its shared buffers fill up
to the size that they were made with: caches. What is held beside those is judged as anywhere else."""


@dataclass(frozen=True)
class Request:
    """One request that has ended; `sent` is its capture time as well. version: None where no answer came."""

    camera: str
    sent: float
    ended: float
    version: int | None
    problem: str = ""

    @property
    def is_answered(self) -> bool:
        return self.version is not None


@dataclass(frozen=True)
class Minute:
    """Requests that were sent within one minute of the load; latencies in milliseconds, of the answered ones.

    images_s, failed_s: answered and failed ones a second.
    """

    minute: int
    requests: int
    failed: int
    p50: float | None
    p95: float | None
    p99: float | None
    images_s: float
    failed_s: float


@dataclass(frozen=True)
class Sample:
    """What each part held at a moment."""

    at: float
    parts: Mapping[str, Footprint]


@dataclass(frozen=True)
class Growth:
    """How one figure of a part went over its last life, its warm-up left out.

    start, end: by a line through the least of each stretch, so that what comes and goes does not count. is_judged:
    whether it was watched long enough for a line to mean something.
    """

    start: float
    end: float
    watched_s: float
    is_judged: bool

    @property
    def share(self) -> float:
        return (self.end - self.start) / self.start if self.start else 0.0

    @property
    def an_hour(self) -> float:
        return (self.end - self.start) / self.watched_s * 3600 if self.watched_s else 0.0


@dataclass(frozen=True)
class RowCount:
    """Answers held against the table. in_memory: lost ones that the killed front had answered and not yet written."""

    answered: int
    lost: int
    in_memory: int
    twice: int


def minutes_of(requests: Sequence[Request], began: float, ended: float) -> list[Minute]:
    """The load minute by minute; the last one may be shorter."""
    found = []
    for number in range(max(1, int(np.ceil((ended - began) / MINUTE_S)))):
        since, until = began + number * MINUTE_S, min(began + (number + 1) * MINUTE_S, ended)
        own = [one for one in requests if since <= one.sent < until]
        answered = [one for one in own if one.is_answered]
        p50, p95, p99 = percentiles(answered)
        failed, seconds = len(own) - len(answered), max(until - since, 1e-3)
        found.append(Minute(number, len(own), failed, p50, p95, p99, len(answered) / seconds, failed / seconds))
    return found


def percentiles(answered: Sequence[Request]) -> tuple[float, float, float] | tuple[None, None, None]:
    """Milliseconds within which half, 95 % and 99 % were answered."""
    if not answered:
        return None, None, None
    p50, p95, p99 = np.percentile([(one.ended - one.sent) * 1000 for one in answered], [50, 95, 99]).tolist()
    return p50, p95, p99


def back_at(requests: Sequence[Request], killed_at: float) -> float | None:
    """When the first answer came of the server that took the killed one's place; None where none did.

    The end of the longest silence that began with the kill.
    """
    answers = sorted(one.ended for one in requests if one.is_answered and one.ended > killed_at)
    silences = [
        (until - since, until) for since, until in pairwise([killed_at, *answers]) if since <= killed_at + LAST_WORDS_S
    ]
    return max(silences)[1] if silences else None


def is_of_the_gap(request: Request, killed_at: float, back: float) -> bool:
    """Whether a request was under way while nobody could answer."""
    return request.sent < back and request.ended > killed_at


def count_rows(
    requests: Sequence[Request], held: Mapping[tuple[str, float], int], killed_at: float, memory_s: float
) -> RowCount:
    """Hold every answer against the rows of the table, by camera and capture time.

    memory_s: how long a front keeps a row to itself before it is written.
    """
    answered = [one for one in requests if one.is_answered]
    lost = [one for one in answered if key_of(one.camera, one.sent) not in held]
    in_memory = [one for one in lost if killed_at - memory_s <= one.ended <= killed_at + LAST_WORDS_S]
    twice = sum(held.get(key_of(one.camera, one.sent), 0) > 1 for one in answered)
    return RowCount(len(answered), len(lost) - len(in_memory), len(in_memory), twice)


def key_of(camera: str, at: float) -> tuple[str, float]:
    """By what a request is found in the table, whose times are microseconds."""
    return camera, round(at, 6)


def growths(samples: Sequence[Sample]) -> dict[str, dict[str, Growth]]:
    """How each figure of each part that ran at the end went, over the life of the process that it ended with."""
    found: dict[str, dict[str, Growth]] = {}
    for part, last in samples[-1].parts.items() if samples else ():
        life = [one for one in samples if part in one.parts and one.parts[part].pid == last.pid]
        found[part] = {
            figure: growth_of([(one.at, _held(part, one.parts[part], figure)) for one in life])
            for figure in LEAST_GROWTH
        }
    return found


def _held(part: str, footprint: Footprint, figure: str) -> float:
    cached = {"memory_mb": footprint.segments_mb, "descriptors": footprint.files} if part in FILLS_CACHES else {}
    return float(getattr(footprint, figure) - cached.get(figure, 0))


def growth_of(points: Sequence[tuple[float, float]]) -> Growth:
    """A line through a figure over time (`at`, value), at least one point."""
    first, last = points[0][0], points[-1][0]
    since = first + WARM_UP * (last - first)
    kept = [one for one in points if one[0] >= since]
    least = least_of_stretches(kept)
    slope = slope_of(least)
    start = statistics.median(value - slope * (at - since) for at, value in least)
    watched_s = last - since
    return Growth(start, start + slope * watched_s, watched_s, watched_s >= LEAST_WATCHED_S)


def least_of_stretches(points: Sequence[tuple[float, float]], stretches: int = BINS) -> list[tuple[float, float]]:
    """The least point of each of so many stretches of equal length; a stretch without any is left out."""
    first, last = points[0][0], points[-1][0]
    length = (last - first) / stretches or 1.0
    by_stretch: dict[int, list[tuple[float, float]]] = {}
    for at, value in points:
        by_stretch.setdefault(min(int((at - first) / length), stretches - 1), []).append((at, value))
    return [min(own, key=lambda point: point[1]) for own in by_stretch.values()]


def slope_of(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between any two points (Theil and Sen), which a third of outliers does not move."""
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(sorted(points), 2) if x2 > x1]
    return statistics.median(slopes) if slopes else 0.0


def leaks(grown: Mapping[str, Mapping[str, Growth]]) -> list[str]:
    """What grew by more than it may, in words."""
    return [
        f"{part}: {figure.removesuffix('_mb')} grew from {one.start:.0f} to {one.end:.0f} ({one.share:+.0%})"
        for part, figures in grown.items()
        for figure, one in figures.items()
        if one.is_judged and one.share > MOST_GROWTH and one.end - one.start > LEAST_GROWTH[figure]
    ]


def started_again(samples: Sequence[Sample]) -> set[str]:
    """Parts that ended a soak with another process than they began it with, or without any."""
    if not samples:
        return set()
    first, last = samples[0].parts, samples[-1].parts
    return {part for part, one in first.items() if part not in last or last[part].pid != one.pid}
