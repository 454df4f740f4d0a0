"""Whether Triton really answers, and what to do when a part of it has died.

Enters: settings. Leaves: `ProbeResult`s, from real inferences, because an instance whose process was killed keeps
calling itself ready while each request to it fails. Starting and stopping the server does not belong here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import numpy as np

from its_platform.errors import ItsError, ServerUnavailable
from its_platform.serving.client import DetectorClient
from its_platform.serving.config import FRONT
from its_platform.serving.repository import read_routes
from its_platform.settings import Settings

# Triton hands a request to any idle instance; this many at once reach every one.
REQUESTS_AN_INSTANCE = 3
PROBE_DEADLINE_S = 5.0


@dataclass(frozen=True)
class ProbeResult:
    """One model as found by inferences. `problem` is empty when every one was answered."""

    model: str
    version: int | None
    stages: tuple[str, ...]
    is_healthy: bool
    failed: int
    asked: int
    latency_ms: float | None
    problem: str = ""


def wait_ready(settings: Settings, within_s: float = 60.0, is_alive: Callable[[], bool] = lambda: True) -> None:
    """Wait until the front is ready and each routed detector is loaded or has failed to.

    Raises `ServerUnavailable` when that takes longer, or when `is_alive` says that the process has ended.
    """
    asyncio.run(_wait_ready(settings, within_s, is_alive))


async def _wait_ready(settings: Settings, within_s: float, is_alive: Callable[[], bool]) -> None:
    end = time.monotonic() + within_s
    async with DetectorClient(settings, deadline_s=2.0) as client:
        while not await client.is_ready():
            if not is_alive():
                raise ServerUnavailable("Triton ended while it started.", "Read its log.")
            if time.monotonic() > end:
                raise ServerUnavailable(f"Triton was not ready within {within_s:g} s.", "Read its log.")
            await asyncio.sleep(0.2)


def probe(settings: Settings) -> list[ProbeResult]:
    """Ask every served detector, and the front for every stage, each of their instances several times.

    The front comes first in the list. A server that is away is a failed probe of the front, not an error.
    """
    return asyncio.run(_probe(settings))


def revive(settings: Settings) -> list[str]:
    """Probe, and load anew each model that did not answer; the names of those that were loaded.

    Raises `ServerUnavailable` when Triton itself is away, or when a model does not answer afterwards either.
    """
    return asyncio.run(_revive(settings))


async def _probe(settings: Settings) -> list[ProbeResult]:
    routes = read_routes(settings)
    stages: dict[tuple[str, int, int], list[str]] = {}
    for stage, route in routes.items():
        stages.setdefault((route.model, route.version, route.image_size), []).append(stage)
    async with DetectorClient(settings, PROBE_DEADLINE_S, is_patient=False) as client:
        results = [await _probe_front(settings, client, sorted(routes))]
        for (model, version, size), names in stages.items():
            picture = np.full((1, size, size, 3), 114, np.uint8)
            ask = [client.infer_detector(model, version, picture) for _ in range(_requests(settings.serving.instances))]
            results.append(await _judge(model, version, tuple(names), ask))
    return results


async def _probe_front(settings: Settings, client: DetectorClient, stages: list[str]) -> ProbeResult:
    picture = np.full((64, 64, 3), 114, np.uint8)
    ask = [
        client.detect(picture, "probe", stage=stages[index % len(stages)] if stages else None, purpose="probe")
        for index in range(_requests(settings.serving.front_instances))
    ]
    result = await _judge(FRONT, None, tuple(stages), ask)
    if not stages and "no detector is served" in result.problem:
        # With nothing released yet, a refusal in words is what a living front answers.
        return ProbeResult(FRONT, None, (), True, 0, result.asked, None)
    return result


async def _judge(
    model: str, version: int | None, stages: tuple[str, ...], asked: list[Coroutine[Any, Any, Any]]
) -> ProbeResult:
    started = time.monotonic()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    elapsed_ms = (time.monotonic() - started) * 1000 / len(answers)
    problems = [answer for answer in answers if isinstance(answer, BaseException)]
    for problem in problems:
        if not isinstance(problem, ItsError):
            raise problem
    told = problems[0].message if problems and isinstance(problems[0], ItsError) else ""
    return ProbeResult(model, version, stages, not problems, len(problems), len(answers), elapsed_ms, told)


async def _revive(settings: Settings) -> list[str]:
    before = await _probe(settings)
    # A front fails with the detector behind it; it is loaded anew only when it is the front that is dead.
    sick = [result for result in before if not result.is_healthy and result.model != FRONT]
    names = sorted({result.model for result in sick}) or [result.model for result in before if not result.is_healthy]
    if not names:
        return []
    async with DetectorClient(settings) as client:
        for name in names:
            await _load_anew(client, name)
    after = await _probe(settings)
    still = [result for result in after if not result.is_healthy]
    if still and {result.model for result in still} != set(names):
        # The detectors answer again; a front that does not is dead itself.
        async with DetectorClient(settings) as client:
            await _load_anew(client, FRONT)
        names.append(FRONT)
        still = [result for result in await _probe(settings) if not result.is_healthy]
    if still:
        raise ServerUnavailable(
            f"{still[0].model} does not answer after it was loaded anew: {still[0].problem}",
            "Restart Triton: `its serving stop`, `its serving start`.",
        )
    return names


async def _load_anew(client: DetectorClient, model: str) -> None:
    await client.unload(model)
    await client.load(model)


def _requests(instances: int) -> int:
    return instances * REQUESTS_AN_INSTANCE
