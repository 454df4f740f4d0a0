"""What taking a video in costs against bare decoding by PyAV, and where it goes.

    python benchmarks/ingest.py

The videos are filmed here: a simulated road, as it is (640x360) and enlarged to 1920x1080 with a sensor's noise. With
`ITS_TEST_DATA` two real ones come along. Each frame of a video is taken in, by the function that Dagster's `raw_frames`
calls; the peer decodes the same file to RGB and drops the pictures. The split is CPU time, taken round the functions
that do the work; decoding is what a decoder alone needs, and `rest` is what none of them accounts for. The quality
figures are measured by themselves on one thread.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from figures import Comparison, Figure, Round, at_most, measure, times_peer
from its_platform.cameras import Camera, add_camera
from its_platform.frames import index, quality, sources, video
from its_platform.frames import ingest as ingesting
from its_platform.frames.images import Image
from its_platform.settings import Settings
from its_platform.stores import Stores
from its_platform.stores.objects import DirectoryStore
from its_platform.telemetry import Progress, no_progress
from workplace import command_of, open_own_stores, own_home, run_alone, test_data

COMMAND = command_of("ingest")
FRAMES = 50
FPS = 25
NOISE_GREY_LEVELS = 3.0
LARGE = (1920, 1080)
REAL = ("ozlu_input.mp4", "intel_car-detection.mp4")
REAL_FRAMES = 120
QUALITY_MS = 3.0
QUALITY_CALLS = 30
TIMES_DECODING = 12.0
"""JPEG both ways, SHA-256, the figures and a synchronised file for each frame, against a decoder that drops them."""

_numbers = count()


def comparison_of(name: str) -> Comparison:
    return Comparison(
        f"ingest, {name}",
        "PyAV decoding to RGB",
        "CPU ms a frame",
        times_peer(TIMES_DECODING),
        COMMAND,
        split_unit="CPU ms a frame",
    )


QUALITY = Comparison(
    "quality figures, 1920x1080",
    "telling whether anything changed",
    "CPU ms a frame",
    at_most(QUALITY_MS),
    COMMAND,
    split_unit="CPU ms a frame",
)


def figures(progress: Progress = no_progress) -> list[Figure]:
    with own_home() as settings:
        videos = _videos(settings, progress)
        stores = open_own_stores(settings)

        # The first ingest of a process loads the table format and starts the threads that write.
        ingest_round(stores, videos["640x360"])

        def one_round() -> dict[str, Round]:
            rounds = {comparison_of(name).name: ingest_round(stores, path) for name, path in videos.items()}
            return {**rounds, QUALITY.name: quality_round()}

        return measure([QUALITY, *map(comparison_of, videos)], one_round, progress)


def ingest_round(stores: Stores, path: Path) -> Round:
    """Decode the file, then take it in as a camera of its own."""
    frames, decoding_ms = cpu_of(lambda: decode(path, is_to_rgb=False))
    _, peer_ms = cpu_of(lambda: decode(path, is_to_rgb=True))
    camera = Camera(
        camera_id=f"bench-{next(_numbers)}",
        source=f"file://{path}",
        site="benchmark",
        privacy="none",
        sample_interval_s=0.0,
    )
    add_camera(stores, camera)
    with split_of_ingest() as split:
        result, ours_ms = cpu_of(lambda: ingesting.ingest(stores, camera.camera_id))
    seen = result.added + result.duplicates
    if seen != frames:
        raise RuntimeError(f"{path}: {frames} frames are decoded and {seen} were taken in")
    # Objects are written by threads beside it, whose CPU is in the whole as well.
    parts = {"decode": decoding_ms, **split}
    parts["rest"] = max(0.0, ours_ms - sum(parts.values()))
    ours, peer = ours_ms / frames, peer_ms / frames
    return Round(ours, peer, ours, peer, {part: spent / frames for part, spent in parts.items()})


def quality_round() -> Round:
    """Figures and light of a 1080p picture; the peer is its comparison with the one before it. On one thread."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        picture = enlarged(filmed(0.0), np.random.default_rng(0))
        before = quality.signature(picture, 1.0)
        numbers = quality.figures(picture)
        split = {
            "figures": _mean_ms(lambda: quality.figures(picture)),
            "light": _mean_ms(lambda: quality.light_of(numbers)),
        }
        ours = sum(split.values())
        peer = _mean_ms(lambda: quality.signature(picture, 1.0)) + _mean_ms(lambda: quality.compare(before, before))
        return Round(ours, peer, ours, peer, split)
    finally:
        cv2.setNumThreads(threads)


