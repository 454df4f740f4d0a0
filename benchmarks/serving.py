"""What Triton costs: gRPC with uint8 against ONNX Runtime in process, and the front against the detector behind it.

    python benchmarks/serving.py

The detector is the starter checkpoint (yolo11n, fp32), exported anew at 640 and 320 px, on frames of the simulated
world. Ours and its peer do the same work on the same cores: letterboxed uint8 in, chosen boxes out, two sessions of one
thread each. CPU is that of every process that takes part: client, server, stubs. Pictures reach Triton over the wire,
as from another machine, and in shared memory, as from this one; both are measured. The front gets the camera's 640x360
picture rather than the finished square, and its peer is a client that fits that picture itself. The front's log is on:
four cameras of 25 frames a second, each embedded as often as the settings say. A round ends when the last row of the
log is written. The front's answer cache is on as it is by default, and no two pictures are alike, as from a living
camera; what it gives a frozen camera is a figure of its own.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count as counting
from multiprocessing import get_context
from os import getpid
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from figures import Comparison, Figure, Round, above_peer, measure, times_peer
from its_platform.contract import FORMATS, files_digest
from its_platform.model.embedder import export_embedder
from its_platform.model.export import export_detector
from its_platform.model.exported import DetectorFile, ExportedDetector, open_detector
from its_platform.model.letterbox import letterbox
from its_platform.serving.client import DetectorClient
from its_platform.serving.config import FRONT
from its_platform.serving.processes import running, stubs
from its_platform.serving.repository import place_version, route_of, write_routes
from its_platform.serving.server import start_triton, stop_triton
from its_platform.settings import STARTER_WEIGHTS, Settings
from its_platform.stores.registry import ModelVersion
from its_platform.telemetry import Progress, no_progress
from workplace import command_of, cpu_ms_of, own_home, run_alone

IMAGES = {640: 96, 320: 240}
# Within a round as well all six ways take turns: a machine's pace changes in less time than a round takes.
TURNS = 12
DETECTING = frozenset({"process", "detectors"})
WORKERS = 2
IN_FLIGHT = 3
CAMERAS = 4
FRAME_INTERVAL = timedelta(milliseconds=40)
LOG_WITHIN_S = 60.0
COMMAND = command_of("serving")
COST_SLACK_MS = 4.0
FRONT_SLACK_MS = 3.0
MOST_FRONT_COST = 1.05
FRONT_LATENCY_SLACK_MS = 3.0
LEAST_THROUGHPUT = 0.95
MOST_FROZEN_COST = 0.2
SERIAL_PIXELS = 2
SERIALS = counting(1)
FRAMES = counting()

Pictures = list[npt.NDArray[np.uint8]]
Ask = Callable[[DetectorClient, int], Awaitable[object]]


@dataclass(frozen=True)
class Served:
    """One detector: asked in this process through `workers`, or in Triton as `version`."""

    version: ModelVersion
    stage: str
    workers: list[ExportedDetector]
    squares: Pictures


@dataclass(frozen=True)
class Cost:
    """What a number of images took. split: CPU milliseconds an image, by who used them."""

    images_per_s: float
    split: Mapping[str, float]

    @property
    def cpu_ms(self) -> float:
        return sum(self.split.values())


def comparisons(size: int) -> dict[str, Comparison]:
    def of(name: str, **how: Any) -> Comparison:
        return Comparison(name=f"{name}, {size} px", command=COMMAND, **how)

    cost = {"unit": "CPU ms an image", "split_unit": "CPU ms an image"}
    found = {
        "cost": of(
            "Triton over gRPC",
            peer_name="ONNX Runtime in process",
            floor=above_peer(COST_SLACK_MS),
            **cost,
        ),
        "shared": of(
            "Triton through shared memory",
            peer_name="ONNX Runtime in process",
            floor=above_peer(COST_SLACK_MS),
            **cost,
        ),
        "front": of(
            "traffic_detector with its log",
            peer_name="fitting it oneself and asking the detector",
            floor=above_peer(FRONT_SLACK_MS),
            **cost,
        ),
        "latency": of(
            "traffic_detector with its log, one request at a time",
            peer_name="fitting it oneself and asking the detector",
            floor=above_peer(FRONT_LATENCY_SLACK_MS),
            unit="ms at the median",
        ),
    }
    if size == max(IMAGES):
        throughput = {
            "peer_name": "ONNX Runtime in process",
            "unit": "images/s",
            "floor": times_peer(LEAST_THROUGHPUT),
            "better": "higher",
        }
        found["throughput"] = of("Triton over gRPC, throughput", **throughput)
        found["shared throughput"] = of("Triton through shared memory, throughput", **throughput)
        found["share"] = of(
            "traffic_detector with its log, as a share",
            peer_name="fitting it oneself and asking the detector",
            floor=times_peer(MOST_FRONT_COST),
            **cost,
        )
        found["frozen"] = of(
            "traffic_detector, a frozen camera",
            peer_name="the same, a living one",
            floor=times_peer(MOST_FROZEN_COST),
            **cost,
        )
    return found


def figures(progress: Progress = no_progress) -> list[Figure]:
    with own_home() as settings, platform(settings, progress) as (served, pictures):
        log = Log(settings)
        wanted = [comparison for size in served for comparison in comparisons(size).values()]
        return measure(wanted, partial(one_round, settings, served, pictures, log), progress)


def one_round(settings: Settings, served: dict[int, Served], pictures: Pictures, log: Log) -> dict[str, Round]:
    rounds = {}
    for size, detector in served.items():
        rounds |= asyncio.run(round_of(settings, size, detector, pictures, log))
    return rounds


async def round_of(settings: Settings, size: int, detector: Served, pictures: Pictures, log: Log) -> dict[str, Round]:
    """In process, over the wire, through shared memory, so with fitting, through the front without and with its log."""
    names, share = comparisons(size), IMAGES[size] // TURNS
    detect, fit = partial(ask_detector, detector), partial(fit_and_ask, detector, pictures)
    silent, live = (partial(ask_front, detector, pictures, purpose) for purpose in ("probe", "live"))
    async with (
        DetectorClient(over_the_wire(settings), deadline_s=60.0) as wire,
        DetectorClient(settings, deadline_s=60.0) as local,
    ):
        ways: dict[str, Callable[[], Awaitable[Cost]]] = {
            "raw": partial(asyncio.to_thread, in_process, detector, share),
            "wired": partial(asked, settings, wire, share, detect),
            "direct": partial(asked, settings, local, share, detect),
            "fitted": partial(asked, settings, local, share, fit),
            "silent": partial(asked, settings, local, share, silent),
            "logged": partial(asked, settings, local, share, live, log),
        }
        costs: dict[str, list[Cost]] = {name: [] for name in ways}
        for client, ask in ((wire, detect), (local, detect), (local, silent)):
            await ask(client, 0)
        for turn in range(TURNS):
            # Each finds the machine as the one before it left it, so that the order goes round.
            for name in [*list(ways)[turn % len(ways) :], *list(ways)[: turn % len(ways)]]:
                costs[name].append(await ways[name]())
        found = {name: together(each) for name, each in costs.items()}
        raw, direct, fitted, logged = (found[name] for name in ("raw", "direct", "fitted", "logged"))
        rounds = {}
        for name, cost in (("cost", found["wired"]), ("shared", direct)):
            rounds[names[name].name] = Round(cost.cpu_ms, raw.cpu_ms, cost.cpu_ms, raw.cpu_ms, cost.split)
        split = {**logged.split, "of which the log": logged.cpu_ms - found["silent"].cpu_ms}
        for name in {"front", "share"} & names.keys():
            rounds[names[name].name] = Round(logged.cpu_ms, fitted.cpu_ms, logged.cpu_ms, fitted.cpu_ms, split)
        through, straight = await one_at_a_time(local, share * TURNS // 2, detector, pictures, log)
        rounds[names["latency"].name] = Round(through, straight)
        for name, cost in (("throughput", found["wired"]), ("shared throughput", direct)):
            if name in names:
                rounds[names[name].name] = Round(cost.images_per_s, raw.images_per_s, cost.cpu_ms, raw.cpu_ms)
        if "frozen" in names:
            still = partial(ask_front, detector, pictures[:1], "live", is_frozen=True)
            frozen = await asked(settings, local, share * TURNS, still, log)
            rounds[names["frozen"].name] = Round(
                frozen.cpu_ms, logged.cpu_ms, frozen.cpu_ms, logged.cpu_ms, frozen.split
            )
        return rounds


def together(costs: Sequence[Cost]) -> Cost:
    """Turns of the same length as one.

    Of detecting, which is the same work for each picture, the median: whoever shares the machine slows a second of one
    way and not of the others. Of all else the mean, since the log embeds a camera in one turn of many.
    """
    split = {
        who: (statistics.median if who in DETECTING else statistics.fmean)([cost.split[who] for cost in costs])
        for who in costs[0].split
    }
    return Cost(statistics.median(cost.images_per_s for cost in costs), split)


def over_the_wire(settings: Settings) -> Settings:
    """The same, for a client that hands no picture over in shared memory."""
    return settings.model_copy(update={"serving": settings.serving.model_copy(update={"shared_memory": False})})


def in_process(detector: Served, count: int) -> Cost:
    """Two workers, a runtime of one thread each, take images as they get to them."""

    def work(worker: int) -> None:
        for number in range(worker, count, WORKERS):
            detector.workers[worker].detect(detector.squares[number % len(detector.squares)][None])

    before, began = cpu_ms_of([getpid()]), time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, range(WORKERS)))
    wall_s = time.perf_counter() - began
    return Cost(count / wall_s, {"process": (cpu_ms_of([getpid()]) - before) / count})


async def over_grpc(settings: Settings, count: int, ask: Ask) -> Cost:
    """The cost of so many requests by a client of their own, after one that is not counted."""
    async with DetectorClient(settings, deadline_s=60.0) as client:
        await ask(client, 0)
        return await asked(settings, client, count, ask)


async def asked(settings: Settings, client: DetectorClient, count: int, ask: Ask, log: Log | None = None) -> Cost:
    """So many requests are under way at once; with a log, the CPU counts until its last row is written."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await ask(client, number)

    processes = _processes(settings)
    before = {who: cpu_ms_of(pids) for who, pids in processes.items()}
    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    wall_s = time.perf_counter() - began
    # The client has done its part; looking for the log's rows is the benchmark's own work.
    client_ms = cpu_ms_of(processes["client"]) - before["client"]
    if log is not None:
        log.wait_for(count)
    used = {who: cpu_ms_of(pids) - before[who] for who, pids in processes.items()} | {"client": client_ms}
    split = {who: spent / count for who, spent in used.items()}
    return Cost(count / wall_s, split)


