"""The small client against real Tritons: shared memory and its faults, JPEG, failover, other languages, other tools."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from its_detector_client import AsyncDetectorClient, DetectorClient, Unavailable, encode_jpeg, regions
from its_platform.serving import server
from its_platform.serving.processes import running
from its_platform.serving.repository import prepare_repository, read_routes, state_folder
from its_platform.settings import Settings
from triton_site import PICTURE, Platform, running_platform, settings_at, wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(240)]

LARGE = np.random.default_rng(1).integers(0, 255, (360, 640, 3), dtype=np.uint8)
REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "clients" / "python"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("client")) as found:
        yield found


def address_of(platform: Platform) -> str:
    return platform.settings.triton_grpc


async def regions_in(client: AsyncDetectorClient) -> list[str]:
    status = await client.call(lambda channel, left_s: channel.get_system_shared_memory_status(client_timeout=left_s))
    return [name for name in status.regions if name.startswith(regions.PREFIX)]


def boxes_of(answer: Any) -> list[Any]:
    return [found.boxes.tolist() for found in answer.detections]


class TestSharedMemory:
    async def test_answers_are_those_of_the_wire_and_nothing_is_left_behind(self, platform: Platform) -> None:
        address = address_of(platform)
        async with (
            AsyncDetectorClient(address) as shared,
            AsyncDetectorClient(address, shared_memory="never") as wired,
        ):
            batch = np.stack([LARGE] * 3)
            expected = boxes_of(await wired.detect(batch, purpose="gate"))
            answers = [await shared.detect(batch, purpose="gate") for _ in range(3)]
            assert [boxes_of(answer) for answer in answers] == [expected] * 3
            await asyncio.gather(*(shared.detect(LARGE, purpose="gate") for _ in range(8)))
            assert 1 <= len(await regions_in(wired)) <= 8
            await shared.close()
            assert await regions_in(wired) == []
        assert list(regions.FOLDER.glob(f"{regions.PREFIX}{os.getpid()}-*")) == []

    async def test_pictures_in_regions_are_not_mixed_up(self, platform: Platform) -> None:
        """The log's figures are taken from the pixels that arrived."""
        async with AsyncDetectorClient(address_of(platform)) as client:
            await asyncio.gather(
                *(client.detect(np.full((200, 200, 3), grey, np.uint8), f"grey-{grey}") for grey in range(10, 250, 10))
            )
        for grey in range(10, 250, 10):
            wait_until(lambda grey=grey: len(platform.rows(f"grey-{grey}")) == 1)  # type: ignore[misc]
            assert platform.rows(f"grey-{grey}")[0]["brightness"] == pytest.approx(grey / 255, abs=0.01)

    async def test_regions_of_a_killed_client_are_swept_and_the_server_lives(
        self,
        platform: Platform,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(regions, "SWEEP_AFTER_S", 0.0)
        code = (
            "import sys, numpy as np; from its_detector_client import DetectorClient\n"
            "with DetectorClient(sys.argv[1]) as client:\n"
            "    while True:\n"
            "        client.detect(np.zeros((360, 640, 3), np.uint8), purpose='gate'); print('asked', flush=True)\n"
        )
        for _ in range(3):
            asking = subprocess.Popen(
                [sys.executable, "-c", code, address_of(platform)],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(PACKAGE)},
            )
            assert asking.stdout is not None
            for _ in range(5):
                assert asking.stdout.readline() == "asked\n"
            asking.kill()
            asking.wait()
            assert list(regions.FOLDER.glob(f"{regions.PREFIX}{asking.pid}-*"))
            async with AsyncDetectorClient(address_of(platform)) as client:
                for _ in range(3):
                    await client.detect(LARGE, purpose="gate")
                left = await regions_in(client)
            assert not [name for name in left if name.startswith(f"{regions.PREFIX}{asking.pid}-")]
            assert not list(regions.FOLDER.glob(f"{regions.PREFIX}{asking.pid}-*"))

    async def test_a_triton_that_cannot_answer_keeps_no_region(self, platform: Platform) -> None:
        detector = read_routes(platform.settings)["production"].model
        async with AsyncDetectorClient(address_of(platform)) as client:
            for _ in range(2):
                await client.detect(LARGE, purpose="gate")
            await client.call(lambda channel, left_s: channel.unload_model(detector, client_timeout=left_s))
            try:
                with pytest.raises(Unavailable, match=detector):
                    await client.detect(LARGE, purpose="gate", deadline_s=2.0)
                assert await regions_in(client) == []
            finally:
                await client.call(lambda channel, left_s: channel.load_model(detector, client_timeout=left_s), 60.0)
            assert await client.detect(LARGE, purpose="gate")

    async def test_a_client_goes_on_with_a_triton_that_was_started_anew(self, platform: Platform) -> None:
        async with AsyncDetectorClient(address_of(platform), deadline_s=60.0) as client:
            for _ in range(3):
                await client.detect(LARGE, purpose="gate")
            before = await regions_in(client)
            assert before
            await asyncio.to_thread(server.stop_triton, platform.settings)
            await asyncio.to_thread(server.start_triton, platform.settings)
            answers = [await client.detect(LARGE, purpose="gate") for _ in range(4)]
            assert {answer.model_version for answer in answers} == {
                read_routes(platform.settings)["production"].version
            }
            assert await regions_in(client)


