"""How long `its up` takes until all is healthy, and what the stack holds and uses while nothing is asked of it.

    python benchmarks/stack.py

Both profiles, the services one where its servers are installed. A round starts the stack in an empty home, stops it,
starts it again in the same home, lets it come to rest and watches it for a minute; the profiles take turns at going
first. Nothing is served yet, and no camera is known: that is what an idle stack is here.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from figures import Comparison, Figure, Round, at_most, measure
from footprint import Footprint, footprints
from its_platform.settings import REPOSITORY, Settings, load_settings
from its_platform.stack import stop_stack
from its_platform.telemetry import Progress, no_progress
from workplace import command_of, own_home, run_alone, why_no_services

COMMAND = command_of("stack")
ITS = str(Path(sys.executable).parent / "its")
MOST_S = 60.0
ROUNDS, ATTEMPTS = 3, 2
SETTLE_S = 30.0
WATCHED_S = 60.0
"""Two looks of every sensor at their default pace, and of Prometheus four."""


def comparisons(profile: str) -> dict[str, Comparison]:
    """What is told of a profile, by what it is."""
    first, second = f"its up, empty home, {profile}", f"its up, second start, {profile}"
    return {
        "first": Comparison(first, "the second start", "s", at_most(MOST_S), COMMAND),
        "second": Comparison(second, "the first start", "s", at_most(MOST_S), COMMAND),
        "memory": Comparison(f"memory at rest, {profile}", None, "MB", None, COMMAND, split_unit="MB"),
        "cpu": Comparison(
            f"CPU at rest, {profile}", None, "CPU s a minute", None, COMMAND, split_unit="CPU s a minute"
        ),
    }


def figures(progress: Progress = no_progress) -> list[Figure]:
    profiles = ["embedded"]
    if missing := why_no_services():
        Console().print(f"services profile not run: {missing}", markup=False)
    else:
        profiles.append("services")
    wanted = [one for profile in profiles for one in comparisons(profile).values()]
    turns = itertools.cycle([profiles, profiles[::-1]])
    made = measure(wanted, partial(one_round, turns, progress), progress, rounds=ROUNDS, attempts=ATTEMPTS)
    Console().print(table(made, profiles))
    return made


def one_round(turns: Iterator[Sequence[str]], progress: Progress) -> dict[str, Round]:
    return {name: one for profile in next(turns) for name, one in two_lives(profile, progress).items()}


def two_lives(profile: str, progress: Progress) -> dict[str, Round]:
    """A first and a second start of one home, and the minute after."""
    with own_home():
        # The hourly build of the marts would fall into one minute of rest and not into another.
        os.environ["ITS_MARTS__EVERY_HOURS"] = "24"
        try:
            progress(profile, 0, 3, "first start")
            first_s, first_ms = start(profile)
            stop_stack(load_settings())
            progress(profile, 1, 3, "second start")
            second_s, second_ms = start(profile)
            progress(profile, 2, 3, "at rest")
            before, after = at_rest(load_settings())
            progress(profile, 3, 3)
        finally:
            stop_stack(load_settings())
    asked = comparisons(profile)
    memory = {name: one.memory_mb for name, one in after.items()}
    cpu = {name: (one.cpu_s - before[name].cpu_s) * 60 / WATCHED_S for name, one in after.items()}
    return {
        asked["first"].name: Round(first_s, second_s, first_ms, second_ms),
        asked["second"].name: Round(second_s, first_s, second_ms, first_ms),
        asked["memory"].name: Round(sum(memory.values()), split=memory),
        asked["cpu"].name: Round(sum(cpu.values()), split=cpu),
    }


def start(profile: str) -> tuple[float, float]:
    """Wall seconds of `its up`, and CPU milliseconds of it and of all that it started.

    Raises `RuntimeError` with its last words where it fails.
    """
    words = [ITS, "up", "--profile", profile]
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    wall_s, after = time.perf_counter() - began, os.times()
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} failed: {done.stderr.strip()[-1000:]}")
    used_s = after.children_user - before.children_user + after.children_system - before.children_system
    return wall_s, (used_s + sum(one.cpu_s for one in footprints(load_settings()).values())) * 1000


def at_rest(settings: Settings) -> tuple[dict[str, Footprint], dict[str, Footprint]]:
    """What the parts hold before and after a minute of rest. Raises `RuntimeError` where one was started again."""
    time.sleep(SETTLE_S)
    before = footprints(settings)
    time.sleep(WATCHED_S)
    after = footprints(settings)
    if {name: one.pid for name, one in before.items()} != {name: one.pid for name, one in after.items()}:
        raise RuntimeError("a part ended, or was started again, while the stack was to be at rest")
    if not all(one.is_shared_out for one in after.values()):
        Console().print("shared pages count for each process here: the kernel does not tell their shares")
    return before, after


def table(made: Sequence[Figure], profiles: Sequence[str]) -> Table:
    """Memory and CPU by part, a pair of columns for each profile."""
    splits = {one.name: one.split or {} for one in made}
    shown = Table("part", title="at rest")
    told = [splits[comparisons(profile)[what].name] for profile in profiles for what in ("memory", "cpu")]
    for profile in profiles:
        shown.add_column(f"{profile}, MB", justify="right")
        shown.add_column("CPU s a minute", justify="right")
    for part in sorted({part for split in told for part in split}):
        shown.add_row(part, *(f"{split[part]:.4g}" if part in split else "" for split in told))
    shown.add_row("all", *(f"{sum(split.values()):.4g}" for split in told))
    return shown


if __name__ == "__main__":
    raise SystemExit(run_alone(figures))