async def one_at_a_time(
    client: DetectorClient, count: int, detector: Served, pictures: Pictures, log: Log
) -> tuple[float, float]:
    """Milliseconds at the median that a lone caller waits: at the front, and when he fits and asks the detector."""
    waited: dict[str, list[float]] = {"front": [], "detector": []}
    ways = {
        "front": partial(ask_front, detector, pictures, "live"),
        "detector": partial(fit_and_ask, detector, pictures),
    }
    for number in range(count):
        for name, ask in ways.items():
            began = time.perf_counter()
            await ask(client, number)
            waited[name].append((time.perf_counter() - began) * 1000)
    log.wait_for(count)
    return statistics.median(waited["front"]), statistics.median(waited["detector"])


async def ask_detector(detector: Served, client: DetectorClient, number: int) -> None:
    await ask_with(detector, client, detector.squares[number % len(detector.squares)])


async def fit_and_ask(detector: Served, pictures: Pictures, client: DetectorClient, number: int) -> None:
    square, _ = letterbox(pictures[number % len(pictures)], detector.workers[0].about.image_size)
    await ask_with(detector, client, square)


async def ask_with(detector: Served, client: DetectorClient, square: npt.NDArray[np.uint8]) -> None:
    route = route_of(detector.version)
    await client.infer_detector(route.model, route.version, square)


