"""One repeat's facts, and whether they are what was promised.

A repeat is kept where no request failed but while the killed Triton was away, no row was lost but what that Triton held
in memory, nothing is there twice, nothing leaks, no other server ended, every server is well in the end, and what drift
started was trained and served. Latency and growth of the stores are told and held to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from soak.reckoning import Growth, Minute, RowCount, leaks

KILLED = "triton"


@dataclass(frozen=True)
class Repeat:
    """What one repeat came to.

    up_s, first_version_s: from nothing to all healthy, and from there to a first served version. load_s: how long the
    cameras asked. failed_in_gap: of the failed requests, those under way while Triton was away; back_s: how long that
    was, None where it never came back. live: answered and unanswered pictures of the simulated cameras. versions: those
    that were in production. runs: Dagster's, by status. database_mb, objects_mb: when the load began, and in the end.
    """

    number: int
    up_s: float
    first_version_s: float
    load_s: float
    requests: int
    failed: int
    failed_in_gap: int
    killed_s: float
    back_s: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    minutes: Sequence[Minute]
    rows: RowCount
    duplicates: Mapping[str, int]
    live: tuple[int, int]
    frames: int
    reports: int
    versions: Sequence[int]
    runs: Mapping[str, int]
    growths: Mapping[str, Mapping[str, Growth]]
    started_again: Sequence[str]
    findings: Sequence[str]
    database_mb: tuple[float, float]
    objects_mb: tuple[float, float]
    problems: Sequence[str]

    @property
    def images_s(self) -> float:
        return (self.requests - self.failed) / self.load_s


def reasons(repeat: Repeat) -> list[str]:
    """Why a repeat is not kept, in words; nothing where it is."""
    elsewhere = repeat.failed - repeat.failed_in_gap
    first = f", first: {repeat.problems[0]}" if repeat.problems else ""
    others = sorted(set(repeat.started_again) - {KILLED})
    twice = {name: count for name, count in repeat.duplicates.items() if count}
    told = [
        ("nobody was asked", repeat.requests == 0),
        (f"{elsewhere} requests failed while Triton ran{first}", elsewhere > 0),
        ("the killed Triton did not answer again", repeat.back_s is None),
        (f"{repeat.rows.lost} answers have no row", repeat.rows.lost > 0),
        (f"{repeat.rows.twice} answers have more than one row", repeat.rows.twice > 0),
        (f"there twice: {', '.join(f'{count} {name}' for name, count in twice.items())}", bool(twice)),
        ("no retrained version was served", len(repeat.versions) < 2),
        (f"ended meanwhile: {', '.join(others)}", bool(others)),
    ]
    return [*(words for words, is_so in told if is_so), *leaks(repeat.growths), *repeat.findings]


def is_watched_long_enough(repeats: Sequence[Repeat]) -> bool:
    """Whether leaks were judged at all, of every part in every repeat."""
    return all(one.is_judged for repeat in repeats for part in repeat.growths.values() for one in part.values())
