"""Run the benchmarks, print their figures, write them to `home/bench.json`, and fail where a floor fails.

    python benchmarks/run.py

Each is measured in interleaved rounds, ours beside its peer, and the median counts: these machines are noisy. The
format of the file is in `docs/schemas/bench.json`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from its_platform.settings import load_settings

ROUNDS = 5
ITS = str(Path(sys.executable).parent / "its")


@dataclass(frozen=True)
class Figure:
    """One figure. `peer` is what it is compared with in the same run, `floor` the worst allowed of ours."""

    name: str
    ours: float
    peer: float
    unit: str
    floor: float
    rounds: int
    spread: float
    passed: bool
    command: str


def seconds_of(*words: str) -> Callable[[], float]:
    def run() -> float:
        began = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - began

    return run


def at_most(name: str, ours: Callable[[], float], peer: Callable[[], float], unit: str, floor: float) -> Figure:
    """Measure both in turn; passes when our median is at most `floor`."""
    mine, theirs = [], []
    for _ in range(ROUNDS):
        mine.append(ours())
        theirs.append(peer())
    median = statistics.median(mine)
    spread = (max(mine) - min(mine)) / median
    return Figure(
        name,
        round(median, 4),
        round(statistics.median(theirs), 4),
        unit,
        floor,
        ROUNDS,
        round(spread, 3),
        median <= floor,
        "make bench",
    )


def main() -> int:
    bare = seconds_of(sys.executable, "-c", "import dagster")
    python = seconds_of(sys.executable, "-c", "pass")
    location = seconds_of(
        sys.executable, "-c", "from its_platform.definitions import defs; defs.resolve_all_job_defs()"
    )
    figures = [
        at_most("code location loads (peer: dagster alone)", location, bare, "s", 3.0),
        at_most("its --help (peer: python alone)", seconds_of(ITS, "--help"), python, "s", 0.5),
    ]
    path = load_settings().home / "bench.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n", "utf-8")
    table = Table("what", "ours", "peer", "floor", "spread", "passed")
    for figure in figures:
        values = (f"{figure.ours} {figure.unit}", f"{figure.peer}", f"{figure.floor}", f"{figure.spread}")
        table.add_row(figure.name, *values, "yes" if figure.passed else "NO")
    Console().print(table)
    return 0 if all(figure.passed for figure in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
