"""Pictures and videos through the served detector, and back out with its boxes drawn.

Enters: a picture, a folder of pictures or a video, as a file. Leaves: a file of the same kind beside it, and what was
found. Files are read as ingest reads them: upright, within its bounds, and with what cannot be read told and left out.
Every box comes from Triton; several requests are under way at once, and results are written in order. These requests
carry a purpose of their own, so that they are not taken for what live cameras saw.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from its_platform.errors import BadInput
from its_platform.frames.folder import IMAGE_SUFFIXES, image_names, read_picture, readable
from its_platform.frames.images import decode
from its_platform.frames.video import VIDEO_SUFFIXES, checked_file, decode_video, missing_end, open_video, to_rgb
from its_platform.serving.client import Answer, DetectorClient, ModelRefused
from its_platform.serving.drawing import draw_detections
from its_platform.serving.replicas import live_endpoints
from its_platform.serving.repository import DESCRIPTION_FILE, read_routes
from its_platform.settings import Settings
from its_platform.telemetry import Progress, no_progress

PURPOSE = "detect"
IN_FLIGHT = 4
TASK = "detect"
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Asked:
    """What to ask the front for; see `DetectorClient.detect`."""

    stage: str | None = None
    version: int | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class FrameFinding:
    """What was found in one picture. `boxes`: class, confidence and x1, y1, x2, y2 in pixels."""

    source: str
    at_s: float | None
    boxes: list[dict[str, Any]]


@dataclass(frozen=True)
class DetectResult:
    """A finished run over a file or a folder. problems: what of it could not be read and was left out."""

    source: Path
    out: Path
    frames: int
    detections: int
    by_class: dict[str, int]
    model: str
    version: int
    findings: list[FrameFinding] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def detect_file(
    settings: Settings,
    source: Path,
    out: Path | None = None,
    asked: Asked = Asked(),
    every: int = 1,
    progress: Progress = no_progress,
) -> DetectResult:
    """Detect in a picture, a folder of pictures or a video and write it with boxes.

    out: where to; beside the source with `.detected` in the name where None. every: take each n-th frame of a video.
    Raises `BadInput` for a file that cannot be read, `ModelRefused` where nothing is served, `ServerUnavailable`.
    """
    target = out or default_out(source)
    _check_target(source, target)
    if source.is_dir():
        run = _Pictures([source / name for name in image_names(source)], target)
    elif not source.is_file():
        raise BadInput(f"{source} is not there.", "Give a picture, a video or a folder of pictures.")
    elif source.suffix.lower() in IMAGE_SUFFIXES:
        if target.suffix.lower() not in IMAGE_SUFFIXES:
            raise BadInput(f"{target.name} is no name for a picture.", "Use one that ends in .jpg or .png.")
        run = _Pictures([source], target)
    else:
        return asyncio.run(_detect_video(settings, source, target, asked, max(every, 1), progress))
    return asyncio.run(_detect_pictures(settings, source, run, asked, progress))


def _check_target(source: Path, target: Path) -> None:
    """Raise `BadInput` where writing would replace the source, or a folder by a file."""
    if target.exists() and source.exists() and target.samefile(source):
        raise BadInput(f"{target} would be written over itself.", "Name another place with --out.")
    if target.is_dir() and not source.is_dir():
        raise BadInput(f"{target} is a folder.", "Name a file with --out.")
    if source.is_dir() and target.exists() and not target.is_dir():
        raise BadInput(f"{target} is a file.", "Name a folder with --out.")


def default_out(source: Path) -> Path:
    """`road.mp4` becomes `road.detected.mp4`; a video always becomes an MP4, a folder a folder."""
    if source.is_dir():
        return source.with_name(f"{source.name}.detected")
    suffix = source.suffix if source.suffix.lower() in IMAGE_SUFFIXES else ".mp4"
    return source.with_name(f"{source.stem}.detected{suffix}")


def class_names(settings: Settings, model: str, version: int) -> tuple[str, ...]:
    """The classes of a placed version; empty where its description is gone."""
    import json

    for route in read_routes(settings).values():
        if (route.model, route.version) == (model, version):
            return route.classes
    description = settings.model_repository / model / str(version) / DESCRIPTION_FILE
    return tuple(json.loads(description.read_text(encoding="utf-8"))["classes"]) if description.is_file() else ()


@dataclass(frozen=True)
class _Pictures:
    paths: list[Path]
    out: Path


class _Findings:
    """Adds up answers, and draws."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._classes: dict[tuple[str, int], tuple[str, ...]] = {}
        self.by_class: dict[str, int] = {}
        self.frames: list[FrameFinding] = []
        self.problems: list[str] = []
        self.last: Answer | None = None

    def draw(self, image: Image, answer: Answer, source: str, at_s: float | None) -> Image:
        key = (answer.model_name, answer.model_version)
        if key not in self._classes:
            self._classes[key] = class_names(self._settings, *key)
        classes, found = self._classes[key], answer.detections[0]
        names = [classes[i] if i < len(classes) else str(i) for i in found.class_id.tolist()]
        boxes = [
            {"class": name, "confidence": round(float(score), 4), "box": [round(float(x), 1) for x in box]}
            for name, score, box in zip(names, found.confidence, found.boxes, strict=True)
        ]
        for name in names:
            self.by_class[name] = self.by_class.get(name, 0) + 1
        self.frames.append(FrameFinding(source, at_s, boxes))
        self.last = answer
        return draw_detections(image, found, classes)

    def result(self, source: Path, out: Path) -> DetectResult:
        assert self.last is not None
        return DetectResult(
            source=source,
            out=out,
            frames=len(self.frames),
            detections=sum(self.by_class.values()),
            by_class=dict(sorted(self.by_class.items(), key=lambda item: -item[1])),
            model=self.last.model_name,
            version=self.last.model_version,
            findings=self.frames,
            problems=self.problems,
        )