@contextmanager
def split_of_ingest() -> Iterator[dict[str, float]]:
    """CPU milliseconds by part, while the block runs. A part that calls another is told without it."""
    spent: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        for part, owner, name in (
            ("to RGB", video, "to_rgb"),
            ("JPEG encoding", sources, "encode"),
            ("JPEG decoding", sources, "decode"),
            ("hash", ingesting, "content_hash"),
            ("quality figures", quality, "figures"),
            ("duplicates", quality, "signature"),
            ("duplicates", quality, "compare"),
            ("store", DirectoryStore, "put"),
            ("index", index.FrameIndex, "add"),
        ):
            stack.enter_context(patch.object(owner, name, _timed(getattr(owner, name), part, spent)))
        yield spent


def cpu_of(work: Callable[[], Any]) -> tuple[Any, float]:
    """What a piece of work gives, and its CPU milliseconds over all threads."""
    began = time.process_time()
    result = work()
    return result, (time.process_time() - began) * 1000


def decode(path: Path, is_to_rgb: bool) -> int:
    """Decode a file as the platform opens it; the number of frames."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames = 0
        for frame in container.decode(stream):
            frames += 1
            if is_to_rgb:
                frame.to_ndarray(format="rgb24")
        return frames


def filmed(at_s: float) -> Image:
    from its_platform.simulation import render

    return render("junction", 1, at_s).image


def enlarged(picture: Image, random: np.random.Generator) -> Image:
    """A picture of 1080 lines with noise, as a sensor of that size would deliver it."""
    import cv2

    large = cv2.resize(picture, LARGE, interpolation=cv2.INTER_CUBIC)
    noise = random.normal(0.0, NOISE_GREY_LEVELS, large.shape)
    return np.clip(large + noise, 0, 255).astype(np.uint8)


def write_video(pictures: list[Image], path: Path) -> None:
    import av

    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _videos(settings: Settings, progress: Progress) -> dict[str, Path]:
    folder = settings.home / "videos"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    small = []
    for number in range(FRAMES):
        small.append(filmed(number / FPS))
        progress("ingest, filming", number + 1, FRAMES)
    found = {"640x360": folder / "small.mp4", "1920x1080": folder / "large.mp4"}
    write_video(small, found["640x360"])
    write_video([enlarged(picture, random) for picture in small], found["1920x1080"])
    data = test_data()
    for name in REAL if data else ():
        path = folder / name
        _shorten(Path(str(data)) / "videos" / name, path)
        found[name] = path
    return found


def _shorten(source: Path, target: Path) -> None:
    """The first frames of a video, as they are: cut between packets, not encoded anew."""
    import av

    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        stream = given.streams.video[0]
        copied = made.add_stream_from_template(stream)
        for number, packet in enumerate(given.demux(stream)):
            if packet.dts is None or number >= REAL_FRAMES:
                break
            packet.stream = copied
            made.mux(packet)


def _timed(function: Callable[..., Any], part: str, spent: dict[str, float]) -> Callable[..., Any]:
    @wraps(function)
    def timed(*given: Any, **named: Any) -> Any:
        began = time.thread_time()
        try:
            return function(*given, **named)
        finally:
            spent[part] += (time.thread_time() - began) * 1000

    return timed


def _mean_ms(work: Callable[[], object]) -> float:
    work()
    began = time.process_time()
    for _ in range(QUALITY_CALLS):
        work()
    return (time.process_time() - began) * 1000 / QUALITY_CALLS


if __name__ == "__main__":
    sys.exit(run_alone(figures))
