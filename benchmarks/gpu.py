"""The detector on a GPU: what a batch saves, how long one picture takes, and what a TensorRT plan makes of it.

    python benchmarks/gpu.py

The starter checkpoint at 320 px on frames of the simulated world. PyTorch's pictures lie on the GPU already, and its
answers are raw; the plan's are brought there, and chosen boxes come back. Without an NVIDIA GPU nothing is measured,
and a line says so; without the package `tensorrt` its figure is left out. Whether answers are right is told by
`tests/gpu`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from figures import Comparison, Figure, Round, at_most, measure, times_peer
from its_platform.model.letterbox import letterbox
from its_platform.settings import STARTER_WEIGHTS
from its_platform.telemetry import Progress, no_progress
from serving import street_pictures
from workplace import command_of, run_alone

SIZE = 320
BATCHES = (1, 2, 4, 8, 16, 32)
REPEATS = 30
BATCH_GAIN = 2.0
FRAME_MS = 40.0  # a camera of 25 frames a second
COMMAND = command_of("gpu")
BATCH = Comparison(
    name=f"images in batches of {BATCHES[-1]}, {SIZE} px",
    peer_name="one at a time",
    unit="images/s",
    floor=times_peer(BATCH_GAIN),
    command=COMMAND,
    better="higher",
)
ALONE = Comparison(
    name=f"one picture, PyTorch in FP16, {SIZE} px",
    peer_name="a frame's time at 25 a second",
    unit="ms",
    floor=at_most(FRAME_MS),
    command=COMMAND,
)
PLAN = Comparison(
    name=f"one picture, TensorRT plan, {SIZE} px",
    peer_name="PyTorch in FP16",
    unit="ms",
    floor=times_peer(1.0),
    command=COMMAND,
)


@dataclass(frozen=True)
class Contestants:
    """The network in PyTorch and, where it can be built, the plan: each answers a batch of so many pictures."""

    network: Callable[[int], None]
    plan: Callable[[int], None] | None


def figures(progress: Progress = no_progress) -> list[Figure]:
    import torch

    if not torch.cuda.is_available():
        Console().print("not run: no NVIDIA GPU that PyTorch can use")
        return []
    with TemporaryDirectory(prefix="its-bench-") as folder:
        made = Contestants(_network(), _plan(Path(folder)))
        wanted = [BATCH, ALONE] if made.plan is None else [BATCH, ALONE, PLAN]
        curves: list[dict[int, float]] = []
        found = measure(wanted, partial(one_round, made, curves), progress)
        Console().print(table(curves))
        return found


def one_round(made: Contestants, curves: list[dict[int, float]]) -> dict[str, Round]:
    curve = {size: batch_ms(made.network, size) for size in BATCHES}
    curves.append(curve)
    most = BATCHES[-1]
    rounds = {
        BATCH.name: Round(most * 1000 / curve[most], 1000 / curve[1]),
        ALONE.name: Round(curve[1], FRAME_MS),
    }
    if made.plan is not None:
        rounds[PLAN.name] = Round(batch_ms(made.plan, 1), curve[1])
    return rounds


def batch_ms(answer: Callable[[int], None], size: int) -> float:
    """Milliseconds of one batch, after a few that do not count."""
    import torch

    for _ in range(5):
        answer(size)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(REPEATS):
        answer(size)
    torch.cuda.synchronize()
    return (time.perf_counter() - began) * 1000 / REPEATS


def table(curves: list[dict[int, float]]) -> Table:
    """The batching curve of PyTorch: medians of the rounds."""
    shown = Table("batch", "ms a batch", "images/s")
    for size in BATCHES:
        taken = float(np.median([curve[size] for curve in curves]))
        shown.add_row(str(size), f"{taken:.2f}", f"{size * 1000 / taken:.0f}")
    return shown


def _network() -> Callable[[int], None]:
    import torch

    from its_platform.model.export import inference_network

    network: Any = inference_network(STARTER_WEIGHTS)[0].cuda().half()
    squares = np.stack([letterbox(picture, SIZE)[0] for picture in street_pictures()])
    given = {}
    for size in BATCHES:
        batch = np.resize(squares, (size, *squares.shape[1:])).transpose(0, 3, 1, 2).copy()
        given[size] = torch.from_numpy(batch).cuda().half() / 255

    def answer(size: int) -> None:
        with torch.inference_mode():
            network(given[size])

    return answer


def _plan(folder: Path) -> Callable[[int], None] | None:
    from its_platform.model.export import export_detector
    from its_platform.model.exported import open_detector
    from its_platform.model.tensorrt_plan import export_tensorrt, missing_for_tensorrt

    if missing := missing_for_tensorrt():
        Console().print(f"TensorRT not run: {' and '.join(missing)} is missing")
        return None
    export_detector(STARTER_WEIGHTS, folder / "model.onnx", SIZE)
    export_tensorrt(folder / "model.onnx", folder / "model.plan")
    detector = open_detector(folder / "model.plan")
    picture = np.stack([letterbox(street_pictures()[0], SIZE)[0]])

    def answer(size: int) -> None:
        detector.detect(np.repeat(picture, size, axis=0))

    return answer


if __name__ == "__main__":
    raise SystemExit(run_alone(figures))
