"""Latency is measured in turn, and a spread that is too wide is measured again."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from its_platform.release.latency import WARM_UP, Contender, measure, measure_until_steady
from its_platform.release.outside import Image, Rows
from its_platform.settings import GateSettings

SETTINGS = GateSettings(latency_rounds=3, latency_requests=4, latency_attempts=3, latency_spread=0.5)
PICTURE = np.zeros((40, 60, 3), np.uint8)
CANDIDATE, SERVED = Contender("a", 2, 64), Contender("b", 1, 96)


@dataclass
class Clock:
    """A server whose answers take the seconds that it is told, by version, on a clock of its own."""

    seconds: dict[int, list[float]]
    now: float = 0.0
    asked: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def infer(self, model: str, version: int, images: Image) -> Rows:
        self.asked.append((version, images.shape))
        times = self.seconds[version]
        self.now += times.pop(0) if len(times) > 1 else times[0]
        return np.zeros((1, 300, 6), np.float32)


def test_the_rounds_hold_medians_in_milliseconds() -> None:
    server = Clock({2: [0.02], 1: [0.01]})
    rounds = measure(server, PICTURE, CANDIDATE, SERVED, SETTINGS, server)  # type: ignore[arg-type]
    assert rounds.candidate_ms == pytest.approx((20, 20, 20))
    assert rounds.served_ms == pytest.approx((10, 10, 10))
    assert rounds.ratios == pytest.approx((2, 2, 2))


def test_the_two_models_take_turns_and_the_first_place_too() -> None:
    server = Clock({2: [0.01], 1: [0.01]})
    measure(server, PICTURE, CANDIDATE, SERVED, SETTINGS, server)  # type: ignore[arg-type]
    versions = [version for version, _ in server.asked[2 * WARM_UP :]]
    assert versions[:8] == [2, 1, 1, 2, 2, 1, 1, 2]


def test_each_model_gets_one_picture_of_its_own_size() -> None:
    server = Clock({2: [0.01], 1: [0.01]})
    measure(server, PICTURE, CANDIDATE, SERVED, SETTINGS, server)  # type: ignore[arg-type]
    assert set(server.asked) == {(2, (1, 64, 64, 3)), (1, (1, 96, 96, 3))}


def test_without_a_served_model_only_the_candidate_is_asked() -> None:
    server = Clock({2: [0.01]})
    rounds = measure(server, PICTURE, CANDIDATE, None, SETTINGS, server)  # type: ignore[arg-type]
    assert rounds.served_ms == ()
    assert len(rounds.candidate_ms) == 3


def test_a_wide_spread_is_measured_again_until_it_is_steady() -> None:
    per_round = SETTINGS.latency_requests
    restless = [0.01] * (WARM_UP + per_round) + [0.03] * per_round + [0.01] * per_round
    server = Clock({2: [*restless, 0.01], 1: [0.01]})
    rounds = measure_until_steady(server, PICTURE, CANDIDATE, SERVED, SETTINGS, server)  # type: ignore[arg-type]
    assert rounds.ratios == pytest.approx((1, 1, 1))
    assert len(server.asked) == 2 * 2 * (WARM_UP + 3 * per_round)


def test_it_gives_up_after_so_many_attempts() -> None:
    per_attempt = WARM_UP + SETTINGS.latency_rounds * SETTINGS.latency_requests
    one = [0.01] * (WARM_UP + SETTINGS.latency_requests) + [0.05] * (per_attempt - WARM_UP - SETTINGS.latency_requests)
    server = Clock({2: one * 9, 1: [0.01]})
    measure_until_steady(server, PICTURE, CANDIDATE, SERVED, SETTINGS, server)  # type: ignore[arg-type]
    assert len(server.asked) == 3 * 2 * per_attempt