async def ask_front(
    detector: Served, pictures: Pictures, purpose: str, client: DetectorClient, number: int, is_frozen: bool = False
) -> None:
    picture = pictures[number % len(pictures)]
    if not is_frozen:
        # A picture that was never seen before, whatever the round; there are more of them than requests under way.
        picture[0, :SERIAL_PIXELS] = np.frombuffer(next(SERIALS).to_bytes(SERIAL_PIXELS * 3, "big"), np.uint8).reshape(
            SERIAL_PIXELS, 3
        )
    # The cameras' time goes on from turn to turn, so that each is measured and embedded as often as it would be live.
    frame = next(FRAMES) if purpose == "live" else number
    await client.detect(
        picture,
        camera_id=f"camera-{frame % CAMERAS}",
        captured_at=datetime(2026, 1, 1, tzinfo=UTC) + FRAME_INTERVAL * (frame // CAMERAS),
        stage=detector.stage,
        purpose=purpose,
    )


class Log:
    """The front's log, of which so many more rows are waited for each time."""

    def __init__(self, settings: Settings) -> None:
        self._spool = settings.spool
        self._seen = 0

    def wait_for(self, rows: int) -> None:
        """Raises `RuntimeError` when they do not come, which a lost row would cause."""
        self._seen += rows
        end = time.monotonic() + LOG_WITHIN_S
        while (found := self._rows()) < self._seen:
            if time.monotonic() > end:
                raise RuntimeError(f"the front logged {found} of {self._seen} rows")
            time.sleep(0.1)

    def _rows(self) -> int:
        rows = 0
        for path in self._spool.glob("predictions-*"):
            try:
                rows += path.read_bytes().count(b"\n")
            except FileNotFoundError:
                # Renamed since it was listed, so that this count is too low; the next one is not.
                continue
        return rows


@contextmanager
def platform(settings: Settings, progress: Progress) -> Iterator[tuple[dict[int, Served], Pictures]]:
    """A Triton that serves both detectors, and the pictures to ask it with."""
    progress("serving, export", 0, len(IMAGES) + 1)
    # As in the front, where it costs less: the peer fits its pictures no dearer.
    cv2.setNumThreads(1)
    pictures = street_pictures()
    served = {}
    # The export loads PyTorch, which would stand beside the sessions that are measured.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(export_embedder, settings).result()
        for number, size in enumerate(IMAGES):
            path = settings.home / f"{size}.onnx"
            about = pool.submit(export_detector, STARTER_WEIGHTS, path, size).result()
            version = version_of(about, path)
            place_version(settings, version, path)
            squares = [letterbox(picture, size)[0] for picture in pictures]
            workers = [open_detector(path, threads=1) for _ in range(WORKERS)]
            served[size] = Served(version, "production" if number == 0 else "staging", workers, squares)
            progress("serving, export", number + 1, len(IMAGES) + 1, f"{size} px")
    write_routes(settings, {one.stage: route_of(one.version) for one in served.values()})
    start_triton(settings)
    progress("serving, export", len(IMAGES) + 1, len(IMAGES) + 1, "Triton answers")
    try:
        yield served, pictures
    finally:
        stop_triton(settings)


def street_pictures() -> Pictures:
    from its_platform.simulation import render

    views = ("junction", "boulevard", "motorway")
    return [render(view, 1, float(at_s)).image for view in views for at_s in range(0, 40, 10)]


def version_of(about: DetectorFile, path: Path, format_name: str = "onnx") -> ModelVersion:
    """What a registry would say of an exported file."""
    files = [path.with_suffix(Path(name).suffix) for name in FORMATS[format_name].files]
    return ModelVersion(
        name="traffic-detector",
        version=1,
        run_id="benchmark",
        digest=about.digest,
        dataset_version="none",
        family=about.family,
        image_size=about.image_size,
        classes=list(about.classes),
        thresholds={},
        onnx_digest=files_digest(files),
        format=format_name,
    )


def _processes(settings: Settings) -> dict[str, list[int]]:
    """Who takes part: the client, which is this process, the server, and the stubs of detectors and front."""
    server, alive = running(settings), stubs(settings)
    return {
        "client": [getpid()],
        "tritonserver": [server.pid] if server else [],
        "detectors": [stub.pid for stub in alive if stub.model != FRONT],
        "front": [stub.pid for stub in alive if stub.model == FRONT],
    }


if __name__ == "__main__":
    raise SystemExit(run_alone(figures))
