"""What the client does with answers, refusals and silence; without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from its_platform.errors import BadInput, ServerUnavailable
from its_platform.serving.client import DetectorClient, ModelRefused, detect_once
from its_platform.settings import Settings

PICTURE = np.zeros((8, 8, 3), np.uint8)
AWAY = ("connection refused: failed to connect to all addresses", "StatusCode.UNAVAILABLE")


class Result:
    """An answer with a box of class 1 and 299 rows of padding for each picture."""

    def __init__(self, pictures: int = 1) -> None:
        rows = np.zeros((pictures, 300, 6), np.float32)
        rows[:, 0] = [1, 2, 3, 4, 0.5, 1]
        self.tensors = {
            "detections": rows,
            "served_version": np.full(pictures, 7, np.int32),
            "served_model": np.array([b"detector"], np.object_),
        }

    def as_numpy(self, name: str) -> Any:
        return self.tensors[name]


class Channel:
    """Stands for the connection: says what it is told to, one thing a call."""

    def __init__(self, *says: Result | tuple[str, str] | Callable[[], Awaitable[Result]]) -> None:
        self.says = list(says)
        self.calls: list[dict[str, Any]] = []
        self.cancelled = 0

    async def infer(self, model: str, inputs: Any, *rest: Any, **asked: Any) -> Result:
        self.calls.append({"model": model, **asked})
        saying = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(saying, tuple):
            raise InferenceServerException(*saying)
        if isinstance(saying, Result):
            return saying
        try:
            return await saying()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def close(self) -> None:
        pass


def client_of(settings: Settings, channel: Channel, **options: Any) -> DetectorClient:
    client = DetectorClient(settings, **options)
    client._channel = channel  # type: ignore[assignment]
    return client


async def test_rows_of_padding_are_no_detections(settings: Settings) -> None:
    answer = await client_of(settings, Channel(Result(2))).detect(np.stack([PICTURE, PICTURE]))
    assert [len(found) for found in answer.detections] == [1, 1]
    assert answer.detections[0].class_id.tolist() == [1]
    assert (answer.model_version, answer.model_name) == (7, "detector")


async def test_only_what_was_asked_for_is_sent_as_a_parameter(settings: Settings) -> None:
    channel = Channel(Result())
    moment = datetime.fromisoformat("2026-01-01T12:00:00+02:00")
    await client_of(settings, channel).detect(PICTURE, "north", moment, version=3, confidence=0.1)
    assert channel.calls[0]["model"] == "traffic_detector"
    sent = dict(channel.calls[0]["parameters"])
    assert len(sent.pop("request")) == 32
    assert sent == {
        "camera_id": "north",
        "captured_at": "2026-01-01T10:00:00+00:00",
        "version": 3,
        "purpose": "live",
        "confidence": "0.1",
    }


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 4)),
    ],
)
async def test_an_array_that_is_no_picture_is_bad_input_before_anything_is_sent(
    settings: Settings, images: Any
) -> None:
    channel = Channel(Result())
    with pytest.raises(BadInput, match="RGB uint8"):
        await client_of(settings, channel).detect(images)
    assert channel.calls == []


async def test_a_time_without_a_zone_is_bad_input(settings: Settings) -> None:
    with pytest.raises(BadInput, match="time zone"):
        await client_of(settings, Channel(Result())).detect(PICTURE, captured_at=datetime(2026, 1, 1))  # noqa: DTZ001


async def test_a_server_that_is_away_for_a_moment_is_asked_again(settings: Settings) -> None:
    channel = Channel(AWAY, ("Stub process 'x' is not healthy.", "StatusCode.INTERNAL"), Result())
    client = client_of(settings, channel)
    answer = await client.detect(PICTURE)
    assert answer.model_version == 7
    assert len(channel.calls) == 3
    names = [call["parameters"]["request"] for call in channel.calls]
    assert len(set(names)) == 1, "one request, however often it is sent"
    await client.detect(PICTURE)
    assert channel.calls[-1]["parameters"]["request"] not in names


async def test_a_server_that_stays_away_is_unavailable(settings: Settings) -> None:
    channel = Channel(AWAY)
    with pytest.raises(ServerUnavailable, match="No Triton answers") as caught:
        await client_of(settings, channel).detect(PICTURE, deadline_s=0.3)
    assert "its up" in caught.value.hint
    assert len(channel.calls) >= 2


async def test_a_probe_takes_the_first_answer(settings: Settings) -> None:
    channel = Channel(AWAY, Result())
    with pytest.raises(ServerUnavailable):
        await client_of(settings, channel, is_patient=False).detect(PICTURE)
    assert len(channel.calls) == 1


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("no detector is served at stage 'canary' (served: none)", "StatusCode.NOT_FOUND"),
        ("unexpected shape for input 'images'", "StatusCode.INVALID_ARGUMENT"),
        ("This protocol is restricted, expecting header 'x'", "StatusCode.UNAVAILABLE"),
    ],
)
async def test_a_refusal_is_told_at_once(settings: Settings, message: str, status: str) -> None:
    channel = Channel((message, status))
    with pytest.raises(ModelRefused, match=message.split("'")[0].split("(")[0].strip()):
        await client_of(settings, channel).detect(PICTURE)
    assert len(channel.calls) == 1


async def test_a_front_that_is_being_loaded_is_waited_for(settings: Settings) -> None:
    channel = Channel(
        ("Request for unknown model: 'traffic_detector' has no available versions", "StatusCode.NOT_FOUND"), Result()
    )
    assert (await client_of(settings, channel).detect(PICTURE)).model_version == 7


async def test_a_call_that_takes_too_long_fails_for_the_caller_and_is_never_cancelled(settings: Settings) -> None:
    may_answer = asyncio.Event()

    async def slow() -> Result:
        await may_answer.wait()
        return Result()

    channel = Channel(slow)
    client = client_of(settings, channel)
    with pytest.raises(ServerUnavailable, match=r"within 0\.05 s"):
        await client.detect(PICTURE, deadline_s=0.05)
    may_answer.set()
    await client.__aexit__(None, None, None)
    assert channel.cancelled == 0


async def test_a_caller_that_is_cancelled_leaves_its_call_to_end_by_itself(settings: Settings) -> None:
    is_asked, ended = asyncio.Event(), []

    async def slow() -> Result:
        is_asked.set()
        await asyncio.sleep(0.05)
        ended.append(True)
        return Result()

    channel = Channel(slow)
    client = client_of(settings, channel)
    asking = asyncio.create_task(client.detect(PICTURE))
    await is_asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await client.__aexit__(None, None, None)
    assert (ended, channel.cancelled) == ([True], 0)


def test_with_no_server_at_all_the_error_names_the_address(settings: Settings) -> None:
    with pytest.raises(ServerUnavailable, match=settings.triton_grpc):
        detect_once(settings, PICTURE, deadline_s=0.5)
