"""Each gate at both sides of its threshold, and what it says when there is too little to judge."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from its_platform.release import gates
from its_platform.release.gates import GateResult, LatencyRounds, failing, is_passed, judge
from its_platform.settings import GateSettings

SETTINGS = GateSettings(metric_floor=0.5, minimum_boxes=50, slice_tolerance=0.03, class_tolerance=0.1)


@dataclass(frozen=True)
class Score:
    slice: str
    ap50: float
    boxes: int = 200
    class_name: str | None = None


@dataclass(frozen=True)
class Scores:
    slices: list[Score]


def evaluation(*scores: Score, golden: float = 0.8, boxes: int = 200) -> Scores:
    return Scores([Score("golden", golden, boxes), *scores])


def one(results: list[GateResult], key: str) -> GateResult:
    (found,) = [result for result in results if result.key == key]
    return found


def steady(ratio: float, rounds: int = 5) -> LatencyRounds:
    return LatencyRounds((10.0 * ratio,) * rounds, (10.0,) * rounds, hardware="Test CPU 3000")


def verdicts(candidate: Scores, served: Scores | None = None, **changed: object) -> list[GateResult]:
    given: dict = {"latency": steady(1.0), "parity": 1.0, "settings": SETTINGS} | changed
    return judge(candidate, served, **given)


@pytest.mark.parametrize(("golden", "verdict"), [(0.5, "passed"), (0.499, "failed")])
def test_the_accuracy_floor_is_reached_or_not(golden: float, verdict: str) -> None:
    assert one(verdicts(evaluation(golden=golden)), "accuracy_floor").verdict == verdict


@pytest.mark.parametrize(("boxes", "verdict"), [(49, "not_judged"), (50, "passed")])
def test_too_few_golden_boxes_are_not_judged_and_do_not_pass_the_version(boxes: int, verdict: str) -> None:
    results = verdicts(evaluation(boxes=boxes))
    assert one(results, "accuracy_floor").verdict == verdict
    assert is_passed(results) is (verdict == "passed")


def test_a_version_without_golden_frames_does_not_pass() -> None:
    results = verdicts(Scores([Score("all", 0.9)]))
    assert one(results, "accuracy_floor").boxes == 0
    assert not is_passed(results)


def test_a_score_that_is_not_a_number_is_not_judged() -> None:
    assert one(verdicts(evaluation(golden=math.nan)), "accuracy_floor").verdict == "not_judged"


@pytest.mark.parametrize(("night", "verdict"), [(0.47, "passed"), (0.469, "failed"), (0.7, "passed")])
def test_a_slice_may_be_worse_by_the_tolerance_and_no_more(night: float, verdict: str) -> None:
    results = verdicts(evaluation(Score("golden/light=night", night)), evaluation(Score("golden/light=night", 0.5)))
    result = one(results, "slice_regression:golden/light=night")
    assert result.verdict == verdict
    assert result.value == pytest.approx(0.5 - night)
    assert is_passed(results) is (verdict == "passed")


def test_a_better_whole_does_not_make_up_for_a_worse_slice() -> None:
    results = verdicts(
        evaluation(Score("golden/light=day", 0.6), golden=0.9),
        evaluation(Score("golden/light=day", 0.8), golden=0.5),
    )
    assert [result.key for result in failing(results)] == ["slice_regression:golden/light=day"]


def test_a_small_slice_is_not_judged_and_says_nothing_against_the_version() -> None:
    results = verdicts(
        evaluation(Score("golden/weather=fog", 0.1, boxes=49)),
        evaluation(Score("golden/weather=fog", 0.9, boxes=49)),
    )
    assert one(results, "slice_regression:golden/weather=fog").verdict == "not_judged"
    assert is_passed(results)


def test_a_slice_that_the_served_model_was_never_scored_on_is_not_judged() -> None:
    results = verdicts(evaluation(Score("golden/light=night", 0.4)), evaluation())
    assert one(results, "slice_regression:golden/light=night").verdict == "not_judged"


def test_scores_on_other_frames_are_no_verdict_and_do_not_pass() -> None:
    results = verdicts(evaluation(boxes=200), evaluation(boxes=190))
    assert one(results, "slice_regression:golden").verdict == "no_verdict"
    assert not is_passed(results)


@pytest.mark.parametrize(("truck", "verdict"), [(0.71, "passed"), (0.69, "failed")])
def test_a_class_has_its_own_tolerance(truck: float, verdict: str) -> None:
    results = verdicts(
        evaluation(Score("golden", truck, class_name="truck")), evaluation(Score("golden", 0.8, class_name="truck"))
    )
    assert one(results, "slice_regression:golden/class=truck").verdict == verdict


def test_a_class_within_a_slice_is_left_to_the_slice() -> None:
    results = verdicts(
        evaluation(Score("golden/light=night", 0.1, class_name="car")),
        evaluation(Score("golden/light=night", 0.9, class_name="car")),
    )
    assert [result.slice for result in results if result.name == gates.SLICE_REGRESSION] == ["golden"]


def test_slices_outside_the_golden_set_are_not_read() -> None:
    results = verdicts(evaluation(Score("light=night", 0.1)), evaluation(Score("light=night", 0.9)))
    assert is_passed(results)


@pytest.mark.parametrize(("ratio", "verdict"), [(1.5, "passed"), (1.51, "failed")])
def test_the_latency_ratio_is_held_or_not(ratio: float, verdict: str) -> None:
    results = verdicts(evaluation(), evaluation(), latency=steady(ratio))
    assert one(results, "latency_ratio").verdict == verdict
    assert is_passed(results) is (verdict == "passed")


def test_a_machine_that_slows_both_models_alike_changes_no_ratio() -> None:
    slow = LatencyRounds((10, 40, 10, 40, 10), (10, 40, 10, 40, 10))
    assert one(verdicts(evaluation(), evaluation(), latency=slow), "latency_ratio").verdict == "passed"


def test_a_wide_spread_is_no_verdict_and_never_passes() -> None:
    wide = LatencyRounds((10, 4, 10, 16, 10), (10, 10, 10, 10, 10))
    results = verdicts(evaluation(), evaluation(), latency=wide)
    assert one(results, "latency_ratio").verdict == "no_verdict"
    assert one(results, "latency_ratio").value == pytest.approx(1.0)
    assert not is_passed(results)


@pytest.mark.parametrize("latency", [None, LatencyRounds((10.0,) * 5, ()), steady(1.0, rounds=4)])
def test_latency_that_was_not_measured_fully_does_not_pass_beside_a_served_model(
    latency: LatencyRounds | None,
) -> None:
    results = verdicts(evaluation(), evaluation(), latency=latency)
    assert one(results, "latency_ratio").verdict == "no_verdict"
    assert not is_passed(results)


def test_the_first_model_has_no_ratio_and_may_pass() -> None:
    results = verdicts(evaluation(), None, latency=LatencyRounds((10.0,) * 5))
    assert one(results, "latency_ratio").verdict == "not_judged"
    assert is_passed(results)


def test_no_budget_no_budget_gate() -> None:
    assert not [result for result in verdicts(evaluation()) if result.name == gates.LATENCY_BUDGET]


@pytest.mark.parametrize(
    ("budget", "hardware", "verdict"),
    [
        (12.0, "test cpu", "passed"),
        (9.0, "Test CPU", "failed"),
        (9.0, "Other CPU", "not_judged"),
        (9.0, None, "not_judged"),
    ],
)
def test_a_budget_holds_only_on_the_hardware_that_is_named(budget: float, hardware: str | None, verdict: str) -> None:
    settings = SETTINGS.model_copy(update={"latency_budget_ms": budget, "hardware": hardware})
    results = verdicts(evaluation(), evaluation(), settings=settings)
    assert one(results, "latency_budget").verdict == verdict


@pytest.mark.parametrize(("parity", "verdict"), [(0.99, "passed"), (0.989, "failed"), (None, "not_judged")])
def test_export_parity_is_needed(parity: float | None, verdict: str) -> None:
    results = verdicts(evaluation(), parity=parity)
    assert one(results, "export_parity").verdict == verdict
    assert is_passed(results) is (verdict == "passed")


def test_no_results_are_no_pass() -> None:
    assert not is_passed([])


def test_a_waiver_lets_the_named_gate_go_and_no_other() -> None:
    results = verdicts(evaluation(golden=0.1), parity=0.5)
    assert not is_passed(results, {"accuracy_floor"})
    assert is_passed(results, {"accuracy_floor", "export_parity"})
    assert one(results, "accuracy_floor").verdict == "failed"


def test_a_waiver_for_one_slice_does_not_cover_another() -> None:
    night, fog = Score("golden/light=night", 0.1), Score("golden/weather=fog", 0.1)
    results = verdicts(
        evaluation(night, fog),
        evaluation(Score("golden/light=night", 0.9), Score("golden/weather=fog", 0.9)),
    )
    left = failing(results, {"slice_regression:golden/light=night"})
    assert [result.key for result in left] == ["slice_regression:golden/weather=fog"]
