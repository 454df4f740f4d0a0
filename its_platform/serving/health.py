"""Whether Triton really answers, and what to do when a part of it has died.

Enters: settings. Leaves: `ProbeResult`s, from real inferences, because an instance whose process was killed keeps
calling itself ready while each request to it fails. Starting and stopping the server does not belong here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from its_platform.contract import ImageSize
from its_platform.errors import ItsError, ServerUnavailable
from its_platform.model.letterbox import shape_of
from its_platform.serving.client import DetectorClient
from its_platform.serving.config import FRONT, contract_of
from its_platform.serving.processes import is_alive, is_halted, rests, running, stubs
from its_platform.serving.repository import read_routes
from its_platform.settings import Settings

# Triton hands requests that come at once to different idle instances. A probe is repeated every few seconds, on cores
# that train too, so it asks no more than it must; instances that died are also missed among the processes.
REQUESTS_AN_INSTANCE = 1
PROBE_DEADLINE_S = 5.0
LAST_REQUESTS_S = 1.5
Ask = Callable[[], Awaitable[Any]]
# An instance that takes no request for so long, while all are asked again and again, hangs.
HANGS_AFTER_S = 5.0
ASK_AGAIN_S = 0.25
INSISTENT_REQUESTS_AN_INSTANCE = 4


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
    endpoint: str = ""

    @property
    def is_away(self) -> bool:
        """Whether no server listens."""
        return self.problem.startswith("No Triton")

    @property
    def is_silent(self) -> bool:
        """Whether a server listens and gave no answer in time."""
        return "did not answer within" in self.problem


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


def answers(settings: Settings, within_s: float) -> bool:
    """Whether a server comes to say within this time that it lives; of its models nothing is asked."""

    async def ask() -> bool:
        async with DetectorClient(settings, deadline_s=within_s) as client:
            return await client.is_live()

    try:
        return asyncio.run(ask())
    except ServerUnavailable:
        return False


def probe(settings: Settings) -> list[ProbeResult]:
    """Ask every served detector, and the front for every stage, as many requests at once as there are instances.

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
    stages: dict[tuple[str, int, ImageSize], list[str]] = {}
    for stage, route in routes.items():
        stages.setdefault((route.model, route.version, route.image_size), []).append(stage)
    async with DetectorClient(settings, PROBE_DEADLINE_S, is_patient=False) as client:
        results = [await _probe_front(settings, client, sorted(routes))]
        for (model, version, size), names in stages.items():
            picture = np.full((1, *shape_of(size), 3), 114, np.uint8)
            ask: Ask = partial(client.infer_detector, model, version, picture)
            requests = settings.serving.instances * REQUESTS_AN_INSTANCE
            results.append(await _judge(settings, model, version, tuple(names), [ask] * requests))
    return results


async def _probe_front(settings: Settings, client: DetectorClient, stages: list[str]) -> ProbeResult:
    picture = np.full((64, 64, 3), 114, np.uint8)
    ask: list[Ask] = [
        partial(client.detect, picture, "probe", stage=stages[index % len(stages)] if stages else None, purpose="probe")
        for index in range(max(settings.serving.front_instances * REQUESTS_AN_INSTANCE, len(stages)))
    ]
    result = await _judge(settings, FRONT, None, tuple(stages), ask)
    if not stages and "no detector is served" in result.problem:
        # With nothing released yet, a refusal in words is what a living front answers.
        missing = _missing_instances(settings, FRONT, 1)
        return ProbeResult(FRONT, None, (), not missing, 0, result.asked, None, missing, result.endpoint)
    return result


