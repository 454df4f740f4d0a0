"""Counts false alarms and found changes of the drift report on made-up logs; prints one line a case, then the sum.

Exits with 1 when more than one unchanged window in a hundred alarms. Three minutes for 100 windows on two cores.

    python benchmarks/drift_false_alarms.py [WINDOWS]

Each case: so many held-out blocks of so many frames a camera (three cameras), a window of so many frames a camera, and
how long traffic stays alike (tau). `alarms` are windows under unchanged conditions that were called drifted; the
promise is one in a hundred. The scores are multiples of the threshold.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from its_platform.monitoring import calibration, strata

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit" / "monitoring"))
import synthetic_log as synthetic

BLOCK_S = 20.0
CASES = {
    "10x9 held out, 120 live": (10, 9, 120),
    "4x8 held out, 30 live": (4, 8, 30),
    "5x3 held out, 20 live": (5, 3, 20),
}
CHANGES: dict[str, dict[str, object]] = {
    "night and fog": {"light": "night", "shift": -6.0, "missed": 0.5},
    "lens a little dull": {"shift": 1.0},
    "half of the objects missed": {"missed": 0.5},
}


def score(reference: object, window: object, method: str) -> float:
    classes = strata.common_classes(reference)  # type: ignore[arg-type]
    found = calibration.calibrate(
        strata.cells(window, reference, BLOCK_S),  # type: ignore[arg-type]
        strata.figures(window, classes),  # type: ignore[arg-type]
        strata.figures(reference, classes),  # type: ignore[arg-type]
        (strata.embeddings(window), strata.embeddings(reference)),  # type: ignore[arg-type]
        method,  # type: ignore[arg-type]
    )
    return max(column.ratio for column in found.columns.values())


def one(case: tuple[int, int, int], tau_s: float, method: str, seed: int, change: dict[str, object]) -> float:
    rng = np.random.default_rng(seed)
    blocks, per_block, live = case
    reference = synthetic.held_out(rng, blocks, per_block, tau_s=tau_s)
    return score(reference, synthetic.live(rng, live, tau_s=tau_s, **change), method)


@dataclass(frozen=True)
class Counted:
    line: str
    alarms: int


def count(method: str, name: str, tau_s: float, windows: int) -> Counted:
    """One line of the table, and how many of its unchanged windows alarmed."""
    case = CASES[name]
    quiet = np.array([one(case, tau_s, method, seed, {}) for seed in range(windows)])
    alarms = int((quiet >= 1).sum())
    line = f"{method:11} {name:24} tau {tau_s:2.0f} s: {alarms} alarms in {windows}"
    line += f" (median {np.median(quiet):.2f}, worst {quiet.max():.2f})"
    for change, how in CHANGES.items():
        seeds = range(10_000, 10_000 + max(4, windows // 20))
        found = np.array([one(case, tau_s, method, seed, how) for seed in seeds])
        line += f"; {change}: {np.mean(found >= 1):.0%} found, median {np.median(found):.1f}"
    return Counted(line, alarms)


def main(windows: int) -> int:
    """0 when no more than one unchanged window in a hundred alarmed, over all cases; else 1."""
    # The cases run beside each other, each on one core: matrices this small gain nothing from more.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    cases = [(method, name, tau_s) for method in ("psi", "wasserstein") for name in CASES for tau_s in (12.0, 30.0)]
    alarms = 0
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for counted in pool.map(count, *zip(*cases, strict=True), [windows] * len(cases)):
            alarms += counted.alarms
            sys.stdout.write(counted.line + "\n")
            sys.stdout.flush()
    asked = windows * len(cases)
    sys.stdout.write(f"false alarms: {alarms} in {asked} windows ({alarms / asked:.2%}); promised: at most 1 in 100\n")
    return int(alarms > asked / 100)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
