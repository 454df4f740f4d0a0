"""Several endpoints: which is asked, what happens when one fails, and when one is let rest."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from its_detector_client import AsyncDetectorClient, BadRequest, Unavailable
from its_detector_client.endpoints import Balancer, Breaker, Endpoint, is_local
from stand_ins import AWAY, Channel, Result

PICTURE = np.zeros((8, 8, 3), np.uint8)


def client_of(channels: dict[str, Channel], **options: Any) -> AsyncDetectorClient:
    return AsyncDetectorClient(list(channels), connect=lambda address: channels[address], **options)


async def test_endpoints_take_turns() -> None:
    channels = {name: Channel(Result()) for name in ("a:1", "b:1", "c:1")}
    client = client_of(channels)
    answered = [(await client.detect(PICTURE)).endpoint for _ in range(6)]
    assert answered == ["a:1", "b:1", "c:1"] * 2


async def test_the_one_with_the_fewest_requests_under_way_is_asked() -> None:
    may_answer = asyncio.Event()

    async def slow() -> Result:
        await may_answer.wait()
        return Result()

    channels = {"slow:1": Channel(slow), "quick:1": Channel(Result())}
    client = client_of(channels)
    waiting = asyncio.create_task(client.detect(PICTURE))
    await asyncio.sleep(0)
    answered = [(await client.detect(PICTURE)).endpoint for _ in range(3)]
    may_answer.set()
    assert (await waiting).endpoint == "slow:1"
    assert answered == ["quick:1"] * 3


async def test_where_one_fails_another_answers_at_once_by_the_same_name() -> None:
    channels = {"dead:1": Channel(AWAY), "alive:1": Channel(Result())}
    answer = await client_of(channels, is_patient=False).detect(PICTURE)
    assert answer.endpoint == "alive:1"
    sent = [channel.calls[0]["parameters"]["request"] for channel in channels.values()]
    assert sent == [answer.request_id] * 2


async def test_one_that_hangs_leaves_the_others_time() -> None:
    async def never() -> Result:
        await asyncio.sleep(60)
        return Result()

    channels = {"hangs:1": Channel(never), "alive:1": Channel(Result())}
    client = client_of(channels)
    assert (await client.detect(PICTURE, deadline_s=0.4)).endpoint == "alive:1"
    for task in client._under_way:
        task.cancel()


async def test_one_that_failed_often_is_let_rest_and_asked_again_later() -> None:
    channels = {"a:1": Channel(AWAY), "b:1": Channel(Result())}
    client = client_of(channels, failures_to_open=2, breaker_pause_s=0.2)
    for _ in range(8):
        await client.detect(PICTURE)
    assert len(channels["a:1"].calls) == 2
    channels["a:1"].says = [Result()]
    await asyncio.sleep(0.25)
    answered = {(await client.detect(PICTURE)).endpoint for _ in range(4)}
    assert answered == {"a:1", "b:1"}


async def test_one_that_hangs_rests_until_it_answers_however_many_wait_for_it() -> None:
    async def never() -> Result:
        await asyncio.sleep(60)
        return Result()

    channel = Channel(never)
    client = client_of({"hangs:1": channel}, failures_to_open=1, breaker_pause_s=0.05, most_unanswered=1)
    with pytest.raises(Unavailable, match="did not answer"):
        await client.detect(PICTURE, deadline_s=0.02)
    await asyncio.sleep(0.06)
    with pytest.raises(Unavailable, match="has not answered"):
        await client.detect(PICTURE, deadline_s=0.02)
    with pytest.raises(Unavailable, match="let rest"):
        await client.detect(PICTURE, deadline_s=0.02)
    for task in client._under_way:
        task.cancel()


async def test_one_whose_name_leads_nowhere_is_let_rest_like_one_that_is_away() -> None:
    nowhere = ("errors resolving gone:1: [field:hostname lookup error:address lookup failed]", "StatusCode.UNAVAILABLE")
    channels = {"gone:1": Channel(nowhere), "b:1": Channel(Result())}
    client = client_of(channels, failures_to_open=2, breaker_pause_s=60)
    for _ in range(8):
        await client.detect(PICTURE)
    assert len(channels["gone:1"].calls) == 2


async def test_where_all_rest_a_client_without_patience_is_told_without_asking() -> None:
    channels = {"a:1": Channel(AWAY)}
    client = client_of(channels, is_patient=False, failures_to_open=1, breaker_pause_s=60)
    with pytest.raises(Unavailable, match="No Triton"):
        await client.detect(PICTURE)
    with pytest.raises(Unavailable, match="let rest"):
        await client.detect(PICTURE)
    assert len(channels["a:1"].calls) == 1


async def test_a_refusal_never_opens_a_breaker() -> None:
    channel = Channel(("no such stage", "StatusCode.NOT_FOUND"))
    client = client_of({"a:1": channel}, failures_to_open=1)
    for _ in range(3):
        with pytest.raises(Exception, match="no such stage"):
            await client.detect(PICTURE)
    assert len(channel.calls) == 3


def test_an_open_breaker_lets_one_request_through_in_a_pause() -> None:
    breaker = Breaker(failures_to_open=2, pause_s=1.0)
    breaker.fail(0.0)
    assert breaker.permits(0.0)
    breaker.fail(0.0)
    assert not breaker.permits(0.9)
    assert breaker.permits(1.0)
    breaker.begin(1.0)
    assert not breaker.permits(1.5)
    breaker.succeed()
    assert breaker.permits(1.5)


def test_a_balancer_hands_out_nothing_where_all_are_avoided() -> None:
    one = Endpoint("a:1")
    assert Balancer([one]).pick(0.0, {one}) is None


def test_a_client_needs_an_endpoint() -> None:
    with pytest.raises(BadRequest, match="endpoint"):
        AsyncDetectorClient([])


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:8101", True),
        ("localhost:8101", True),
        ("[::1]:8101", True),
        ("unix:/run/triton.sock", True),
        ("10.0.0.1:8101", False),
        ("triton.example:8101", False),
    ],
)
def test_only_this_machines_addresses_are_local(address: str, expected: bool) -> None:
    assert is_local(address) is expected
