"""Cameras asking the front: which frames, with whose names and times, and what a failure does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from its_platform.cameras import Camera
from its_platform.detections import Detections
from its_platform.errors import BadInput, NotFound, ServerUnavailable
from its_platform.frames.frame import Frame
from its_platform.live import feed
from its_platform.live.feed import GIVE_UP_AFTER, watch_cameras
from its_platform.serving.client import Answer
from its_platform.settings import load_settings
from its_platform.telemetry import correlation

START = datetime(2026, 1, 1, tzinfo=UTC)
STORES: Any = SimpleNamespace(settings=load_settings(home=Path("no-home")))


class Front:
    """Answers with one box, counts how many requests are under way, fails where it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, datetime, str, str | None]] = []
        self.requests: list[str] = []
        self.under_way = self.most_under_way = 0
        self.fails: set[int] = set()

    def __call__(self, settings: Any, endpoints: tuple[str, ...] = ()) -> Front:
        return self

    async def __aenter__(self) -> Front:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def detect(
        self,
        image: Any,
        camera_id: str,
        captured_at: datetime,
        stage: str | None = None,
        purpose: str = "",
        request_id: str = "",
    ) -> Answer:
        number = len(self.asked)
        self.requests.append(request_id)
        self.asked.append((camera_id, captured_at, purpose, stage))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0.002)
        self.under_way -= 1
        if number in self.fails:
            raise ServerUnavailable("away")
        one = np.ones(1, np.float32)
        return Answer([Detections(np.ones((1, 4), np.float32), one, np.zeros(1, np.int32))], 5, "detector", 2.0)


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Front:
    def get_camera(stores: Any, camera_id: str) -> Camera:
        if camera_id == "nobody":
            raise NotFound("no such camera")
        return Camera(camera_id=camera_id, source="sim://junction")

    def read_frames(camera: Camera, settings: Any, since: Any = None, until: Any = None) -> Iterator[Frame]:
        for second in range(30):
            at = START + timedelta(seconds=second)
            if (since is None or at >= since) and (until is None or at < until):
                yield Frame(camera.camera_id, at, np.zeros((8, 8, 3), np.uint8))
        if camera.camera_id == "broken":
            raise BadInput("the video is cut off")

    found = Front()
    monkeypatch.setattr(feed, "DetectorClient", found)
    monkeypatch.setattr(feed, "get_camera", get_camera)
    monkeypatch.setattr(feed, "read_frames", read_frames)
    return found


def test_each_frame_of_each_camera_is_asked_once_with_its_own_time(front: Front) -> None:
    result = watch_cameras(STORES, ["north", "south"], purpose="live", stage="staging")
    times = [START + timedelta(seconds=second) for second in range(30)]
    for camera_id in ("north", "south"):
        assert sorted(at for name, at, _, _ in front.asked if name == camera_id) == times
    assert {(purpose, stage) for _, _, purpose, stage in front.asked} == {("live", "staging")}
    assert (result.frames, result.failed, result.detections) == (60, 0, 60)
    assert result.by_camera == {"north": 30, "south": 30}
    assert result.by_version == {5: 60}
    assert result.latency_ms_p50 == 2.0


def test_only_the_span_that_was_asked_for_is_played(front: Front) -> None:
    result = watch_cameras(STORES, ["north"], START + timedelta(seconds=10), START + timedelta(seconds=20))
    assert result.frames == 10


def test_frames_that_were_asked_about_before_are_skipped(front: Front) -> None:
    skip = {("north", START + timedelta(seconds=second)) for second in range(25)}
    assert watch_cameras(STORES, ["north", "south"], skip=skip).by_camera == {"north": 5, "south": 30}


def test_footage_played_again_is_told_as_filmed_later_and_skipped_by_its_later_time(front: Front) -> None:
    day = timedelta(days=1)
    result = watch_cameras(STORES, ["north"], shift=day, skip={("north", START), ("north", START + day)})
    assert result.frames == 29
    assert min(at for _, at, _, _ in front.asked) == START + day + timedelta(seconds=1)


def test_requests_under_way_never_exceed_the_concurrency(front: Front) -> None:
    watch_cameras(STORES, ["north", "south", "east"], concurrency=2)
    assert front.most_under_way == 2


def test_a_frame_without_an_answer_is_counted_and_the_feed_goes_on(front: Front) -> None:
    front.fails = {3, 4, 11}
    result = watch_cameras(STORES, ["north"])
    assert (result.frames, result.failed, result.problems) == (27, 3, ["away"] * 3)


def test_what_is_said_of_a_frame_carries_its_camera_and_the_name_of_its_request(
    front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    front.fails = {3, 4}
    watch_cameras(STORES, ["north", "south"])
    said = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert [facts["event"] for facts in said] == ["frame got no answer"] * 2
    assert [facts["request"] for facts in said] == front.requests[3:5]
    assert [facts["camera"] for facts in said] == [name for name, *_ in front.asked[3:5]]
    assert len(set(front.requests)) == 60
    assert correlation() == {}


def test_a_server_that_stays_away_ends_the_feed(front: Front) -> None:
    front.fails = set(range(1000))
    with pytest.raises(ServerUnavailable, match="away"):
        watch_cameras(STORES, ["north", "south"])
    assert len(front.asked) < GIVE_UP_AFTER + 8


def test_a_broken_source_is_told_as_it_is(front: Front) -> None:
    with pytest.raises(BadInput, match="cut off"):
        watch_cameras(STORES, ["broken", "north"])


def test_an_unknown_camera_is_told_before_anything_is_asked(front: Front) -> None:
    with pytest.raises(NotFound):
        watch_cameras(STORES, ["north", "nobody"])
    assert front.asked == []


def test_answers_are_handed_on_with_their_frames(front: Front) -> None:
    seen: list[tuple[datetime, int]] = []
    watch_cameras(
        STORES, ["north"], on_answer=lambda frame, answer: seen.append((frame.captured_at, answer.model_version))
    )
    assert len(seen) == 30
    assert {version for _, version in seen} == {5}


def test_pacing_keeps_the_time_between_captures(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    async def play() -> None:
        clock = feed._Clock(2.0)
        for second in (0, 1, 3):
            await clock.wait_for(START + timedelta(seconds=second))

    monkeypatch.setattr(feed.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(feed.asyncio, "sleep", sleep)
    with asyncio.Runner() as runner:
        runner.run(play())
    assert slept == [0, 0.5, 1.0]
