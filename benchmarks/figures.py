"""A benchmark's figures: rounds in which ours and its peer take turns, the verdict on them, how they are kept.

Enters: what is compared, and a function that takes one round of it. Leaves: a `Figure`, an entry of `bench.json`
(docs/schemas/bench.json). What is measured does not belong here.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from its_platform.telemetry import Progress, no_progress

Verdict = Literal["passed", "failed", "no verdict", "no floor"]

ROUNDS = 5
ATTEMPTS = 3
WIDE_SPREAD = 0.3
"""Rounds that lie further apart than this share of their median decide only where they all say the same."""


@dataclass(frozen=True)
class Round:
    """What one round measured. CPU in milliseconds, of all processes; split: where ours went, by part."""

    ours: float
    peer: float | None = None
    cpu_ms: float | None = None
    peer_cpu_ms: float | None = None
    split: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What is compared with what. `floor` gives the worst allowed of ours for what the peer reached.

    better: whether a lower or a higher figure of ours is the better one. command: what prints it. A figure that is told
    and judged by nothing has neither floor nor peer.
    """

    name: str
    peer_name: str | None
    unit: str
    floor: Callable[[float], float] | None
    command: str
    better: Literal["lower", "higher"] = "lower"
    split_unit: str | None = None


@dataclass(frozen=True)
class Figure:
    """One figure: medians over the rounds; `floor` lies as far from `ours` as in the median round.

    `attempts` holds ours of each attempt, the last one or the kept one too. One without a floor has passed.
    """

    name: str
    ours: float
    unit: str
    rounds: int
    spread: float
    passed: bool
    command: str
    verdict: Verdict
    better: Literal["lower", "higher"]
    attempts: list[float]
    peer: float | None = None
    peer_name: str | None = None
    floor: float | None = None
    cpu_ms: float | None = None
    peer_cpu_ms: float | None = None
    split: dict[str, float] | None = None
    split_unit: str | None = None


def at_most(limit: float) -> Callable[[float], float]:
    """A floor that does not depend on the peer."""
    return lambda peer: limit


def times_peer(factor: float) -> Callable[[float], float]:
    return lambda peer: peer * factor


def above_peer(slack: float) -> Callable[[float], float]:
    return lambda peer: peer + slack


def figure_of(comparison: Comparison, rounds: Sequence[Round], earlier: Sequence[float] = ()) -> Figure:
    """The figure of one attempt's rounds; `earlier` holds the medians of the attempts before it."""
    ours = statistics.median(one.ours for one in rounds)
    verdict = verdict_on(comparison, rounds)
    parts = sorted({part for one in rounds for part in one.split})
    split = {part: _rounded(statistics.median(one.split.get(part, 0.0) for one in rounds)) for part in parts}
    return Figure(
        name=comparison.name,
        ours=_rounded(ours),
        unit=comparison.unit,
        rounds=len(rounds),
        spread=round(_spread([one.ours for one in rounds]), 3),
        passed=verdict in ("passed", "no floor"),
        command=comparison.command,
        verdict=verdict,
        better=comparison.better,
        attempts=[*earlier, _rounded(ours)],
        peer=_median_of([one.peer for one in rounds]),
        peer_name=comparison.peer_name,
        floor=None if comparison.floor is None else _rounded(ours - _beyond(comparison.floor, rounds)),
        cpu_ms=_median_of([one.cpu_ms for one in rounds]),
        peer_cpu_ms=_median_of([one.peer_cpu_ms for one in rounds]),
        split=split or None,
        split_unit=comparison.split_unit if split else None,
    )


def verdict_on(comparison: Comparison, rounds: Sequence[Round]) -> Verdict:
    """Whether the floor is met; no verdict where the rounds lie wide apart and do not agree on it."""
    if comparison.floor is None:
        return "no floor"
    sign = 1.0 if comparison.better == "lower" else -1.0
    is_met = sign * _beyond(comparison.floor, rounds) <= 0
    agree = all((sign * one.ours <= sign * _held_to(comparison.floor, one)) == is_met for one in rounds)
    if not agree and _spread([one.ours for one in rounds]) > WIDE_SPREAD:
        return "no verdict"
    return "passed" if is_met else "failed"


