"""How long a version takes on Triton, beside the served one: requests in turn, so that a slow moment slows both.

Two versions that Triton has loaded enter, `LatencyRounds` leave. The detectors are asked past the front, one picture
a request. Whether the figures are good enough is decided in `gates`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from its_platform.contract import ImageSize
from its_platform.hardware import hardware_name
from its_platform.model.letterbox import letterbox
from its_platform.release.gates import LatencyRounds, latency_ratio
from its_platform.release.outside import Image, ModelServer
from its_platform.settings import GateSettings

WARM_UP = 3
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Contender:
    """A loaded version: Triton's model name, the version number, what it takes in pixels."""

    model: str
    version: int
    image_size: ImageSize


def measure_until_steady(
    server: ModelServer,
    picture: Image,
    candidate: Contender,
    served: Contender | None,
    settings: GateSettings,
    clock: Clock = time.perf_counter,
) -> LatencyRounds:
    """Measure, and again while the spread is too wide for a verdict, `latency_attempts` times at most.

    Gives the last measurement, which may still be no verdict.
    """
    for attempt in range(1, settings.latency_attempts + 1):
        rounds = measure(server, picture, candidate, served, settings, clock)
        verdict = latency_ratio(rounds, settings, is_first=served is None).verdict
        if verdict != "no_verdict" or attempt == settings.latency_attempts:
            return rounds
    raise AssertionError("latency_attempts is at least 1")


def measure(
    server: ModelServer,
    picture: Image,
    candidate: Contender,
    served: Contender | None,
    settings: GateSettings,
    clock: Clock = time.perf_counter,
) -> LatencyRounds:
    """The median of each round for both, in milliseconds; who goes first changes from request to request."""
    ask_candidate = _request(server, picture, candidate, clock)
    asks = [ask_candidate] if served is None else [ask_candidate, _request(server, picture, served, clock)]
    for ask in asks:
        for _ in range(WARM_UP):
            ask()
    medians: list[list[float]] = [[] for _ in asks]
    for _ in range(settings.latency_rounds):
        times: list[list[float]] = [[] for _ in asks]
        for request in range(settings.latency_requests):
            order = range(len(asks)) if request % 2 == 0 else reversed(range(len(asks)))
            for index in order:
                times[index].append(asks[index]())
        for index, taken in enumerate(times):
            medians[index].append(statistics.median(taken) * 1000)
    served_ms = tuple(medians[1]) if served is not None else ()
    return LatencyRounds(tuple(medians[0]), served_ms, hardware_name())


def _request(server: ModelServer, picture: Image, contender: Contender, clock: Clock) -> Callable[[], float]:
    square, _ = letterbox(picture, contender.image_size)
    images = np.ascontiguousarray(square[None])

    def ask() -> float:
        started = clock()
        server.infer(contender.model, contender.version, images)
        return clock() - started

    return ask