async def _judge(
    settings: Settings, model: str, version: int | None, stages: tuple[str, ...], asks: list[Ask]
) -> ProbeResult:
    mine = [stub for stub in stubs(settings) if (stub.model, stub.version) == (model, version or 1)]
    before = {stub.pid: rests(stub.pid) for stub in mine}
    started = time.monotonic()
    answers = await asyncio.gather(*(ask() for ask in asks), return_exceptions=True)
    elapsed_ms = (time.monotonic() - started) * 1000 / len(answers)
    problems = [answer for answer in answers if isinstance(answer, BaseException)]
    for problem in problems:
        if not isinstance(problem, ItsError):
            raise problem
    told = problems[0].message if problems and isinstance(problems[0], ItsError) else ""
    told = told or _missing_instances(settings, model, version or 1) or await _hanging_instance(before, asks)
    asked = settings.triton_grpc
    return ProbeResult(model, version, stages, not told, len(problems), len(answers), elapsed_ms, told, asked)


def _missing_instances(settings: Settings, model: str, version: int) -> str:
    """What is missing, in words. Under traffic an ill instance holds someone else's request and is not reached."""
    if running(settings) is None:
        return ""
    expected = settings.serving.front_instances if model == FRONT else settings.serving.instances
    mine = [stub for stub in stubs(settings) if (stub.model, stub.version) == (model, version)]
    if halted := [stub for stub in mine if is_halted(stub.pid)]:
        return f"{len(halted)} of {expected} instances hang (process {halted[0].pid} was stopped)"
    return f"{len(mine)} of {expected} instances live" if len(mine) < expected else ""


async def _hanging_instance(before: dict[int, int | None], asks: list[Ask]) -> str:
    """What hangs, in words; empty where each process has worked since `before`, or works when it is asked insistently.

    A request that an instance never answers keeps it from every other, so that probes meet its neighbours alone.
    """
    end = time.monotonic() + HANGS_AFTER_S
    while True:
        still = [pid for pid, count in before.items() if is_alive(pid) and rests(pid) == count]
        if not still or len(still) == len(before) == 1:
            return ""
        if time.monotonic() > end:
            return f"{len(still)} of {len(before)} instances hang (process {still[0]} took no request)"
        # So many at once that an idle instance gets one for sure.
        await asyncio.gather(*(ask() for ask in asks * INSISTENT_REQUESTS_AN_INSTANCE), return_exceptions=True)
        await asyncio.sleep(ASK_AGAIN_S)


async def _revive(settings: Settings) -> list[str]:
    before = await _probe(settings)
    if before[0].is_away:
        raise ServerUnavailable(before[0].problem, "Start it with `its up`.")
    revived: list[str] = []
    # A front fails with the detector behind it, so the detectors are mended first and the front is asked again.
    for result in [result for result in before[1:] if not result.is_healthy]:
        await _load_anew(settings, result.model, result.version or 1)
        revived.append(result.model)
    if revived:
        before = await _probe(settings)
    if not before[0].is_healthy:
        await _load_anew(settings, FRONT, 1)
        revived.append(FRONT)
    if revived:
        still = [result for result in await _probe(settings) if not result.is_healthy]
        if still:
            raise ServerUnavailable(
                f"{still[0].model} does not answer after it was loaded anew: {still[0].problem}",
                "Restart Triton: `its serving stop`, `its serving start`.",
            )
    return revived


async def _load_anew(settings: Settings, model: str, version: int) -> None:
    """Load a version again beside itself: the instances that still live serve until the new ones are ready.

    A version whose file is gone can only be unloaded and loaded. Triton never lets go of the living neighbours of a
    dead instance, so they are ended here once the new ones answer.
    """
    old = [stub for stub in stubs(settings) if (stub.model, stub.version) == (model, version)]
    name = "model.py" if model == FRONT else contract_of(model).format.file
    file = settings.model_repository / model / str(version) / name
    async with DetectorClient(settings) as client:
        if file.is_file():
            # Triton reads a newer time as a changed version.
            os.utime(file)
        else:
            await client.unload(model)
        await client.load(model)
    await asyncio.sleep(settings.serving.spool_flush_s + LAST_REQUESTS_S)
    for stub in old:
        if is_alive(stub.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(stub.pid, signal.SIGKILL)
