"""Identical live pictures against a real Triton and a real Redis: what is answered from where, and what is logged."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from its_detector_client import DetectorClient
from its_platform.serving import server
from its_platform.serving.processes import free_ports
from its_platform.serving.repository import cache_counts
from its_platform.settings import Settings
from triton_site import PICTURE, Platform, running_platform, wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(240)]

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Redis:
    """A redis-server of this test's own, which can be ended and started again."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL)
        wait_until(self.is_up)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def is_up(self) -> bool:
        import redis

        try:
            return bool(redis.Redis(port=self.port).ping())
        except redis.ConnectionError:
            return False

    def keys(self) -> int:
        import redis

        return len(redis.Redis(port=self.port).keys("its:answer:*"))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    if shutil.which("redis-server") is None:
        if os.environ.get("ITS_REQUIRE_SERVICES") == "1":
            pytest.fail("redis-server is required here and missing")
        pytest.skip("redis-server is not installed")
    found = Redis(tmp_path_factory.mktemp("redis"), free_ports(1)[0])
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, redis: Redis) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("cache"), cache_mb=0.25, redis_url=redis.url) as found:
        yield found


@pytest.fixture
def client(platform: Platform) -> Iterator[DetectorClient]:
    with DetectorClient(platform.settings.triton_grpc) as found:
        yield found


def a_picture(number: int) -> Any:
    return np.random.default_rng(number).integers(0, 255, (90, 160, 3), dtype=np.uint8)


@dataclass
class Counted:
    """How the counts changed since this was made; they are written once a second."""

    settings: Settings

    def __post_init__(self) -> None:
        time.sleep(1.5)
        self.before = cache_counts(self.settings)

    def __call__(self, name: str) -> int:
        return cache_counts(self.settings).get(name, 0) - self.before.get(name, 0)


def test_a_frozen_camera_is_answered_from_memory_and_logged_as_ever(platform: Platform, client: DetectorClient) -> None:
    counted = Counted(platform.settings)
    answers = [client.detect(PICTURE, "frozen", START + timedelta(seconds=number)) for number in range(12)]
    assert len({str(answer.detections[0].boxes.tolist()) for answer in answers}) == 1
    wait_until(lambda: len(platform.rows("frozen")) == 12)
    rows = sorted(platform.rows("frozen"), key=lambda row: row["at"])
    assert [row["is_cached"] for row in rows] == [False] + [True] * 11
    for column in ("counts", "confidences", "box_areas", "brightness", "noise", "light", "version"):
        assert len({str(row[column]) for row in rows}) == 1, column
    wait_until(lambda: counted("hits_memory") + counted("hits_redis") == 11)
    assert counted("misses") == 1


def test_an_instance_learns_from_redis_what_another_found(
    platform: Platform, client: DetectorClient, redis: Redis
) -> None:
    """A front that is loaded anew remembers nothing itself."""
    picture, before = a_picture(1), redis.keys()
    client.detect(picture, "shared")
    wait_until(lambda: redis.keys() > before)
    counted = Counted(platform.settings)
    server.stop_triton(platform.settings)
    server.start_triton(platform.settings)
    client.detect(picture, "shared")
    wait_until(lambda: counted("hits_redis") == 1)
    assert counted("misses") == 0


@pytest.mark.parametrize("purpose", ["probe", "gate", "reference", "detect"])
def test_only_live_requests_are_answered_from_memory(platform: Platform, client: DetectorClient, purpose: str) -> None:
    counted = Counted(platform.settings)
    for _ in range(3):
        client.detect(a_picture(2), purpose, purpose=purpose)
    time.sleep(1.5)
    assert [counted(name) for name in ("hits_memory", "hits_redis", "misses")] == [0, 0, 0]


def test_a_new_version_is_never_answered_by_the_one_before(platform: Platform, client: DetectorClient) -> None:
    picture = a_picture(3)
    before = [client.detect(picture) for _ in range(3)][-1]
    version = platform.release(first=0.7)
    after = client.detect(picture)
    assert (before.model_version, after.model_version) == (version - 1, version)
    assert float(before.detections[0].confidence[0]) == pytest.approx(0.9)
    assert float(after.detections[0].confidence[0]) == pytest.approx(0.7)


def test_memory_stays_within_its_bound(platform: Platform, client: DetectorClient) -> None:
    counted = Counted(platform.settings)
    # Three boxes and what surrounds them are half a kilobyte, and each instance has a quarter of a megabyte.
    for start in range(0, 2048, 64):
        batch = np.random.default_rng(start).integers(0, 255, (64, 8, 8, 3), dtype=np.uint8)
        client.detect(batch, "many")
    wait_until(lambda: counted("evictions") > 0)
    wait_until(lambda: counted("misses") == 2048)


def test_with_redis_away_no_request_fails_and_it_is_used_again_later(
    platform: Platform, client: DetectorClient, redis: Redis
) -> None:
    counted = Counted(platform.settings)
    redis.stop()
    for number in range(20):
        assert client.detect(a_picture(100 + number), "away").detections
    wait_until(lambda: counted("redis_errors") >= 1)
    assert counted("redis_errors") <= 4, "each instance asks once and then lets it rest"
    redis.start()

    pictures = map(a_picture, itertools.count(1000))

    def is_used() -> bool:
        client.detect(next(pictures), "back")
        return redis.keys() > 0

    wait_until(is_used, within_s=20.0)
