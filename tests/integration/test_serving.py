"""Serving against a real Triton: the front's contract, switching versions under traffic, faults, the log, restarts."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import faulty_detectors
import numpy as np
import pytest

from its_platform.errors import BadInput, ServerUnavailable
from its_platform.serving import health, server
from its_platform.serving.client import Answer, DetectorClient, ModelRefused, detect_once, with_client
from its_platform.serving.config import FRONT
from its_platform.serving.processes import running, stubs
from its_platform.serving.repository import (
    place_version,
    placed_versions,
    read_routes,
    remove_version,
    route_of,
    write_routes,
)
from its_platform.settings import Settings
from its_platform.stores.registry import ModelVersion
from triton_site import (
    DETECTOR,
    IN_PICTURE,
    PICTURE,
    SIZE,
    Platform,
    running_platform,
    version_of,
    wait_until,
)

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("serving")) as found:
        yield found


@dataclass
class Traffic:
    answers: list[Answer] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)


@asynccontextmanager
async def traffic(settings: Settings, clients: int = 3) -> AsyncIterator[Traffic]:
    """Requests all the time while the block runs."""
    seen, is_over = Traffic(), asyncio.Event()

    async def ask(client: DetectorClient) -> None:
        while not is_over.is_set():
            try:
                seen.answers.append(await client.detect(PICTURE, "traffic", purpose="gate"))
            except (ServerUnavailable, ModelRefused) as error:
                seen.errors.append(error)
            await asyncio.sleep(0.01)

    async with DetectorClient(settings) as client, asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(ask(client))
        try:
            await asyncio.sleep(0.3)
            yield seen
            await asyncio.sleep(0.3)
        finally:
            is_over.set()


def test_boxes_come_back_in_pixels_of_the_picture_above_the_thresholds_by_class(platform: Platform) -> None:
    answer = detect_once(platform.settings, PICTURE)
    (found,) = answer.detections
    assert found.class_id.tolist() == [0]
    assert np.allclose(found.boxes[0], IN_PICTURE, atol=0.01)
    assert answer.model_version == read_routes(platform.settings)["production"].version
    assert answer.model_name == DETECTOR


def test_a_confidence_in_the_request_replaces_the_thresholds(platform: Platform) -> None:
    (found,) = detect_once(platform.settings, PICTURE, confidence=0.01).detections
    assert found.class_id.tolist() == [0, 1, 2]
    assert np.all(np.diff(found.confidence) <= 0)


def test_a_batch_larger_than_the_detectors_is_answered_picture_by_picture(platform: Platform) -> None:
    answer = detect_once(platform.settings, np.stack([PICTURE] * 11), purpose="gate")
    assert [len(found) for found in answer.detections] == [1] * 11


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"stage": "canary"}, "no detector is served at stage 'canary'"),
        ({"version": 999}, "version 999 is not served"),
    ],
)
def test_what_is_not_served_is_refused_by_name(platform: Platform, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelRefused, match=said):
        detect_once(platform.settings, PICTURE, **asked)


def test_a_served_version_can_be_asked_for_by_number(platform: Platform) -> None:
    production = platform.served()
    staged = platform.release(stage="staging")
    assert detect_once(platform.settings, PICTURE, version=staged).model_version == staged
    assert detect_once(platform.settings, PICTURE, version=production).model_version == production
    assert detect_once(platform.settings, PICTURE, stage="staging").model_version == staged


def test_any_grpc_client_is_told_clearly_what_is_wrong_with_its_request(platform: Platform) -> None:
    from tritonclient.grpc import InferenceServerClient, InferInput
    from tritonclient.utils import InferenceServerException

    def ask(shape: list[int], data_type: str = "UINT8", **parameters: Any) -> Any:
        tensor = InferInput("images", shape, data_type)
        tensor.set_data_from_numpy(np.zeros(shape, np.uint8 if data_type == "UINT8" else np.float32))
        return client.infer(FRONT, [tensor], parameters=parameters)

    with InferenceServerClient(platform.settings.triton_grpc) as client:
        assert ask([1, 8, 8, 3], purpose="probe").as_numpy("detections").shape == (1, 300, 6)
        for shape, data_type, parameters, said in [
            ([1, 8, 8, 4], "UINT8", {}, "unexpected shape"),
            ([8, 8, 3], "UINT8", {}, "unexpected shape"),
            ([1, 8, 8, 3], "FP32", {}, "data-type"),
            ([65, 8, 8, 3], "UINT8", {}, "at most 64"),
            ([1, 8, 8, 3], "UINT8", {"captured_at": "yesterday"}, "cannot be read"),
            ([1, 8, 8, 3], "UINT8", {"captured_at": "2026-01-01T00:00:00"}, "time zone"),
            ([1, 8, 8, 3], "UINT8", {"captured_at": "0001-01-01T00:00:00+14:00"}, "cannot be read"),
            ([1, 8, 8, 3], "UINT8", {"version": "two"}, "cannot be read"),
            ([1, 8, 8, 3], "UINT8", {"confidence": "nan"}, "no number"),
        ]:
            with pytest.raises(InferenceServerException, match=said):
                ask(shape, data_type, **parameters)


def test_each_answered_picture_leaves_one_complete_log_row(platform: Platform) -> None:
    start = datetime(2026, 3, 1, 12, tzinfo=UTC)
    moments = [start + timedelta(seconds=second) for second in range(20)]

    async def ask(client: DetectorClient) -> None:
        await asyncio.gather(*(client.detect(PICTURE, "log-cam", moment) for moment in moments))

    with_client(platform.settings, ask)
    wait_until(lambda: len(platform.rows("log-cam")) >= len(moments))
    rows = platform.rows("log-cam")
    assert sorted(datetime.fromisoformat(row["at"]) for row in rows) == moments
    row = rows[0]
    assert row["counts"] == {"car": 1, "truck": 0, "bus": 0}
    assert row["n"] == 1
    assert row["confidences"] == pytest.approx([0.9, 0.3, 0.05])
    assert row["mean_confidence"] == pytest.approx(0.9)
    assert row["box_areas"] == pytest.approx([(1600 / (160 * 90)) ** 0.5], abs=1e-4)
    assert (row["width"], row["height"], row["purpose"], row["stage"]) == (160, 90, "live", "production")
    assert row["version"] == platform.served()
    assert row["brightness"] == pytest.approx(0.5, abs=0.05)
    assert row["light"] == "day"


def test_a_probe_leaves_no_log_row(platform: Platform) -> None:
    detect_once(platform.settings, PICTURE, camera_id="silent", purpose="probe")
    detect_once(platform.settings, PICTURE, camera_id="loud")
    wait_until(lambda: len(platform.rows("loud")) == 1)
    time.sleep(platform.settings.serving.spool_flush_s + 0.5)
    assert platform.rows("silent") == []


async def test_a_version_is_switched_and_the_old_one_removed_without_a_failed_request(platform: Platform) -> None:
    before = await asyncio.to_thread(platform.served)
    assert before is not None
    async with traffic(platform.settings) as seen:
        after = await asyncio.to_thread(platform.release)
        assert remove_version(platform.settings, DETECTOR, before)
        await asyncio.to_thread(platform.load)
    assert seen.errors == []
    assert {answer.model_version for answer in seen.answers} == {before, after}
    assert seen.answers[-1].model_version == after
    assert before not in placed_versions(platform.settings, DETECTOR)


async def test_a_corrupt_version_is_refused_and_the_old_one_goes_on_serving(platform: Platform) -> None:
    served = await asyncio.to_thread(platform.served)
    broken = platform.folder / "broken.onnx"
    broken.write_bytes(b"this is no graph")
    place_version(platform.settings, version_of(666, broken), broken)
    async with traffic(platform.settings) as seen:
        with pytest.raises(ModelRefused, match="666"):
            await asyncio.to_thread(platform.load)
    assert seen.errors == []
    assert {answer.model_version for answer in seen.answers} == {served}
    assert remove_version(platform.settings, DETECTOR, 666)
    await asyncio.to_thread(platform.load)


@pytest.mark.parametrize("model", [DETECTOR, FRONT])
async def test_a_killed_instance_is_found_by_the_probe_and_revived_without_a_lost_request(
    platform: Platform, model: str
) -> None:
    version = await asyncio.to_thread(platform.served) if model == DETECTOR else 1
    victims = [stub for stub in stubs(platform.settings) if (stub.model, stub.version) == (model, version)]
    assert len(victims) == 2
    async with traffic(platform.settings) as seen:
        os.kill(victims[0].pid, signal.SIGKILL)
        results = await asyncio.to_thread(health.probe, platform.settings)
        assert not all(result.is_healthy for result in results)
        assert await asyncio.to_thread(health.revive, platform.settings) == [model]
        results = await asyncio.to_thread(health.probe, platform.settings)
        assert all(result.is_healthy for result in results)
    assert seen.errors == []
    left = [stub.pid for stub in stubs(platform.settings) if (stub.model, stub.version) == (model, version)]
    assert len(left) == 2
    assert not {stub.pid for stub in victims} & set(left)


async def test_an_instance_that_never_comes_back_from_a_request_is_found_under_traffic_and_replaced(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process lives and works, holds its request, and is given no other: probes meet its neighbour alone."""
    monkeypatch.setattr(health, "HANGS_AFTER_S", 2.0)
    version = await asyncio.to_thread(platform.release, write=faulty_detectors.write_endless)
    victims = [stub for stub in stubs(platform.settings) if (stub.model, stub.version) == (DETECTOR, version)]
    white = np.full((1, SIZE, SIZE, 3), 255, np.uint8)
    async with (
        traffic(platform.settings) as seen,
        DetectorClient(platform.settings, deadline_s=1.0, is_patient=False) as asking,
    ):
        assert all(result.is_healthy for result in await asyncio.to_thread(health.probe, platform.settings))
        with pytest.raises(ServerUnavailable, match="did not answer"):
            await asking.infer_detector(DETECTOR, version, white)
        ill = [one for one in await asyncio.to_thread(health.probe, platform.settings) if not one.is_healthy]
        assert [(one.model, one.problem.split(" (")[0]) for one in ill] == [(DETECTOR, "1 of 2 instances hang")]
        assert await asyncio.to_thread(health.revive, platform.settings) == [DETECTOR]
        assert all(result.is_healthy for result in await asyncio.to_thread(health.probe, platform.settings))
    assert seen.errors == []
    left = [stub.pid for stub in stubs(platform.settings) if (stub.model, stub.version) == (DETECTOR, version)]
    assert len(left) == 2
    assert not {stub.pid for stub in victims} & set(left)


