"""A format is as good as its weights or it is not served, and the fastest of those that are is taken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from its_platform.model.format_choice import (
    FormatFigures,
    accuracy_loss,
    crossed_floor,
    fastest,
    objection_to,
)
from its_platform.model.scoring import ANY_CLASS, Evaluation, SliceScore
from its_platform.settings import GateSettings

GATES = GateSettings(
    parity_floor=0.99, format_tolerance=0.02, minimum_boxes=50, simulated_floor=0.9, real_floor=0.7, slice_floors={}
)
ONNX = FormatFigures("onnx", 1, 0.80, 0.90, 0.0, 1.0, 20.0)
OPENVINO = replace(ONNX, format="openvino", version=None, cpu_ms=15.0)
INT8 = replace(ONNX, format="onnx-int8", version=None, parity=0.3, cpu_ms=9.0)


def scores(mean: float = 0.8, boxes: int = 200, **any_class: float) -> Evaluation:
    """Scores of all frames, and of slices by name; `golden_night` is `golden/light=night`."""
    named = {"all": 0.92, **any_class}
    rows = [score("all", None, mean, 200)]
    rows += [
        score("golden/light=night" if name == "golden_night" else name, ANY_CLASS, value, boxes)
        for name, value in named.items()
    ]
    return Evaluation(tuple(rows), ("car",), {})


def score(name: str, class_name: str | None, ap50: float, boxes: int) -> SliceScore:
    return SliceScore(name, class_name, boxes, 20, ap50, ap50, ap50, ap50, ap50, ap50)


def test_the_fastest_of_those_that_are_as_good_is_taken_and_the_reason_names_all() -> None:
    worse = replace(INT8, objection="it loses 0.100 of AP50, 0.02 is allowed")
    best, why = fastest([ONNX, worse, OPENVINO])
    assert best == OPENVINO
    for said in ("openvino is the fastest", "onnx 20.0", "onnx-int8 9.0", "openvino 15.0", "onnx-int8 is left out"):
        assert said in why


def test_with_nothing_against_it_the_very_fastest_is_taken_in_whatever_order_they_come() -> None:
    assert fastest([ONNX, INT8, OPENVINO])[0] == fastest([OPENVINO, INT8, ONNX])[0] == INT8


@pytest.mark.parametrize(("cpu_ms", "chosen"), [(18.9, "openvino"), (19.1, "onnx")])
def test_onnx_stays_where_another_saves_next_to_nothing(cpu_ms: float, chosen: str) -> None:
    best, why = fastest([ONNX, replace(OPENVINO, cpu_ms=cpu_ms)])
    assert best.format == chosen
    assert why.startswith("onnx stays") is (chosen == "onnx")


def test_onnx_is_taken_where_there_is_something_against_all_others() -> None:
    best, why = fastest([ONNX, replace(INT8, objection="it is worse"), replace(OPENVINO, objection="it differs")])
    assert best == ONNX
    assert "onnx-int8 is left out: it is worse; openvino is left out: it differs" in why


def test_a_format_that_cannot_be_made_here_is_named_with_the_cause() -> None:
    best, why = fastest([ONNX, INT8], {"openvino": "OpenVINO cannot convert model.onnx"})
    assert best == INT8
    assert why.endswith("openvino is left out: OpenVINO cannot convert model.onnx")


def test_an_exact_format_is_held_to_parity_and_one_that_rounds_to_accuracy() -> None:
    same, worse = scores(), scores(mean=0.5)
    assert objection_to("openvino", 0.995, worse, same, GATES) == ""
    assert "98.0% of the detector's own boxes" in objection_to("openvino", 0.98, same, same, GATES)
    assert objection_to("onnx-int8", 0.3, same, same, GATES) == ""
    assert "it loses 0.300 of AP50, 0.02 is allowed" in objection_to("onnx-int8", 1.0, worse, same, GATES)


@pytest.mark.parametrize(
    ("found", "loss"),
    [
        (scores(mean=0.77), 0.03),
        (scores(all=0.90), 0.02),
        (scores(golden_night=0.6), 0.2),
        (scores(mean=0.9, all=0.99, golden_night=0.9), 0.0),
    ],
)
def test_what_a_format_loses_is_what_it_loses_where_it_loses_most(found: Evaluation, loss: float) -> None:
    onnx = scores(golden_night=0.8)
    if found.score("golden/light=night", ANY_CLASS) is None:
        found = replace(found, slices=(*found.slices, score("golden/light=night", ANY_CLASS, 0.8, 200)))
    assert accuracy_loss(found, onnx, 50) == pytest.approx(loss)


def test_a_slice_of_few_boxes_decides_nothing_and_all_frames_always_do() -> None:
    onnx, found = scores(boxes=49, golden_night=0.8), scores(boxes=49, all=0.9, golden_night=0.1)
    assert accuracy_loss(found, onnx, 50) == pytest.approx(0.02)


def test_a_slice_that_a_format_does_not_answer_at_all_is_lost() -> None:
    assert accuracy_loss(scores(), scores(golden_night=0.8), 50) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("before", "after", "is_crossed"),
    [(0.905, 0.895, True), (0.905, 0.900, False), (0.895, 0.885, False), (0.705, 0.695, True)],
)
def test_a_floor_that_the_weights_reach_is_not_lost_by_their_format(
    before: float, after: float, is_crossed: bool
) -> None:
    onnx, found = scores(golden=before), scores(golden=after)
    assert bool(crossed_floor(found, onnx, GATES)) is is_crossed
    assert bool(objection_to("onnx-int8", 0.3, found, onnx, GATES)) is is_crossed


def test_a_slices_own_floor_counts_too_unless_it_has_few_boxes() -> None:
    gates = GATES.model_copy(update={"slice_floors": {"light=night": 0.5}})
    onnx, found = scores(golden_night=0.505), scores(golden_night=0.495)
    assert "golden/light=night is 0.495, below the floor 0.5" in crossed_floor(found, onnx, gates)
    assert crossed_floor(found, scores(boxes=49, golden_night=0.505), gates) == ""