class TestJpeg:
    def test_a_jpeg_is_answered_as_its_pixels_are(self, platform: Platform) -> None:
        with DetectorClient(address_of(platform)) as client:
            answer = client.detect_jpeg(encode_jpeg(PICTURE), "jpegs", confidence=0.01)
            assert boxes_of(answer)[0] == boxes_of(client.detect(PICTURE, purpose="gate", confidence=0.01))[0]
            wait_until(lambda: len(platform.rows("jpegs")) == 1)
        assert {(row["width"], row["height"]) for row in platform.rows("jpegs")} == {(160, 90)}

    @pytest.mark.parametrize(
        ("cut", "said"), [(slice(None, 300), "jpeg is cut off"), (slice(2, None), "jpeg is no JPEG")]
    )
    def test_a_broken_one_is_refused_in_one_line(self, platform: Platform, cut: slice, said: str) -> None:
        file = encode_jpeg(PICTURE)[cut]
        file = file if file.startswith(b"\xff\xd8") else b"\xff\xd8"[:1] + file
        with AsSent(address_of(platform)) as ask, pytest.raises(Exception, match=said) as caught:
            ask(file)
        assert "INVALID_ARGUMENT" in str(caught.value)
        assert "\n" not in str(caught.value)


class AsSent:
    """Sends bytes as a JPEG, whatever they are, with Triton's own client."""

    def __init__(self, address: str) -> None:
        from tritonclient.grpc import InferenceServerClient

        self._channel = InferenceServerClient(address)

    def __enter__(self) -> Callable[[bytes], Any]:
        return self._ask

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def _ask(self, file: bytes) -> Any:
        from tritonclient.grpc import InferInput

        tensor = InferInput("jpeg", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([file], np.object_))
        return self._channel.infer("traffic_detector", [tensor])


@pytest.fixture(scope="module")
def second(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Another Triton that serves what the first one does."""
    settings = settings_at(tmp_path_factory.mktemp("second") / "home")
    shutil.copytree(platform.settings.model_repository, settings.model_repository)
    shutil.copy(state_folder(platform.settings) / "routes.json", state_folder(settings) / "routes.json")
    prepare_repository(settings)
    server.start_triton(settings)
    yield settings
    server.stop_triton(settings)


async def test_a_triton_that_is_killed_under_load_costs_no_answer(
    platform: Platform,
    second: Settings,
) -> None:
    addresses = [address_of(platform), second.triton_grpc]
    answered: list[str] = []
    is_over = asyncio.Event()

    async with AsyncDetectorClient(addresses) as client, asyncio.TaskGroup() as group:

        async def ask() -> None:
            while not is_over.is_set():
                answered.append((await client.detect(LARGE, purpose="gate")).endpoint)

        for _ in range(4):
            group.create_task(ask())
        await asyncio.sleep(1.0)
        assert set(answered) == set(addresses), "both are asked"
        found = running(second)
        assert found is not None
        os.kill(found.pid, signal.SIGKILL)
        killed_at = len(answered)
        await asyncio.sleep(2.0)
        is_over.set()
    assert len(answered) > killed_at + 10
    assert set(answered[-10:]) == {addresses[0]}


def test_the_package_alone_asks_a_triton_from_an_environment_of_its_own(
    platform: Platform,
    tmp_path: Path,
) -> None:
    uv = [str(Path(sys.executable).with_name("uv"))]
    source = shutil.copytree(PACKAGE, tmp_path / "source")
    run([*uv, "build", "--wheel", "--quiet", "--out-dir", str(tmp_path / "dist"), str(source)])
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    run([*uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")])
    python = tmp_path / "venv" / "bin" / "python"
    run([*uv, "pip", "install", "--quiet", "--python", str(python), str(wheel)])
    installed = json.loads(run([*uv, "pip", "list", "--format", "json", "--python", str(python)]))
    assert not {package["name"] for package in installed} & {"its-platform", "pydantic", "opencv-python-headless"}
    code = (
        "import sys, numpy as np, its_detector_client as its\n"
        "with its.DetectorClient(sys.argv[1]) as client:\n"
        "    answers = [client.detect(np.zeros((90, 160, 3), np.uint8), purpose='gate') for _ in range(3)]\n"
        "    print(answers[-1].model_version, len(answers[-1].detections[0]), its.__file__)\n"
    )
    version, boxes, file = run([str(python), "-I", "-c", code, address_of(platform)]).split()
    assert (int(version), int(boxes)) == (read_routes(platform.settings)["production"].version, 1)
    assert Path(file).is_relative_to(tmp_path)


def run(command: list[str], **how: Any) -> str:
    # The processes of this test must not see the platform's packages.
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**environment, **how.pop("env", {})}, **how
    )
    assert done.returncode == 0, (
        f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]} {done.stdout[-500:]}"
    )
    return done.stdout