def _beyond(floor: Callable[[float], float], rounds: Sequence[Round]) -> float:
    """How far ours lies above the floor, the median of the rounds: a slow minute slows both of its round."""
    return statistics.median(one.ours - _held_to(floor, one) for one in rounds)


def _held_to(floor: Callable[[float], float], one: Round) -> float:
    if one.peer is None:
        raise ValueError("a figure that has a floor is compared with a peer")
    return floor(one.peer)


def measure(
    comparisons: Sequence[Comparison],
    take_round: Callable[[], Mapping[str, Round]],
    progress: Progress = no_progress,
    rounds: int = ROUNDS,
    attempts: int = ATTEMPTS,
) -> list[Figure]:
    """Take rounds of everything that is compared, by name, and judge each.

    While one has not passed, all rounds are taken again, up to `attempts` times. Kept is the attempt that passed, and
    where none did the one whose rounds lay closest together.
    """
    kept: dict[str, Figure] = {}
    task = comparisons[0].command.rpartition("/")[2]
    for attempt in range(attempts):
        taken: list[Mapping[str, Round]] = []
        for number in range(rounds):
            progress(task, number, rounds, f"attempt {attempt + 1}")
            taken.append(take_round())
        progress(task, rounds, rounds, f"attempt {attempt + 1}")
        for comparison in comparisons:
            before = kept.get(comparison.name)
            if before is not None and before.passed:
                continue
            found = figure_of(
                comparison, [one[comparison.name] for one in taken], before.attempts if before is not None else ()
            )
            is_kept = before is None or found.passed or found.spread <= before.spread
            kept[comparison.name] = found if is_kept or before is None else _told(before, found.attempts)
        if all(figure.passed for figure in kept.values()):
            break
    return [kept[comparison.name] for comparison in comparisons]


def write(figures: Sequence[Figure], path: Path) -> None:
    """Write `bench.json`, whole or not at all; what a figure does not have is left out."""
    entries = [{name: value for name, value in asdict(one).items() if value is not None} for one in figures]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(entries, indent=1) + "\n", "utf-8")
    part.replace(path)


def read(path: Path) -> list[Figure]:
    return [Figure(**entry) for entry in json.loads(path.read_text("utf-8"))]


def show(figures: Sequence[Figure], console: Console) -> None:
    """A table of the figures, and a line for each that says where its time went."""
    table = Table("what", "ours", "peer", "floor", "CPU ms", "spread", "verdict")
    for one in figures:
        sign = "≤" if one.better == "lower" else "≥"
        cpu = "" if one.cpu_ms is None else f"{one.cpu_ms:g} / {one.peer_cpu_ms:g}"
        tried = "" if len(one.attempts) == 1 else f" ({len(one.attempts)} attempts)"
        table.add_row(
            one.name,
            f"{one.ours:g} {one.unit}",
            "" if one.peer is None else f"{one.peer:g} ({one.peer_name})",
            "" if one.floor is None else f"{sign} {one.floor:g}",
            cpu,
            f"{one.spread:.0%}",
            one.verdict + tried,
        )
    console.print(table)
    for one in figures:
        if one.split:
            parts = ", ".join(f"{part} {value:g}" for part, value in one.split.items())
            console.print(f"{one.name}, {one.split_unit}: {parts}", highlight=False)


def _told(figure: Figure, attempts: list[float]) -> Figure:
    return Figure(**{**asdict(figure), "attempts": attempts})


def _spread(values: Sequence[float]) -> float:
    """How far the rounds lie apart, as a share of their median."""
    median = statistics.median(values)
    return (max(values) - min(values)) / abs(median) if median else 0.0


def _median_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _rounded(statistics.median(known)) if known else None


def _rounded(value: float) -> float:
    """Four digits that count; whole from there on."""
    return float(f"{value:.4g}") if abs(value) < 1000 else float(round(value))
