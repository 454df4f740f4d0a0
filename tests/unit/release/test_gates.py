"""Each gate at both sides of its threshold, and what it says when there is too little to judge."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from its_platform.model.comparison import Drop
from its_platform.model.confidence import Calibration
from its_platform.model.scoring import SliceScore
from its_platform.release.gates import (
    GateResult,
    LatencyRounds,
    Signature,
    Tensor,
    accuracy_floors,
    calibration_gate,
    class_floors,
    class_order,
    dataset_card,
    export_parity,
    failing,
    format_accuracy,
    is_passed,
    latency_budget,
    latency_ratio,
    memory_gates,
    signature_gate,
    slice_regressions,
)
from its_platform.settings import GateSettings
from tests.fakes import card_of

SETTINGS = GateSettings(minimum_boxes=50, slice_tolerance=0.03, class_tolerance=0.1)
SIMULATED, REAL, NIGHT = "golden/world=simulated", "golden/world=real", "golden/light=night"
MIB = 1024 * 1024


def score(slice: str, ap50: float, boxes: int = 200, class_name: str | None = "*") -> SliceScore:
    return SliceScore(slice, class_name, boxes, 20, ap50, ap50, ap50, ap50, ap50, ap50)


def floors(*scores: SliceScore, **changed: object) -> dict[str, GateResult]:
    parts = {"golden": scores[0]} if len(scores) == 1 else {one.slice: one for one in scores}
    found = accuracy_floors(parts, SETTINGS.model_copy(update=changed))
    return {result.key: result for result in found}


def steady(ratio: float, rounds: int = 5) -> LatencyRounds:
    return LatencyRounds((10.0 * ratio,) * rounds, (10.0,) * rounds, hardware="Test CPU 3000")


@pytest.mark.parametrize(
    ("part", "value", "verdict"),
    [
        (SIMULATED, 0.9, "passed"),
        (SIMULATED, 0.899, "failed"),
        (REAL, 0.7, "passed"),
        (REAL, 0.699, "failed"),
    ],
)
def test_the_simulated_world_has_a_floor_of_nine_tenths_and_real_cameras_one_of_their_own(
    part: str, value: float, verdict: str
) -> None:
    result = floors(score(part, value))["accuracy_floor"]
    assert result.verdict == verdict
    assert f"the floor of {part.split('=')[1]} cameras is" in result.detail


def test_a_golden_set_of_both_worlds_is_held_to_both_floors() -> None:
    found = floors(score(SIMULATED, 0.95), score(REAL, 0.6))
    assert {key: result.verdict for key, result in found.items()} == {
        f"accuracy_floor:{SIMULATED}": "passed",
        f"accuracy_floor:{REAL}": "failed",
    }


def test_a_slice_with_a_floor_of_its_own_is_held_to_that_and_said_to_be_left_out_of_its_world() -> None:
    found = floors(score(SIMULATED, 0.95), score(NIGHT, 0.6), slice_floors={"light=night": 0.5})
    assert found[f"accuracy_floor:{NIGHT}"].threshold == 0.5
    assert all(result.verdict == "passed" for result in found.values())
    assert "simulated cameras but for light=night" in found[f"accuracy_floor:{SIMULATED}"].detail


@pytest.mark.parametrize(("boxes", "verdict"), [(49, "not_judged"), (50, "passed")])
def test_too_few_golden_boxes_are_not_judged_and_do_not_pass_the_version(boxes: int, verdict: str) -> None:
    result = floors(score(SIMULATED, 0.95, boxes))["accuracy_floor"]
    assert result.verdict == verdict
    assert is_passed([result]) is (verdict == "passed")


def test_a_version_without_golden_frames_does_not_pass() -> None:
    (result,) = accuracy_floors({}, SETTINGS)
    assert (result.boxes, result.verdict) == (0, "not_judged")
    assert not is_passed([result])


def test_a_score_that_is_not_a_number_is_not_judged() -> None:
    assert floors(score(SIMULATED, math.nan))["accuracy_floor"].verdict == "not_judged"


@pytest.mark.parametrize(
    ("value", "boxes", "verdict"), [(0.1, 50, "passed"), (0.09, 50, "failed"), (0.0, 49, "not_judged")]
)
def test_each_class_has_a_floor_that_any_class_figures_cannot_see(value: float, boxes: int, verdict: str) -> None:
    (result,) = class_floors([score("golden", value, boxes, "truck")], SETTINGS)
    assert (result.key, result.verdict) == ("class_floor:golden/class=truck", verdict)
    assert is_passed([result]) is (verdict != "failed")


@pytest.mark.parametrize(
    ("error", "boxes", "verdict"), [(0.25, 50, "passed"), (0.26, 50, "failed"), (0.9, 49, "not_judged")]
)
def test_confidences_may_be_off_by_so_much_and_no_more(error: float, boxes: int, verdict: str) -> None:
    result = calibration_gate(Calibration(error, boxes, 0.1), SETTINGS)
    assert (result.verdict, result.boxes) == (verdict, boxes)
    assert is_passed([result]) is (verdict != "failed")


def drop(value: float, low: float | None, boxes: int = 200, class_name: str | None = None) -> Drop:
    high = None if low is None else 2 * value - low
    return Drop("golden", class_name, boxes, 8, 0.8, 0.8 - value, low, high)


@pytest.mark.parametrize(
    ("value", "low", "verdict"),
    [(0.05, 0.031, "failed"), (0.05, 0.03, "passed"), (0.2, -0.01, "passed"), (-0.1, -0.2, "passed")],
)
def test_a_slice_fails_where_the_drop_surely_exceeds_the_tolerance(value: float, low: float, verdict: str) -> None:
    (result,) = slice_regressions([drop(value, low)], SETTINGS)
    assert (result.key, result.verdict) == ("slice_regression:golden", verdict)
    assert result.value == pytest.approx(value)
    assert "over resampled blocks (8)" in result.detail


@pytest.mark.parametrize(("low", "verdict"), [(0.1, "passed"), (0.11, "failed")])
def test_a_class_has_its_own_tolerance(low: float, verdict: str) -> None:
    (result,) = slice_regressions([drop(0.2, low, class_name="truck")], SETTINGS)
    assert (result.key, result.verdict) == ("slice_regression:golden/class=truck", verdict)


@pytest.mark.parametrize("lost", [drop(0.5, 0.4, boxes=49), drop(0.5, None)])
def test_a_slice_of_few_boxes_or_of_one_block_is_not_judged_and_says_nothing_against_the_version(lost: Drop) -> None:
    (result,) = slice_regressions([lost], SETTINGS)
    assert result.verdict == "not_judged"
    assert is_passed([result])


def test_a_better_slice_does_not_make_up_for_a_worse_one() -> None:
    results = slice_regressions([drop(-0.3, -0.4), replace(drop(0.3, 0.2), slice=NIGHT)], SETTINGS)
    assert [result.key for result in failing(results)] == [f"slice_regression:{NIGHT}"]


def test_the_first_model_has_nothing_to_be_worse_than() -> None:
    (result,) = slice_regressions(None, SETTINGS)
    assert result.verdict == "not_judged"
    assert is_passed([result])


@pytest.mark.parametrize(("ratio", "verdict"), [(1.5, "passed"), (1.51, "failed")])
def test_the_latency_ratio_is_held_or_not(ratio: float, verdict: str) -> None:
    result = latency_ratio(steady(ratio), SETTINGS, is_first=False)
    assert result.verdict == verdict
    assert is_passed([result]) is (verdict == "passed")


def test_a_machine_that_slows_both_models_alike_changes_no_ratio() -> None:
    slow = LatencyRounds((10, 40, 10, 40, 10), (10, 40, 10, 40, 10))
    assert latency_ratio(slow, SETTINGS, is_first=False).verdict == "passed"


def test_a_wide_spread_is_no_verdict_and_never_passes() -> None:
    wide = LatencyRounds((10, 4, 10, 16, 10), (10, 10, 10, 10, 10))
    result = latency_ratio(wide, SETTINGS, is_first=False)
    assert (result.verdict, result.value) == ("no_verdict", pytest.approx(1.0))
    assert not is_passed([result])


@pytest.mark.parametrize("latency", [None, LatencyRounds((10.0,) * 5, ()), steady(1.0, rounds=4)])
def test_latency_that_was_not_measured_fully_does_not_pass_beside_a_served_model(
    latency: LatencyRounds | None,
) -> None:
    result = latency_ratio(latency, SETTINGS, is_first=False)
    assert result.verdict == "no_verdict"
    assert not is_passed([result])


def test_the_first_model_has_no_ratio_and_may_pass() -> None:
    result = latency_ratio(LatencyRounds((10.0,) * 5), SETTINGS, is_first=True)
    assert result.verdict == "not_judged"
    assert is_passed([result])


def test_no_budget_no_budget_gate() -> None:
    assert latency_budget(steady(1.0), SETTINGS) == []
    assert [result.name for result in memory_gates(MIB, MIB, SETTINGS, is_first=False)] == ["memory_ratio"]


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
    (result,) = latency_budget(steady(1.0), settings)
    assert result.verdict == verdict


@pytest.mark.parametrize(
    ("candidate", "served", "is_first", "verdict"),
    [
        (150 * MIB, 100 * MIB, False, "passed"),
        (151 * MIB, 100 * MIB, False, "failed"),
        (150 * MIB, None, True, "not_judged"),
        (None, 100 * MIB, False, "not_judged"),
        (150 * MIB, None, False, "no_verdict"),
    ],
)
def test_memory_is_held_to_the_served_models(
    candidate: int | None, served: int | None, is_first: bool, verdict: str
) -> None:
    (result,) = memory_gates(candidate, served, SETTINGS, is_first)
    assert result.verdict == verdict
    assert is_passed([result]) is (verdict in ("passed", "not_judged"))


@pytest.mark.parametrize(("candidate", "verdict"), [(200 * MIB, "passed"), (201 * MIB, "failed"), (None, "not_judged")])
def test_a_memory_budget_holds_also_for_the_first_model(candidate: int | None, verdict: str) -> None:
    settings = SETTINGS.model_copy(update={"memory_budget_mib": 200.0})
    _, result = memory_gates(candidate, None, settings, is_first=True)
    assert (result.name, result.verdict) == ("memory_budget", verdict)


@pytest.mark.parametrize(("parity", "verdict"), [(0.99, "passed"), (0.989, "failed"), (None, "not_judged")])
def test_export_parity_is_needed(parity: float | None, verdict: str) -> None:
    result = export_parity(parity, SETTINGS)
    assert result.verdict == verdict
    assert is_passed([result]) is (verdict == "passed")


@pytest.mark.parametrize(
    ("loss", "verdict"), [(0.0, "passed"), (0.02, "passed"), (0.021, "failed"), (None, "not_judged")]
)
def test_a_format_that_rounds_may_lose_so_much_and_the_figure_is_needed(loss: float | None, verdict: str) -> None:
    result = format_accuracy(loss, GateSettings(format_tolerance=0.02))
    assert (result.key, result.verdict) == ("format_accuracy", verdict)
    assert is_passed([result]) is (verdict == "passed")


IMAGES, ROWS = Tensor("images", "UINT8", (-1, 64, 64, 3)), Tensor("detections", "FP32", (-1, 300, 6))
REGISTERED = Signature("abc", (IMAGES,), (ROWS,))


@pytest.mark.parametrize(
    ("placed", "said"),
    [
        (replace(REGISTERED, digest="def"), "is def, registered is abc"),
        (replace(REGISTERED, inputs=(replace(IMAGES, data_type="FP32"),)), "inputs are images FP32"),
        (replace(REGISTERED, outputs=(replace(ROWS, shape=(-1, 84, 8400)),)), "outputs are detections FP32"),
    ],
)
def test_another_file_or_other_tensors_than_the_registered_ones_fail(placed: Signature, said: str) -> None:
    result = signature_gate(REGISTERED, placed)
    assert (result.verdict, result.value) == ("failed", 1.0)
    assert said in result.detail
    assert signature_gate(REGISTERED, REGISTERED).verdict == "passed"


@pytest.mark.parametrize(
    ("registered", "of_dataset", "of_file", "verdict"),
    [
        (("car", "bus"), ("car", "bus"), ("car", "bus"), "passed"),
        (("car", "bus"), ("car", "bus"), None, "passed"),
        (("car", "tram", "bus"), ("car", "bus"), None, "passed"),
        (("bus", "car"), ("car", "bus"), None, "failed"),
        (("car",), ("car", "bus"), None, "failed"),
        (("car", "bus"), ("car", "bus"), ("bus", "car"), "failed"),
        (("car", "bus"), None, None, "not_judged"),
    ],
)
def test_class_lists_in_another_order_fail(
    registered: tuple[str, ...],
    of_dataset: tuple[str, ...] | None,
    of_file: tuple[str, ...] | None,
    verdict: str,
) -> None:
    assert class_order(registered, of_dataset, of_file).verdict == verdict


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (None, "dataset v1 has no card"),
        ({**card_of("v1"), "statistics": {}}, "does not say statistics"),
        ({**card_of("v1"), "statistics": {"frames": {"golden": 3}}}, "where the boxes came from"),
        ({**card_of("v1"), "digest": "other"}, "it is the card of other"),
    ],
)
def test_a_dataset_without_a_whole_card_of_its_own_fails(card: dict | None, said: str) -> None:
    result = dataset_card("v1", "digest of v1", card)
    assert result.verdict == "failed"
    assert said in result.detail


def test_a_dataset_with_its_card_passes() -> None:
    assert dataset_card("v1", "digest of v1", card_of("v1")).verdict == "passed"
    assert dataset_card("v1", "", card_of("v1")).verdict == "passed"


def test_no_results_are_no_pass() -> None:
    assert not is_passed([])


def test_a_waiver_lets_the_named_gate_go_and_no_other() -> None:
    results = [*floors(score(SIMULATED, 0.1)).values(), export_parity(0.5, SETTINGS)]
    assert not is_passed(results, {"accuracy_floor"})
    assert is_passed(results, {"accuracy_floor", "export_parity"})


def test_a_waiver_for_one_slice_does_not_cover_another() -> None:
    fog = replace(drop(0.8, 0.7), slice="golden/weather=fog")
    results = slice_regressions([replace(drop(0.8, 0.7), slice=NIGHT), fog], SETTINGS)
    left = failing(results, {f"slice_regression:{NIGHT}"})
    assert [result.key for result in left] == ["slice_regression:golden/weather=fog"]