async def test_callers_that_give_up_do_not_harm_the_server(platform: Platform) -> None:
    process = running(platform.settings)
    for _ in range(20):
        async with DetectorClient(platform.settings) as client:
            asked = [
                asyncio.create_task(client.detect(PICTURE, stage=stage, purpose="probe"))
                for stage in ("canary", "production", "canary")
            ]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
    assert running(platform.settings) == process
    assert (await asyncio.to_thread(health.probe, platform.settings))[0].is_healthy


def test_detectors_ask_the_kernel_for_huge_pages(platform: Platform) -> None:
    if not Path("/sys/kernel/mm/transparent_hugepage").is_dir():
        pytest.skip("this kernel was built without transparent huge pages")
    detect_once(platform.settings, PICTURE, camera_id="pages", captured_at=datetime.now(UTC))
    detector = next(stub for stub in stubs(platform.settings) if stub.model == DETECTOR)
    heap = Path(f"/proc/{detector.pid}/smaps").read_text().partition("[heap]")[2]
    flags = next(line for line in heap.splitlines() if line.startswith("VmFlags:"))
    assert "hg" in flags.split(), flags


def test_a_second_server_for_the_same_home_is_refused(platform: Platform) -> None:
    with pytest.raises(BadInput, match="runs already"):
        server.start_triton(platform.settings)


