"""What the platform's client adds to the small one: its settings, its errors, and which calls are sent twice."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from its_platform.errors import BadInput, ServerUnavailable
from its_platform.serving.client import DetectorClient, ModelRefused, detect_once
from its_platform.settings import Settings
from stand_ins import AWAY, Channel, Result

PICTURE = np.zeros((8, 8, 3), np.uint8)


class Admin:
    """Stands for the connection; the first calls fail as they are told to."""

    def __init__(self, *says: tuple[str, str]) -> None:
        self.says = list(says)
        self.loaded: list[str] = []

    async def load_model(self, model: str, client_timeout: float) -> None:
        self.loaded.append(model)
        if self.says:
            raise InferenceServerException(*self.says.pop(0))


def client_of(settings: Settings, channel: Any, **options: Any) -> DetectorClient:
    return DetectorClient(settings, connect=lambda address: channel, **options)


async def test_an_array_that_is_no_picture_is_bad_input(settings: Settings) -> None:
    with pytest.raises(BadInput, match="RGB uint8"):
        await client_of(settings, Channel(Result())).detect(np.zeros((8, 8), np.uint8))


async def test_a_server_that_stays_away_is_unavailable_with_what_to_do_about_it(settings: Settings) -> None:
    with pytest.raises(ServerUnavailable, match="No Triton answers") as caught:
        await client_of(settings, Channel(AWAY)).detect(PICTURE, deadline_s=0.3)
    assert "its up" in caught.value.hint


async def test_a_probe_asks_each_part_however_many_others_gave_no_answer(settings: Settings) -> None:
    """Six instances of the front that hang say nothing of the detectors, which would be loaded anew for them."""

    async def hangs() -> Result:
        await asyncio.sleep(0.1)
        return Result()

    channel = Channel(*[hangs] * 6, Result())
    client = client_of(settings, channel, is_patient=False)
    asked = await asyncio.gather(*(client.detect(PICTURE, deadline_s=0.01) for _ in range(6)), return_exceptions=True)
    assert [type(one) for one in asked] == [ServerUnavailable] * 6
    assert (await client.infer_detector("detector", 7, PICTURE)).shape == (1, 300, 6)
    await client.close()


async def test_a_refusal_is_the_platforms_own_error(settings: Settings) -> None:
    channel = Channel(("no detector is served at stage 'canary' (served: none)", "StatusCode.NOT_FOUND"))
    with pytest.raises(ModelRefused, match="no detector is served") as caught:
        await client_of(settings, channel).detect(PICTURE)
    assert "its serving status" in caught.value.hint


async def test_a_load_is_sent_again_only_where_it_surely_never_arrived(settings: Settings) -> None:
    channel = Admin(AWAY)
    await client_of(settings, channel).load("detector")
    assert channel.loaded == ["detector", "detector"]
    for lost in ("Socket closed", "recvmsg: Connection reset by peer", "server is busy"):
        channel = Admin((lost, "StatusCode.UNAVAILABLE"))
        with pytest.raises(ServerUnavailable):
            await client_of(settings, channel).load("detector")
        assert channel.loaded == ["detector"], lost


async def test_the_homes_own_triton_is_asked_unless_others_are_named(settings: Settings) -> None:
    asked: list[str] = []

    def connect(address: str) -> Channel:
        asked.append(address)
        return Channel(Result())

    await DetectorClient(settings, connect=connect).detect(PICTURE)
    await DetectorClient(settings, endpoints=("a:1", "b:1"), connect=connect).detect(PICTURE)
    assert asked == [settings.triton_grpc, "a:1"]


def test_with_no_server_at_all_the_error_names_the_address(settings: Settings) -> None:
    with pytest.raises(ServerUnavailable, match=settings.triton_grpc):
        detect_once(settings, PICTURE, deadline_s=0.5)
