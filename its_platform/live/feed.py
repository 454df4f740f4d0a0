"""Cameras asking the served detector, frame by frame.

Enters: camera ids and a span of time. Leaves: figures of how it went; the detections themselves are logged by the front
of the model server. The frames are those that `frames.ingest` takes, with the same capture times, so that predictions
and stored frames can be joined. Events, tracks and counts do not belong here.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np

from its_platform.cameras import Camera, get_camera
from its_platform.errors import ServerUnavailable
from its_platform.frames.frame import Frame
from its_platform.frames.sources import read_frames
from its_platform.serving.client import Answer, DetectorClient
from its_platform.serving.replicas import live_endpoints
from its_platform.stores import Stores
from its_platform.telemetry import Progress, correlated, get_log, no_progress

LOG = get_log(__name__)
TASK = "live frames"
GIVE_UP_AFTER = 20
Seen = Callable[[Frame, Answer], None]


@dataclass(frozen=True)
class FeedResult:
    """How a feed went. `failed` frames got no answer; `problems` holds the first few reasons."""

    frames: int
    failed: int
    by_camera: dict[str, int]
    by_version: dict[int, int]
    detections: int
    seconds: float
    latency_ms_p50: float | None
    latency_ms_p95: float | None
    problems: list[str] = field(default_factory=list)


@dataclass
class _Tally:
    latencies: list[float] = field(default_factory=list)
    by_camera: dict[str, int] = field(default_factory=dict)
    by_version: dict[int, int] = field(default_factory=dict)
    detections: int = 0
    failed: int = 0
    failed_in_a_row: int = 0
    problems: list[str] = field(default_factory=list)


def watch_cameras(
    stores: Stores,
    camera_ids: Sequence[str],
    since: datetime | None = None,
    until: datetime | None = None,
    concurrency: int = 4,
    purpose: str = "live",
    progress: Progress = no_progress,
    stage: str | None = None,
    pace: float | None = None,
    on_answer: Seen | None = None,
    skip: Collection[tuple[str, datetime]] = (),
    shift: timedelta = timedelta(0),
) -> FeedResult:
    """Send the cameras' frames of a span of time to the front, `concurrency` at once, and wait for all answers.

    pace: None sends as fast as the server answers; 1.0 keeps the time between captures, 2.0 goes twice as fast.
    on_answer: called with each frame and its answer, in the order of the answers.
    skip: camera and capture time of frames that were asked about before.
    shift: added to the capture times that the front is told: footage played again as if it were filmed later.
    Frames without an answer are counted, not retried later; `ServerUnavailable` is raised when 20 in a row have none.
    Raises `NotFound` for an unknown camera, and what reading a source raises.
    """
    cameras = [get_camera(stores, camera_id) for camera_id in camera_ids]
    started = time.monotonic()
    tally = asyncio.run(
        _watch(stores, cameras, since, until, concurrency, purpose, progress, stage, pace, on_answer, skip, shift)
    )
    answered = len(tally.latencies)
    p50, p95 = np.percentile(tally.latencies, [50, 95]).tolist() if answered else (None, None)
    return FeedResult(
        frames=answered,
        failed=tally.failed,
        by_camera=tally.by_camera,
        by_version=tally.by_version,
        detections=tally.detections,
        seconds=time.monotonic() - started,
        latency_ms_p50=p50,
        latency_ms_p95=p95,
        problems=tally.problems,
    )


async def _watch(
    stores: Stores,
    cameras: list[Camera],
    since: datetime | None,
    until: datetime | None,
    concurrency: int,
    purpose: str,
    progress: Progress,
    stage: str | None,
    pace: float | None,
    on_answer: Seen | None,
    skip: Collection[tuple[str, datetime]],
    shift: timedelta,
) -> _Tally:
    tally = _Tally()
    slots = asyncio.Semaphore(concurrency)

    async def ask(client: DetectorClient, frame: Frame) -> None:
        # The name under which the front's log has it too.
        request = uuid.uuid4().hex
        with correlated(request=request, camera=frame.camera_id):
            await ask_as(request, client, frame)

    async def ask_as(request: str, client: DetectorClient, frame: Frame) -> None:
        try:
            answer = await client.detect(
                frame.image, frame.camera_id, frame.captured_at, stage, purpose=purpose, request_id=request
            )
        except ServerUnavailable as error:
            LOG.warning("frame got no answer", captured_at=frame.captured_at.isoformat(), reason=error.message)
            tally.failed += 1
            tally.failed_in_a_row += 1
            if len(tally.problems) < 5:
                tally.problems.append(error.message)
            if tally.failed_in_a_row >= GIVE_UP_AFTER:
                raise
            return
        finally:
            slots.release()
        tally.failed_in_a_row = 0
        tally.latencies.append(answer.latency_ms)
        tally.by_camera[frame.camera_id] = tally.by_camera.get(frame.camera_id, 0) + 1
        tally.by_version[answer.model_version] = tally.by_version.get(answer.model_version, 0) + 1
        tally.detections += len(answer.detections[0])
        if on_answer is not None:
            on_answer(frame, answer)
        progress(TASK, len(tally.latencies), None, frame.camera_id)

    async def play(client: DetectorClient, camera: Camera) -> None:
        frames = read_frames(camera, stores.settings, since, until)
        clock = _Clock(pace)
        async with asyncio.TaskGroup() as asking:
            # Reading and decoding take the processor; the event loop must stay free to take answers.
            while (frame := await asyncio.to_thread(_next, frames)) is not None:
                frame = replace(frame, captured_at=frame.captured_at + shift)
                if (frame.camera_id, frame.captured_at) in skip:
                    continue
                await clock.wait_for(frame.captured_at)
                await slots.acquire()
                asking.create_task(ask(client, frame))

    try:
        asked = live_endpoints(stores.settings)
        async with DetectorClient(stores.settings, endpoints=asked) as client, asyncio.TaskGroup() as playing:
            for camera in cameras:
                playing.create_task(play(client, camera))
    except BaseExceptionGroup as group:
        raise _first(group) from None
    return tally


class _Clock:
    """Keeps the time between captures, divided by `pace`."""

    def __init__(self, pace: float | None) -> None:
        self._pace = pace
        self._start: tuple[float, datetime] | None = None

    async def wait_for(self, captured_at: datetime) -> None:
        if self._pace is None:
            return
        if self._start is None:
            self._start = (time.monotonic(), captured_at)
        began, first = self._start
        due = began + (captured_at - first).total_seconds() / self._pace
        await asyncio.sleep(max(due - time.monotonic(), 0))


def _next(frames: Iterator[Frame]) -> Frame | None:
    return next(frames, None)


def _first(group: BaseExceptionGroup) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
