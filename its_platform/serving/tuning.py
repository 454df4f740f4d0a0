"""Which of several measured ways to run a detector is the best, and the settings that make it so.

Enters: what each candidate setting did under the same load, round by round. Leaves: the choice with its reason, and
lines for `settings.yaml`. Pure functions and values; the measuring is in `sweep.py`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from its_platform.errors import BadInput
from its_platform.settings import ServingSettings

# Two throughputs this close are the same on a machine that does other things too.
AS_FAST = 0.03
# More threads than this for each core only wait for one another.
MOST_THREADS_A_CORE = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run a detector: copies, threads of each copy, and whether Triton gathers requests into batches."""

    instances: int
    threads: int
    dynamic_batching: bool = False

    @property
    def name(self) -> str:
        copies = f"{self.instances} {'copy' if self.instances == 1 else 'copies'}"
        threads = f"{self.threads} {'thread' if self.threads == 1 else 'threads'}"
        return f"{copies} of {threads}" + (", batched" if self.dynamic_batching else "")


@dataclass(frozen=True, slots=True)
class TuneRound:
    """What one round of load on a candidate gave. `cpu_ms` is of server and instances together, for each image."""

    images_per_s: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """A candidate with all its rounds."""

    candidate: Candidate
    rounds: tuple[TuneRound, ...]

    @property
    def images_per_s(self) -> float:
        return statistics.median(one.images_per_s for one in self.rounds)

    @property
    def p50_ms(self) -> float:
        return statistics.median(one.p50_ms for one in self.rounds)

    @property
    def p95_ms(self) -> float:
        return statistics.median(one.p95_ms for one in self.rounds)

    @property
    def cpu_ms(self) -> float:
        return statistics.median(one.cpu_ms for one in self.rounds)

    @property
    def failed(self) -> int:
        return sum(one.failed for one in self.rounds)

    def as_row(self) -> dict[str, Any]:
        """The medians over the rounds, as a row of a table."""
        return {
            "instances": self.candidate.instances,
            "threads": self.candidate.threads,
            "dynamic_batching": self.candidate.dynamic_batching,
            "images_per_s": round(self.images_per_s, 2),
            "p50_ms": round(self.p50_ms, 1),
            "p95_ms": round(self.p95_ms, 1),
            "cpu_ms": round(self.cpu_ms, 2),
            "failed": self.failed,
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """The best candidate. `is_within_limit`: its 95th percentile is; `why`: in one line."""

    best: Measured
    is_within_limit: bool
    why: str


def candidates_for(
    instances: Iterable[int], threads: Iterable[int], batching: Iterable[bool], cores: int
) -> list[Candidate]:
    """Every combination that this many cores can run, the smallest first.

    Raises `BadInput` where none is left.
    """
    wanted = sorted(set(product(set(instances), set(threads), set(batching))))
    if any(count < 1 or each < 1 for count, each, _ in wanted):
        raise BadInput("Instances and threads are 1 or more.", "Give them like --instances 1,2 --threads 1,2.")
    found = [Candidate(*one) for one in wanted if one[0] * one[1] <= MOST_THREADS_A_CORE * cores]
    if not found:
        raise BadInput(
            f"No combination fits {cores} cores: more than {MOST_THREADS_A_CORE} threads for each are not tried.",
            "Give smaller numbers with --instances and --threads.",
        )
    return found


def default_instances(cores: int) -> list[int]:
    """Two, one for each core, two for each: a single copy has no neighbour that serves while it is replaced."""
    return sorted({2, max(2, cores), max(2, MOST_THREADS_A_CORE * cores)})


def choose(measured: Sequence[Measured], limit_p95_ms: float) -> Choice:
    """The fastest whose 95th percentile is within the limit; of those as fast, the one that takes the least CPU.

    Where none is within it, the one that comes closest. A candidate that failed a request is out. Raises `BadInput`
    where all did.
    """
    sound = [one for one in measured if not one.failed and one.rounds]
    if not sound:
        raise BadInput("Every setting that was tried failed requests.", "Read the logs below the home's serving/tune.")
    within = [one for one in sound if one.p95_ms <= limit_p95_ms]
    if not within:
        best = min(sound, key=lambda one: one.p95_ms)
        return Choice(best, False, f"none is within {limit_p95_ms:g} ms; it comes closest with {best.p95_ms:.1f} ms")
    fastest = max(one.images_per_s for one in within)
    as_fast = [one for one in within if one.images_per_s >= fastest * (1 - AS_FAST)]
    best = min(as_fast, key=lambda one: (one.cpu_ms, one.candidate.instances * one.candidate.threads))
    why = f"{best.images_per_s:.1f} images/s with 95 % of the answers within {best.p95_ms:.1f} ms"
    if len(as_fast) > 1:
        why += f"; of {len(as_fast)} as fast, the least CPU: {best.cpu_ms:.1f} ms an image"
    return Choice(best, True, why)


def settings_of(candidate: Candidate) -> dict[str, Any]:
    """The fields of the group `serving` that make a candidate so."""
    return {
        "instances": candidate.instances,
        "threads": candidate.threads,
        "dynamic_batching": candidate.dynamic_batching,
    }


def candidate_in_force(serving: ServingSettings) -> Candidate:
    return Candidate(serving.instances, serving.threads, serving.dynamic_batching)


def settings_lines(candidate: Candidate) -> str:
    """The settings as `settings.yaml` holds them."""
    import yaml

    return yaml.safe_dump({"serving": settings_of(candidate)}, sort_keys=False)


def apply_settings(home: Path, candidate: Candidate) -> Path:
    """Write the settings into the home's `settings.yaml`, beside what it says; what it was stays in `.before`.

    Raises `BadInput` for a file that holds no groups of settings. Comments do not survive, hence the copy.
    """
    import yaml

    path = home / "settings.yaml"
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    written = yaml.safe_load(before) or {}
    group = written.get("serving") or {} if isinstance(written, dict) else None
    if not isinstance(group, dict):
        raise BadInput(f"{path} holds no groups of settings.", "Write them like serving: {instances: 2}.")
    if before:
        path.with_name("settings.yaml.before").write_text(before, encoding="utf-8")
    content = yaml.safe_dump({**written, "serving": {**group, **settings_of(candidate)}}, sort_keys=False)
    partial = path.with_name(".settings.yaml.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(content, encoding="utf-8")
    partial.replace(path)
    return path
