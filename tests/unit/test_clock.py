"""A clock that somebody sets is told from one that drifts, in both directions."""

from __future__ import annotations

import pytest

from its_platform import clock
from its_platform.clock import Clock

DAY_S = 86_400.0


@pytest.fixture
def set_to(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """By how much the time of day is ahead of where it began."""
    ahead = {"s": 0.0}
    monkeypatch.setattr(clock, "offset_s", lambda: 1.7e9 + ahead["s"])
    return ahead


@pytest.mark.parametrize("by_s", [DAY_S, -DAY_S, 61.0, -61.0])
def test_a_step_is_told_once_with_its_sign_and_is_none_when_it_is_taken_back(
    set_to: dict[str, float], by_s: float
) -> None:
    seen = Clock(clock.offset_s())
    set_to["s"] = by_s
    assert [seen.look(), seen.look()] == [by_s, 0.0]
    assert seen.set_by_s == by_s
    set_to["s"] = 0.0
    assert seen.look() == -by_s
    assert seen.set_by_s == 0.0


def test_slewing_of_weeks_is_no_step(set_to: dict[str, float]) -> None:
    seen = Clock(clock.offset_s())
    for _ in range(1000):
        set_to["s"] += 0.5
        assert seen.look() == 0.0
    assert seen.set_by_s == 0.0


def test_time_of_day_and_time_since_the_boot_run_on_together() -> None:
    assert abs(clock.offset_s() - clock.offset_s()) < 1.0