async def _detect_pictures(
    settings: Settings, source: Path, run: _Pictures, asked: Asked, progress: Progress
) -> DetectResult:
    findings, is_folder = _Findings(settings), source.is_dir()

    def pictures() -> Iterator[tuple[Image, Path]]:
        for path in run.paths:
            try:
                # A file that is named itself may be a link to anywhere.
                image = decode(read_picture(path, within=source if is_folder else None), readable(path.name))
            except BadInput as error:
                if not is_folder:
                    raise
                findings.problems.append(error.message)
                continue
            yield image, path

    async with DetectorClient(settings, endpoints=live_endpoints(settings)) as client:
        async for image, path, answer in _answers(client, pictures(), asked, f"detect:{source.stem}"):
            drawn = findings.draw(image, answer, path.name, None)
            target = run.out / path.name if is_folder else run.out
            _write_picture(target, drawn)
            progress(TASK, len(findings.frames), len(run.paths), path.name)
    if not findings.frames:
        why = findings.problems[0]
        raise BadInput(f"{source}: not one image can be used: {why}", "Mend them, or name another folder.")
    return findings.result(source, run.out)


async def _detect_video(
    settings: Settings, source: Path, out: Path, asked: Asked, every: int, progress: Progress
) -> DetectResult:
    import av

    if out.suffix.lower() not in VIDEO_SUFFIXES:
        raise BadInput(f"{out.name} is no name for a video.", "Use one that ends in .mp4.")
    findings, found = _Findings(settings), list[str]()
    partial = out.with_name(f".{out.stem}.part{out.suffix}")
    try:
        reading, stream = open_video(checked_file(source))
        with closing(reading):
            rate = (stream.average_rate or Fraction(25)) / every
            total = -(-stream.frames // every) if stream.frames else None
            with _Video(partial, Fraction(rate).limit_denominator(60_000)) as writing:
                async with DetectorClient(settings, endpoints=live_endpoints(settings)) as client:
                    frames = _video_frames(reading, stream, every, found)
                    async for image, at_s, answer in _answers(client, frames, asked, f"detect:{source.stem}"):
                        drawn = findings.draw(image, answer, source.name, at_s)
                        await asyncio.to_thread(writing.add, drawn)
                        progress(TASK, len(findings.frames), total, source.name)
        if not findings.frames:
            why = found[0] if found else "it holds none"
            raise BadInput(f"{source}: no frame can be decoded: {why}.", "Copy it anew, or mend it with ffmpeg.")
        findings.problems.extend(f"{what}." for what in found)
        partial.replace(out)
    except av.FFmpegError as error:
        raise BadInput(f"{out} cannot be written as a video: {error}.", "Name another place with --out.") from error
    finally:
        partial.unlink(missing_ok=True)
    return findings.result(source, out)


def _video_frames(reading: Any, stream: Any, every: int, found: list[str]) -> Iterator[tuple[Image, float | None]]:
    first, last_s = stream.start_time or 0, None
    for index, (frame, ticks) in enumerate(decode_video(reading, stream, found)):
        if ticks is not None:
            last_s = float((ticks - first) * stream.time_base)
        if index % every == 0:
            yield to_rgb(frame), None if ticks is None else float(ticks * stream.time_base)
    if last_s is not None:
        found.extend(missing_end(reading, stream, last_s))


async def _answers(
    client: DetectorClient, pictures: Iterator[tuple[Image, Any]], asked: Asked, camera_id: str
) -> AsyncIterator[tuple[Image, Any, Answer]]:
    """Each picture with its answer, in order, `IN_FLIGHT` requests at once."""
    waiting: deque[tuple[Image, Any, asyncio.Task[Answer]]] = deque()
    try:
        while True:
            item = await asyncio.to_thread(next, pictures, None)
            if item is not None:
                image, mark = item
                asking = client.detect(
                    image,
                    camera_id,
                    stage=asked.stage,
                    version=asked.version,
                    purpose=PURPOSE,
                    confidence=asked.confidence,
                )
                waiting.append((image, mark, asyncio.create_task(asking)))
            elif not waiting:
                return
            while waiting and (item is None or len(waiting) >= IN_FLIGHT):
                image, mark, task = waiting.popleft()
                yield image, mark, await _explained(task)
    finally:
        for _, _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, _, task in waiting), return_exceptions=True)


async def _explained(task: asyncio.Task[Answer]) -> Answer:
    try:
        return await task
    except ModelRefused as error:
        if "no detector is served" in error.message:
            hint = "Release a model first: `its release promote VERSION`, or `its demo`."
            raise ModelRefused(error.message, hint) from error
        raise


class _Video:
    """An H.264 file that is written frame by frame."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        self._path = path
        self._rate = rate
        self._stream: Any = None

    def __enter__(self) -> _Video:
        import av

        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(self._path), "w", options={"movflags": "+faststart"})
        return self

    def add(self, image: Image) -> None:
        import av

        # H.264 in its usual colour format has an even number of rows and columns.
        height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate)
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            self._stream.options = {"preset": "veryfast", "crf": "21"}
        cut = np.ascontiguousarray(image[: self._stream.height, : self._stream.width])
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(cut, format="rgb24")):
            self._container.mux(packet)

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            for packet in self._stream.encode(None):
                self._container.mux(packet)
        self._container.close()


def _write_picture(path: Path, image: Image) -> None:
    import cv2

    is_written, data = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(image[:, :, ::-1]))
    if not is_written:
        raise BadInput(f"{path.name} cannot be written.", "Use a name that ends in .jpg or .png.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())
