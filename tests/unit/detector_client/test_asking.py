"""What the client does with answers, refusals and silence; without a server."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from its_detector_client import AsyncDetectorClient, BadRequest, DetectorClient, Refused, Unavailable
from stand_ins import AWAY, Channel, Result

PICTURE = np.zeros((8, 8, 3), np.uint8)


def client_of(channel: Channel, **options: Any) -> AsyncDetectorClient:
    return AsyncDetectorClient("server:1", connect=lambda address: channel, **options)


async def test_rows_of_padding_are_no_detections() -> None:
    answer = await client_of(Channel(Result(2))).detect(np.stack([PICTURE, PICTURE]))
    assert [len(found) for found in answer.detections] == [1, 1]
    (found,) = answer.detections[0]
    assert (found.box, found.confidence, found.class_id) == ((1.0, 2.0, 3.0, 4.0), 0.5, 1)
    assert (answer.model_version, answer.model_name, answer.endpoint) == (7, "detector", "server:1")


async def test_only_what_was_asked_for_is_sent_as_a_parameter() -> None:
    channel = Channel(Result())
    moment = datetime.fromisoformat("2026-01-01T12:00:00+02:00")
    answer = await client_of(channel).detect(PICTURE, "north", moment, version=3, confidence=0.1)
    (call,) = channel.calls
    assert call["model"] == "traffic_detector"
    sent = dict(call["parameters"])
    assert len(answer.request_id) == 32
    assert sent.pop("request") == call["request_id"] == answer.request_id
    assert sent == {
        "camera_id": "north",
        "captured_at": "2026-01-01T10:00:00+00:00",
        "version": 3,
        "purpose": "live",
        "confidence": "0.1",
    }


async def test_a_request_carries_the_name_that_its_sender_gave_it() -> None:
    channel = Channel(Result())
    assert (await client_of(channel).detect(PICTURE, request_id="junction-4711")).request_id == "junction-4711"
    assert channel.calls[0]["parameters"]["request"] == "junction-4711"


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 4)),
    ],
)
async def test_an_array_that_is_no_picture_is_refused_before_anything_is_sent(images: Any) -> None:
    channel = Channel(Result())
    with pytest.raises(BadRequest, match="RGB uint8"):
        await client_of(channel).detect(images)
    assert channel.calls == []


@pytest.mark.parametrize("jpeg", [b"", b"GIF89a", "text", [b"\xff\xd8"]])
async def test_what_is_no_jpeg_is_refused_before_anything_is_sent(jpeg: Any) -> None:
    channel = Channel(Result())
    with pytest.raises(BadRequest, match="JPEG"):
        await client_of(channel).detect_jpeg(jpeg)
    assert channel.calls == []


async def test_a_jpeg_is_sent_as_it_is() -> None:
    channel = Channel(Result())
    answer = await client_of(channel).detect_jpeg(b"\xff\xd8a", "north", stage="canary")
    assert len(answer.detections) == 1
    assert channel.calls[0]["shapes"] == [[1]]
    assert channel.calls[0]["parameters"]["stage"] == "canary"


async def test_jpegs_among_pictures_are_requests_of_their_own() -> None:
    channel = Channel(Result(2), Result(), Result(), Result())
    pictures = [PICTURE, PICTURE, b"\xff\xd8a", b"\xff\xd8b", PICTURE]
    answers = [answer async for answer in client_of(channel).detect_many(pictures, batch=4, in_flight=1)]
    assert [call["shapes"][0] for call in channel.calls] == [[2, 8, 8, 3], [1], [1], [1, 8, 8, 3]]
    assert len(answers) == 5


async def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(BadRequest, match="time zone"):
        await client_of(Channel(Result())).detect(PICTURE, captured_at=datetime(2026, 1, 1))  # noqa: DTZ001


async def test_a_server_that_is_away_for_a_moment_is_asked_again_by_the_same_name() -> None:
    channel = Channel(AWAY, ("Stub process 'x' is not healthy.", "StatusCode.INTERNAL"), Result())
    client = client_of(channel)
    assert (await client.detect(PICTURE)).model_version == 7
    assert len(channel.calls) == 3
    names = [call["parameters"]["request"] for call in channel.calls]
    assert len(set(names)) == 1, "one request, however often it is sent"
    await client.detect(PICTURE)
    assert channel.calls[-1]["parameters"]["request"] not in names


async def test_a_server_that_stays_away_is_unavailable() -> None:
    channel = Channel(AWAY)
    with pytest.raises(Unavailable, match="No Triton answers at server:1"):
        await client_of(channel).detect(PICTURE, deadline_s=0.3)
    assert len(channel.calls) >= 2


async def test_a_server_that_is_not_trusted_is_not_taken_for_one_that_is_away() -> None:
    said = (
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Tls handshake failed "
        "(TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: certificate signature failure"
    )
    with pytest.raises(Unavailable, match="certificate signature failure") as raised:
        await client_of(Channel((said, "StatusCode.UNAVAILABLE")), is_patient=False).detect(PICTURE)
    assert "authority" in raised.value.hint
    assert not raised.value.was_sent


async def test_a_client_without_patience_takes_the_first_answer() -> None:
    channel = Channel(AWAY, Result())
    with pytest.raises(Unavailable):
        await client_of(channel, is_patient=False).detect(PICTURE)
    assert len(channel.calls) == 1


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("no detector is served at stage 'canary' (served: none)", "StatusCode.NOT_FOUND"),
        ("unexpected shape for input 'images'", "StatusCode.INVALID_ARGUMENT"),
        ("This protocol is restricted, expecting header 'x'", "StatusCode.UNAVAILABLE"),
    ],
)
async def test_a_refusal_is_told_at_once(message: str, status: str) -> None:
    channel = Channel((message, status))
    with pytest.raises(Refused, match=message.split("'")[0].split("(")[0].strip()):
        await client_of(channel).detect(PICTURE)
    assert len(channel.calls) == 1


async def test_a_front_that_is_being_loaded_is_waited_for() -> None:
    channel = Channel(
        ("Request for unknown model: 'traffic_detector' has no available versions", "StatusCode.NOT_FOUND"), Result()
    )
    assert (await client_of(channel).detect(PICTURE)).model_version == 7


async def test_a_call_that_takes_too_long_fails_for_the_caller_and_is_never_cancelled() -> None:
    may_answer = asyncio.Event()

    async def slow() -> Result:
        await may_answer.wait()
        return Result()

    channel = Channel(slow)
    client = client_of(channel)
    with pytest.raises(Unavailable, match=r"within 0\.05 s"):
        await client.detect(PICTURE, deadline_s=0.05)
    may_answer.set()
    await client.close()
    assert channel.cancelled == 0


@pytest.mark.parametrize("deadline_s", [0.0, -1.0])
async def test_what_is_too_late_already_is_not_sent_and_says_nothing_of_the_server(deadline_s: float) -> None:
    channel = Channel(Result())
    client = client_of(channel, failures_to_open=1, breaker_pause_s=60)
    with pytest.raises(Unavailable, match="deadline"):
        await client.detect(PICTURE, deadline_s=deadline_s)
    assert channel.calls == []
    assert (await client.detect(PICTURE)).model_version == 7


async def test_a_caller_that_is_cancelled_leaves_its_call_to_end_by_itself() -> None:
    is_asked, ended = asyncio.Event(), []

    async def slow() -> Result:
        is_asked.set()
        await asyncio.sleep(0.05)
        ended.append(True)
        return Result()

    channel = Channel(slow)
    client = client_of(channel)
    asking = asyncio.create_task(client.detect(PICTURE))
    await is_asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await client.close()
    assert (ended, channel.cancelled) == ([True], 0)


async def test_many_pictures_come_back_in_order_whichever_answer_is_first() -> None:
    channel, number = Channel(Result()), iter(range(100))

    async def later() -> Result:
        mine = next(number)
        await asyncio.sleep(0.01 * (3 - mine % 3))
        found = Result()
        found.tensors["served_version"] = np.array([mine], np.int32)
        return found

    channel.says = [later]
    versions = [answer.model_version async for answer in client_of(channel).detect_many([PICTURE] * 7)]
    assert versions == list(range(7))


@pytest.mark.parametrize("answers", [[1, 1, 1, 1, 1], [2, 2, 1]], ids=["single", "in pairs"])
async def test_pictures_that_were_read_are_answered_before_it_is_told_that_no_more_can_be(answers: list[int]) -> None:
    def cut_off() -> Iterator[Any]:
        yield from [PICTURE] * 5
        raise OSError("the stream has ended in the middle of a picture")

    found = []

    async def ask() -> None:
        client = client_of(Channel(*(Result(pictures) for pictures in answers)))
        async for answer in client.detect_many(cut_off(), batch=answers[0]):
            found.append(answer)

    with pytest.raises(OSError, match="in the middle"):
        await ask()
    assert len(found) == 5


async def test_neighbours_of_one_shape_share_a_request() -> None:
    channel = Channel(Result(2), Result(1), Result(2))
    other = np.zeros((4, 4, 3), np.uint8)
    pictures = [PICTURE, PICTURE, PICTURE, other, other]
    answers = [answer async for answer in client_of(channel).detect_many(pictures, batch=2, in_flight=1)]
    assert [call["shapes"][0] for call in channel.calls] == [[2, 8, 8, 3], [1, 8, 8, 3], [2, 4, 4, 3]]
    assert [len(answer.detections) for answer in answers] == [1] * 5


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt also in a process that was begun in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class TestSynchronous:
    @pytest.fixture
    def client(self) -> Iterator[DetectorClient]:
        channel = Channel(Result())
        with DetectorClient("server:1", connect=lambda address: channel) as client:
            yield client

    def test_a_call_waits_for_its_answer(self, client: DetectorClient) -> None:
        assert client.detect(PICTURE, "north").model_version == 7
        assert client.detect_jpeg(b"\xff\xd8").model_version == 7

    def test_many_pictures_are_one_loop(self, client: DetectorClient) -> None:
        assert len(list(client.detect_many([PICTURE] * 5))) == 5

    def test_errors_come_to_the_caller(self, client: DetectorClient) -> None:
        with pytest.raises(BadRequest):
            client.detect(np.zeros((8, 8), np.uint8))

    def test_whoever_waits_while_it_is_closed_is_told(self) -> None:
        channel = Channel(AWAY)
        client = DetectorClient("server:1", connect=lambda address: channel)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(client.detect, PICTURE, deadline_s=3600)
            while not channel.calls:
                time.sleep(0.01)
            client.close()
            with pytest.raises(Unavailable, match="closed"):
                waiting.result(timeout=5)

    def test_a_thread_that_is_interrupted_among_many_pictures_is_told_that_and_nothing_else(
        self, interruptible: None
    ) -> None:
        async def slow() -> Result:
            # As Ctrl-C does, while the thread waits for this answer.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            await asyncio.sleep(0.1)
            return Result()

        channel = Channel(slow, Result())
        with DetectorClient("server:1", connect=lambda address: channel) as client:
            with pytest.raises(KeyboardInterrupt):
                list(client.detect_many([PICTURE] * 3))
            assert client.detect(PICTURE).model_version == 7
        assert channel.cancelled == 0

    def test_a_client_that_is_closed_says_so(self, client: DetectorClient) -> None:
        client.close()
        with pytest.raises(BadRequest, match="closed"):
            client.detect(PICTURE)

    def test_closing_twice_does_no_harm(self, client: DetectorClient) -> None:
        client.detect(PICTURE)
        client.close()
        client.close()
        assert not client._thread.is_alive()


async def test_a_server_that_answers_nothing_is_given_no_more_than_it_may_hold() -> None:
    may_answer = asyncio.Event()

    async def answer() -> Result:
        await may_answer.wait()
        return Result()

    channel = Channel(answer)
    client = client_of(channel, most_unanswered=2)
    asked = [asyncio.ensure_future(client.detect(PICTURE, deadline_s=0.2, request_id=str(n))) for n in range(4)]
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in ended] == [Unavailable] * 4
    assert "2 requests that it has not answered" in str(ended[2])
    assert [call["request_id"] for call in channel.calls] == ["0", "1"]

    waiting = asyncio.ensure_future(client.detect(PICTURE, deadline_s=10))
    await asyncio.sleep(0)
    may_answer.set()
    assert (await waiting).model_version == 7
    assert len(channel.calls) == 3