def test_a_restart_keeps_every_logged_row_and_serves_what_was_served(platform: Platform) -> None:
    served = platform.served()
    # Another stage's model cannot be loaded any more; it must not take production with it.
    routes = read_routes(platform.settings)
    other = platform.folder / "other.onnx"
    other.write_bytes(b"broken since")
    version = ModelVersion(**{**vars(version_of(1, other)), "image_size": 96})
    place_version(platform.settings, version, other)
    write_routes(platform.settings, {**routes, "staging": route_of(version)})

    async def ask(client: DetectorClient) -> None:
        await asyncio.gather(*(client.detect(PICTURE, "last-cam", datetime.now(UTC)) for _ in range(30)))

    with_client(platform.settings, ask)
    assert server.stop_triton(platform.settings)
    assert len(platform.rows("last-cam")) == 30
    assert list(platform.settings.spool.glob("*.part")) == []
    assert running(platform.settings) is None
    assert stubs(platform.settings) == []
    assert not server.stop_triton(platform.settings)
    with pytest.raises(ServerUnavailable, match="No Triton answers"):
        detect_once_within(platform.settings, 1.0)

    server.start_triton(platform.settings)
    assert platform.served() == served
    results = {result.model: result for result in health.probe(platform.settings)}
    assert results[DETECTOR].is_healthy
    assert not results["detector-yolo-onnx-96"].is_healthy


def detect_once_within(settings: Settings, deadline_s: float) -> Answer:
    return detect_once(settings, PICTURE, deadline_s=deadline_s)
