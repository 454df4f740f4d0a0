"""What blocks say: values whose mean is the effect, and when an experiment ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from its_platform.experiments.blocks import ArmBlock, Observed, values_of
from its_platform.experiments.judging import Finding, judge_experiment
from its_platform.experiments.planning import plan_experiment
from its_platform.release.canary import Evidence
from its_platform.settings import CanarySettings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAN = plan_experiment("boxes", effect=1.0, deviation=1.0, baseline=5.0, percent=50, alpha=0.05, power=0.8)
SAFE = Evidence((), 0, pictures=1000)


def observed(count: int, effect: float, scatter: float = 1.0, light: str = "day", safety: Evidence = SAFE) -> Observed:
    chance = np.random.default_rng(7)
    blocks = []
    for n in range(count):
        is_of = bool(chance.random() < 0.5)
        value = 5 + chance.normal(0, scatter) + effect * is_of
        blocks.append(ArmBlock("north", NOON + timedelta(minutes=n), light, is_of, 10, value))
    return Observed(tuple(blocks), safety)


def judged(given: Observed, is_over: bool = False) -> Finding:
    return judge_experiment(given, PLAN, CanarySettings(), 1.5, is_over)


def test_a_true_difference_is_found_with_its_size_in_the_interval() -> None:
    finding = judged(observed(PLAN.blocks, 1.5))
    assert finding.decision == "difference"
    assert finding.reasons[0].startswith("more with the challenger")
    assert finding.overall.low is not None
    assert finding.overall.high is not None
    assert 0 < finding.overall.low < 1.5 < finding.overall.high


def test_without_a_difference_the_plan_ends_at_its_last_block_and_says_that_it_is_not_enough() -> None:
    before, at_the_end = (judged(observed(PLAN.blocks + n, 0.3, scatter=2.0)) for n in (-1, 40))
    assert before.decision is None
    assert before.reasons[0].startswith(f"not enough evidence: {PLAN.blocks - 1} of {PLAN.blocks} blocks")
    assert at_the_end.decision == "not_found"
    assert at_the_end.overall.blocks == PLAN.blocks, "what came in after the last block of the plan is not looked at"


def test_what_lasts_for_longer_than_planned_ends_without_its_blocks() -> None:
    for given in (observed(10, 0.3), Observed((), SAFE)):
        finding = judged(given, is_over=True)
        assert finding.decision == "not_found"
        said = f"not enough evidence: {len(given.blocks)} of {PLAN.blocks} blocks in the 28 days of the plan"
        assert finding.reasons[0].startswith(said)
    assert judged(observed(PLAN.blocks, 1.5), is_over=True).decision == "difference"


def test_where_any_difference_is_too_small_to_be_of_interest_it_ends_early() -> None:
    finding = judged(observed(PLAN.blocks - 1, 0.0, scatter=0.2))
    assert finding.decision == "no_difference"


def test_one_version_alone_is_no_comparison() -> None:
    one = Observed(tuple(replace(block, is_challengers=True) for block in observed(60, 1.0).blocks), SAFE)
    finding = judged(one)
    assert (finding.decision, finding.overall.effect) == (None, None)
    assert finding.reasons == (f"not enough evidence: 60 of {PLAN.blocks} blocks",)
    assert judged(Observed((), SAFE)).decision is None


@pytest.mark.parametrize(
    ("safety", "said"),
    [
        (replace(SAFE, failures=3), "failed for 3 pictures"),
        (replace(SAFE, latency=(([10.0] * 30, [25.0] * 30),)), "2.50 times as long"),
    ],
)
def test_errors_and_latency_end_it_always(safety: Evidence, said: str) -> None:
    finding = judged(observed(5, 0.0, safety=safety))
    assert finding.decision == "unsafe"
    assert said in finding.reasons[0]


def test_each_light_has_an_interval_of_its_own_and_a_wider_one() -> None:
    finding = judged(observed(60, 1.0, light="night"))
    assert list(finding.by_light) == ["night"]
    by_night, overall = finding.by_light["night"], finding.overall
    assert by_night.effect == overall.effect
    assert None not in (by_night.low, by_night.high, overall.low, overall.high)
    assert by_night.low < overall.low  # type: ignore[operator]
    assert by_night.high > overall.high  # type: ignore[operator]


def test_a_busy_camera_is_held_against_itself_and_one_jam_counts_as_far_as_a_block_can() -> None:
    def block(n: int, camera: str, is_of: bool, value: float) -> ArmBlock:
        return ArmBlock(camera, NOON + timedelta(minutes=n), "day", is_of, 10, value)

    blocks = [block(0, "busy", True, 30.0), block(1, "busy", False, 30.5), block(2, "calm", True, 5.5)]
    first, *rest = values_of([*blocks, block(3, "calm", False, 500.0)], PLAN)
    assert first == 2 * 5.0, "at most five deviations, where nothing is known of the camera yet"
    assert rest == [-2 * 0.5, 2 * 0.5, -2 * 5.0]


def test_of_a_paired_measure_the_gain_on_the_same_pictures_is_the_value() -> None:
    plan = plan_experiment("f1", effect=0.05, deviation=0.1, baseline=0.0, percent=50, alpha=0.05, power=0.8)
    gains = [(0.12, 0.08, 0.14, 0.06)[n % 4] for n in range(plan.blocks)]
    blocks = tuple(ArmBlock("n", NOON + timedelta(minutes=n), "day", True, 5, gain) for n, gain in enumerate(gains))
    finding = judge_experiment(Observed(blocks, SAFE), plan, CanarySettings(), 1.5)
    assert finding.decision == "difference"
    assert finding.overall.effect == pytest.approx(0.1, abs=0.001)
