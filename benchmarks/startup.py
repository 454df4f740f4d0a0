"""How long Dagster's code location and `its --help` take to load, each in a process of its own.

    python benchmarks/startup.py

Peers: importing Dagster alone, and starting Python alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from figures import Comparison, Figure, Round, at_most, measure
from its_platform.settings import REPOSITORY
from its_platform.telemetry import Progress, no_progress
from workplace import command_of, own_home, run_alone

COMMAND = command_of("startup")
LOCATION = Comparison("code location loads", "import dagster", "s", at_most(3.0), COMMAND)
HELP = Comparison("its --help", "python -c pass", "s", at_most(0.5), COMMAND)
LOAD_LOCATION = "from its_platform.definitions import defs; defs.resolve_all_job_defs()"


def cost_of(*words: str) -> tuple[float, float]:
    """Wall seconds and CPU milliseconds of a command. Raises `RuntimeError` with its last words where it fails."""
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    wall_s, after = time.perf_counter() - began, os.times()
    if done.returncode != 0:
        raise RuntimeError(f"{words} failed: {done.stderr.strip()[-500:]}")
    used_s = after.children_user - before.children_user + after.children_system - before.children_system
    return wall_s, used_s * 1000


def round_of(ours: tuple[str, ...], peer: tuple[str, ...]) -> Round:
    (ours_s, cpu_ms), (peer_s, peer_cpu_ms) = cost_of(*ours), cost_of(*peer)
    return Round(ours_s, peer_s, cpu_ms, peer_cpu_ms)


def one_round() -> dict[str, Round]:
    python = (sys.executable, "-c")
    its = str(Path(sys.executable).parent / "its")
    return {
        LOCATION.name: round_of((*python, LOAD_LOCATION), (*python, "import dagster")),
        HELP.name: round_of((its, "--help"), (*python, "pass")),
    }


def figures(progress: Progress = no_progress) -> list[Figure]:
    with own_home():
        return measure([LOCATION, HELP], one_round, progress)


if __name__ == "__main__":
    raise SystemExit(run_alone(figures))
