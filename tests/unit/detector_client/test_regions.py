"""Pictures in shared memory: regions are made once, used again, never while Triton may read them, and swept."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from its_detector_client import AsyncDetectorClient, Unavailable, regions
from its_detector_client.regions import Regions, sweep_files
from stand_ins import AWAY, Channel, Result

LARGE = np.full((200, 200, 3), 7, np.uint8)
LOST = ("Unable to find shared memory region: 'x'", "StatusCode.NOT_FOUND")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(regions, "FOLDER", tmp_path)
    return tmp_path


class Sharing(Channel):
    """A connection to a server that takes regions."""

    def __init__(self, *says: Any, refuses: tuple[str, str] | None = None, known: tuple[str, ...] = ()) -> None:
        super().__init__(*says)
        self.refuses = refuses
        self.registered: list[str] = []
        self.unregistered: list[str] = []
        self.known = known

    async def register_system_shared_memory(self, name: str, key: str, size: int, client_timeout: float) -> None:
        if self.refuses:
            raise InferenceServerException(*self.refuses)
        assert key == f"/{name}"
        self.registered.append(name)

    async def unregister_system_shared_memory(self, name: str, client_timeout: float) -> None:
        self.unregistered.append(name)

    async def get_system_shared_memory_status(self, client_timeout: float) -> Any:
        return SimpleNamespace(regions=dict.fromkeys([*self.known, *self.registered]))


def client_of(channel: Channel) -> AsyncDetectorClient:
    return AsyncDetectorClient("127.0.0.1:1", connect=lambda address: channel)


async def test_a_region_is_registered_once_and_unregistered_at_the_end(folder: Path) -> None:
    channel = Sharing(Result())
    async with client_of(channel) as client:
        for _ in range(5):
            await client.detect(LARGE)
        assert len(list(folder.iterdir())) == 1
        assert next(folder.iterdir()).read_bytes()[: LARGE.nbytes] == LARGE.tobytes()
    assert channel.registered == channel.unregistered
    assert len(channel.registered) == 1
    used = [call["shared"] for call in channel.calls]
    assert used == [[], *[channel.registered] * 4], "the first goes over the wire"
    assert list(folder.iterdir()) == []


async def test_small_pictures_and_other_machines_get_no_region(folder: Path) -> None:
    channel = Sharing(Result())
    client = client_of(channel)
    for _ in range(3):
        await client.detect(LARGE[:8, :8])
    far = AsyncDetectorClient("10.0.0.1:1", connect=lambda address: channel)
    for _ in range(3):
        await far.detect(LARGE)
    assert channel.registered == []


async def test_a_server_that_was_started_anew_is_told_of_the_region_again() -> None:
    channel = Sharing(Result(), Result(), LOST, Result())
    client = client_of(channel)
    for _ in range(3):
        assert (await client.detect(LARGE)).model_version == 7
    assert len(channel.registered) == 2
    assert len(set(channel.registered)) == 1
    assert len(channel.calls) == 4


async def test_several_requests_may_meet_a_server_that_was_started_anew(folder: Path) -> None:
    class Triton(Sharing):
        async def register_system_shared_memory(self, name: str, key: str, size: int, client_timeout: float) -> None:
            await asyncio.sleep(0)
            if name in self.registered:
                raise InferenceServerException(
                    f"shared memory region '{name}' already in manager", "StatusCode.ALREADY_EXISTS"
                )
            self.registered.append(name)

        async def infer(self, model: str, inputs: Any, *rest: Any, **asked: Any) -> Result:
            result = await super().infer(model, inputs, *rest, **asked)
            await asyncio.sleep(0.001)
            if any(name not in self.registered for name in self.calls[-1]["shared"]):
                raise InferenceServerException(*LOST)
            return result

    channel = Triton(Result())
    client = client_of(channel)
    await client.detect(LARGE)
    await asyncio.gather(*(client.detect(LARGE) for _ in range(3)))
    channel.registered.clear()
    for _ in range(3):
        channel.calls.clear()
        await asyncio.gather(*(client.detect(LARGE) for _ in range(3)))
    assert all(call["shared"] for call in channel.calls), "no picture goes over the wire"
    assert len(channel.registered) == 3


async def test_a_server_that_cannot_answer_is_not_left_with_the_regions(folder: Path) -> None:
    ill = ("detector version 3 did not answer: the graph failed", "StatusCode.UNAVAILABLE")
    channel = Sharing(Result(), ill, ill, Result())
    client = client_of(channel)
    for _ in range(2):
        await client.detect(LARGE)
    assert len(channel.registered) == 3
    assert channel.unregistered == channel.registered[:2]


async def test_a_region_whose_request_was_lost_is_not_used_again() -> None:
    channel = Sharing(Result(), Result(), AWAY, Result())
    client = client_of(channel)
    for _ in range(3):
        await client.detect(LARGE)
    assert len(set(channel.registered)) == 2


async def test_a_server_that_cannot_see_the_region_gets_pictures_over_the_wire() -> None:
    channel = Sharing(Result(), refuses=("Unable to open shared memory region: '/x'", "StatusCode.INVALID_ARGUMENT"))
    client = client_of(channel)
    for _ in range(3):
        assert (await client.detect(LARGE)).model_version == 7
    assert [call["shared"] for call in channel.calls] == [[], [], []]


async def test_where_memory_is_short_pictures_go_over_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    channel = Sharing(Result())
    client = client_of(channel)
    for _ in range(3):
        assert (await client.detect(LARGE)).model_version == 7
    assert channel.registered == []


async def test_a_server_that_is_away_while_a_region_is_registered_is_unavailable(folder: Path) -> None:
    channel = Sharing(Result(), refuses=AWAY)
    client = client_of(channel)
    await client.detect(LARGE)
    with pytest.raises(Unavailable):
        await client.detect(LARGE, deadline_s=0.2)
    assert list(folder.iterdir()) == []


async def test_the_pool_is_bounded_and_small_regions_make_way(folder: Path) -> None:
    channel, pool = Sharing(Result()), Regions(most_bytes=3 * regions.STEP_BYTES)
    small = await pool.take(channel, regions.STEP_BYTES, 1.0)
    assert small is not None
    pool.give_back(small)
    large = await pool.take(channel, 3 * regions.STEP_BYTES, 1.0)
    assert large is not None
    assert channel.unregistered == [small.name]
    assert await pool.take(channel, regions.STEP_BYTES, 1.0) is None
    pool.drop(large)


async def test_what_dead_clients_left_in_the_server_is_swept(folder: Path) -> None:
    living = folder / "its-client-1-living"
    living.touch()
    channel = Sharing(Result(), known=("its-client-1-dead", "its-client-1-living", "someone-elses"))
    pool = Regions()
    region = await pool.take(channel, 100_000, 1.0)
    assert region is not None
    assert channel.unregistered == ["its-client-1-dead"]


def test_the_region_of_a_process_that_died_is_removed_and_a_living_ones_is_not(folder: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from its_detector_client import regions;"
        f"regions.FOLDER = Path({str(folder)!r}); r = regions._make(4096); print(r.name, flush=True);"
        "sys.stdin.read(1); os._exit(0)"
    )
    path = str(Path(regions.__file__).parents[1])
    maker = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert maker.stdout is not None
    name = maker.stdout.readline().strip()
    old = time.time() - 3600
    os.utime(folder / name, (old, old))
    assert sweep_files() == 0
    maker.communicate("x")
    assert (folder / name).exists()
    assert sweep_files() == 1
    assert not (folder / name).exists()
