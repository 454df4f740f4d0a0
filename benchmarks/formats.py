"""The formats of one detector beside PyTorch: images a second, CPU, accuracy; what Triton adds to int8 and OpenVINO.

    python benchmarks/formats.py

The detector is the starter checkpoint, at 640 px, 320 px and 320x192, on frames of the simulated world whose boxes are
known. In process: two workers with a runtime of one thread each, letterboxed uint8 in, chosen boxes out, PyTorch too
(in a process of its own, with Ultralytics' NMS). int8 is calibrated on frames of other cameras than those that judge.
The best format is the one that the platform would choose: the least CPU time an image of those that lose no more AP50
than the settings allow. A table of all of them stands before the figures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from figures import Comparison, Figure, Round, above_peer, measure, times_peer
from its_platform.contract import FORMATS, ImageSize, size_text
from its_platform.model.exported import DetectorFile, open_detector
from its_platform.model.format_choice import FormatFigures, fastest
from its_platform.model.formats import measure_costs
from its_platform.model.letterbox import fit_of, letterbox, to_picture
from its_platform.model.scoring import ANY_CLASS, score_detections
from its_platform.serving.repository import place_version, route_of, write_routes
from its_platform.serving.server import start_triton, stop_triton
from its_platform.settings import STARTER_WEIGHTS, GateSettings, Settings
from its_platform.telemetry import Progress, no_progress
from serving import WORKERS, Cost, Pictures, Served, ask_detector, in_process, over_grpc, street_pictures, version_of
from workplace import command_of, own_home, run_alone

SIZES: tuple[ImageSize, ...] = (640, 320, (192, 320))
IMAGES = {640: 24, 320: 60, (192, 320): 80}
MADE = ("onnx", "onnx-int8", "openvino")
COST_SLACK_MS = 4.0
LEAST_THROUGHPUT = {"onnx-int8": 0.92, "openvino": 0.85}
JUDGED = [(view, seed) for view in ("junction", "boulevard", "motorway") for seed in (1, 2)]
TAUGHT = [(f"camera-{number}", 1000 + number) for number in range(8)]
CLASSES: tuple[str, ...] = Settings.model_fields["classes"].default
COMMAND = command_of("formats")

Boxes = list[npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Accuracy:
    map50: float
    any_class_ap50: float


@dataclass(frozen=True)
class Frames:
    """Pictures with their true boxes `[k, 5]`, and the pictures that int8 is calibrated on."""

    pictures: Pictures
    truth: Boxes
    calibration: Pictures


@dataclass(frozen=True)
class Bench:
    """The detectors by size and format, what each finds (PyTorch as `pytorch`), and the process that PyTorch is in."""

    served: dict[tuple[ImageSize, str], Served]
    accuracy: dict[tuple[ImageSize, str], Accuracy]
    best: dict[ImageSize, str]
    torch: ProcessPoolExecutor


def figures(progress: Progress = no_progress) -> list[Figure]:
    with own_home() as settings, bench(settings, progress) as made:
        wanted = [one for size in SIZES for one in comparisons(made, size).values()]
        rounds: list[dict[tuple[ImageSize, str], Cost]] = []
        found = measure(wanted, partial(one_round, settings, made, rounds), progress)
        Console().print(table(made, rounds))
        return found


def comparisons(made: Bench, size: ImageSize) -> dict[str, Comparison]:
    """What is compared at a size, by a short name."""
    px, best = f"{size_text(size)} px", made.best[size]
    tolerance = GateSettings().format_tolerance

    def of(name: str, peer_name: str = "PyTorch in process", **how: Any) -> Comparison:
        return Comparison(name=f"{name}, {px}", peer_name=peer_name, command=COMMAND, **how)

    found = {
        "speed": of(f"best CPU format ({best})", unit="images/s", floor=times_peer(1.0), better="higher"),
        "map50": of(f"mAP50 of {best}", unit="AP50", floor=above_peer(-tolerance), better="higher"),
        "any_class": of(f"AP50 of any class of {best}", unit="AP50", floor=above_peer(-tolerance), better="higher"),
    }
    for name in LEAST_THROUGHPUT if isinstance(size, int) else ():
        raw = f"{name} in process"
        found[f"cost {name}"] = of(
            f"Triton over gRPC, {name}",
            raw,
            unit="CPU ms an image",
            floor=above_peer(COST_SLACK_MS),
            split_unit="CPU ms an image",
        )
        if size == 640:
            found[f"throughput {name}"] = of(
                f"Triton over gRPC, {name}, throughput",
                raw,
                unit="images/s",
                floor=times_peer(LEAST_THROUGHPUT[name]),
                better="higher",
            )
    return found


def one_round(settings: Settings, made: Bench, rounds: list[dict[tuple[ImageSize, str], Cost]]) -> dict[str, Round]:
    costs: dict[tuple[ImageSize, str], Cost] = {}
    taken: dict[str, Round] = {}
    for size in SIZES:
        names, count, best = comparisons(made, size), IMAGES[size], made.best[size]
        costs[size, "pytorch"] = torch = made.torch.submit(_torch_round, size, count).result()
        for name in MADE:
            costs[size, name] = in_process(made.served[size, name], count)
        ours = costs[size, best]
        taken[names["speed"].name] = Round(ours.images_per_s, torch.images_per_s, ours.cpu_ms, torch.cpu_ms)
        own, peer = made.accuracy[size, best], made.accuracy[size, "pytorch"]
        taken[names["map50"].name] = Round(own.map50, peer.map50)
        taken[names["any_class"].name] = Round(own.any_class_ap50, peer.any_class_ap50)
        for name in LEAST_THROUGHPUT if isinstance(size, int) else ():
            served, raw = made.served[size, name], costs[size, name]
            direct = asyncio.run(over_grpc(settings, count, partial(ask_detector, served)))
            cost = names[f"cost {name}"].name
            taken[cost] = Round(direct.cpu_ms, raw.cpu_ms, direct.cpu_ms, raw.cpu_ms, direct.split)
            if f"throughput {name}" in names:
                taken[names[f"throughput {name}"].name] = Round(
                    direct.images_per_s, raw.images_per_s, direct.cpu_ms, raw.cpu_ms
                )
    rounds.append(costs)
    return taken


def table(made: Bench, rounds: Sequence[Mapping[tuple[ImageSize, str], Cost]]) -> Table:
    """Every format at every size: medians of the rounds, and what it finds."""
    shown = Table("size", "format", "images/s", "CPU ms an image", "mAP50", "AP50 of any class", "")
    for size in SIZES:
        for name in ("pytorch", *MADE):
            costs, found = [one[size, name] for one in rounds], made.accuracy[size, name]
            shown.add_row(
                size_text(size),
                name,
                f"{np.median([one.images_per_s for one in costs]):.1f}",
                f"{np.median([one.cpu_ms for one in costs]):.1f}",
                f"{found.map50:.3f}",
                f"{found.any_class_ap50:.3f}",
                "best" if name == made.best[size] else "",
            )
    return shown


@contextmanager
def bench(settings: Settings, progress: Progress) -> Iterator[Bench]:
    """Every format at every size, judged, with a Triton that serves those that are asked through it."""
    frames, steps = _frames(), len(SIZES) + 1
    served: dict[tuple[ImageSize, str], Served] = {}
    accuracy: dict[tuple[ImageSize, str], Accuracy] = {}
    # What loads PyTorch is another process: its threads would stand beside those that are measured.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as torch:
        for number, size in enumerate(SIZES):
            progress("formats, export", number, steps, size_text(size))
            folder = settings.home / size_text(size)
            fitted = [letterbox(picture, size)[0] for picture in frames.calibration]
            about = torch.submit(_export, folder, size, np.stack(fitted)).result()
            squares = [letterbox(picture, size)[0] for picture in street_pictures()]
            for name in MADE:
                path = folder / name / FORMATS[name].file
                version = version_of(about, path, name)
                place_version(settings, version, path)
                workers = [open_detector(path, threads=1) for _ in range(WORKERS)]
                served[size, name] = Served(version, f"{name}-{size_text(size)}", workers, squares)
                found = [workers[0].detect(letterbox(one, size)[0][None])[0] for one in frames.pictures]
                accuracy[size, name] = _accuracy(about, frames, found, size)
            found = torch.submit(_torch_boxes, [letterbox(one, size)[0] for one in frames.pictures]).result()
            accuracy[size, "pytorch"] = _accuracy(about, frames, found, size)
        progress("formats, export", len(SIZES), steps, "cost")
        best = _best(settings.home, served, accuracy)
        asked = [one for (size, name), one in served.items() if name in LEAST_THROUGHPUT and isinstance(size, int)]
        write_routes(settings, {one.stage: route_of(one.version) for one in asked})
        start_triton(settings)
        progress("formats, export", steps, steps, "Triton answers")
        try:
            yield Bench(served, accuracy, best, torch)
        finally:
            stop_triton(settings)


def _best(
    folder: Path, served: Mapping[tuple[ImageSize, str], Served], accuracy: Mapping[tuple[ImageSize, str], Accuracy]
) -> dict[ImageSize, str]:
    """The format that would be served at each size."""
    best: dict[ImageSize, str] = {}
    for size in SIZES:
        peer, tolerance = accuracy[size, "pytorch"], GateSettings().format_tolerance
        files = {name: folder / size_text(size) / name / FORMATS[name].file for name in MADE}
        costs = measure_costs(files, np.stack(served[size, "onnx"].squares))
        found = []
        for name in MADE:
            own = accuracy[size, name]
            loss = max(peer.map50 - own.map50, peer.any_class_ap50 - own.any_class_ap50)
            objection = f"it loses {loss:.3f} of AP50" if loss > tolerance else ""
            found.append(
                FormatFigures(name, None, own.map50, own.any_class_ap50, loss, 1.0, costs[name], objection=objection)
            )
        best[size] = fastest(found)[0].format
    return best


def _frames() -> Frames:
    from its_platform.simulation import render

    judged = [render(view, seed, float(at_s)) for view, seed in JUDGED for at_s in range(0, 80, 10)]
    taught = [render(view, seed, float(at_s)).image for view, seed in TAUGHT for at_s in range(0, 60, 10)]
    truth = [
        np.array([[box.x1, box.y1, box.x2, box.y2, CLASSES.index(box.class_name)] for box in one.boxes], np.float32)
        for one in judged
    ]
    return Frames([one.image for one in judged], [one.reshape(-1, 5) for one in truth], taught)


def _accuracy(about: DetectorFile, frames: Frames, found: Sequence[Any], size: ImageSize) -> Accuracy:
    own = []
    for rows, picture in zip(found, frames.pictures, strict=True):
        height, width = picture.shape[:2]
        rows = rows[rows[:, 4] > 0]
        boxes = to_picture(rows[:, :4], fit_of(height, width, size), height, width)
        named = [CLASSES.index(about.classes[int(number)]) for number in rows[:, 5]]
        own.append(np.concatenate([boxes, rows[:, 4:5], np.array(named, np.float32)[:, None]], axis=1))
    scores = score_detections(frames.truth, own, CLASSES, rounds=0)
    by_class = {score.class_name: score.ap50 for score in scores if score.slice == "all"}
    return Accuracy(by_class[None], by_class[ANY_CLASS])


def _export(folder: Path, size: ImageSize, calibration: npt.NDArray[np.uint8]) -> DetectorFile:
    from its_platform.model.export import export_detector
    from its_platform.model.int8 import export_int8
    from its_platform.model.openvino_ir import export_openvino

    onnx = folder / "onnx" / "model.onnx"
    about = export_detector(STARTER_WEIGHTS, onnx, size)
    export_int8(onnx, folder / "onnx-int8" / "model.onnx", calibration)
    export_openvino(onnx, folder / "openvino" / "model.xml")
    return about


def _torch_boxes(squares: Pictures) -> Boxes:
    from its_platform.model.export import own_detections

    return own_detections(STARTER_WEIGHTS, np.stack(squares), 0.7)


def _torch_round(size: ImageSize, count: int) -> Cost:
    """PyTorch's turn, in its own process: two threads with a network of one thread each."""
    import torch

    from its_platform.model.export import chosen_boxes, inference_network

    torch.set_num_threads(1)
    if not _networks:
        _networks.extend(inference_network(STARTER_WEIGHTS) for _ in range(WORKERS))
    squares = [letterbox(picture, size)[0] for picture in street_pictures()]

    def work(worker: int) -> None:
        network, head, _ = _networks[worker]
        with torch.inference_mode():
            for number in range(worker, count, WORKERS):
                square = squares[number % len(squares)]
                picture = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255
                chosen_boxes(network(picture), head, square.shape[:2], 0.7)

    with ThreadPoolExecutor(WORKERS) as pool:
        if size not in _warm:
            list(pool.map(work, range(WORKERS)))
            _warm.add(size)
        before, began = time.process_time(), time.perf_counter()
        list(pool.map(work, range(WORKERS)))
        wall_s = time.perf_counter() - began
    return Cost(count / wall_s, {"process": (time.process_time() - before) * 1000 / count})


_networks: list[Any] = []
_warm: set[ImageSize] = set()


if __name__ == "__main__":
    raise SystemExit(run_alone(figures))
