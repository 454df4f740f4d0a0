from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest

from its_platform.errors import BadInput
from its_platform.labels import Box, FrameLabels, auto
from its_platform.labels.labelling import box_faults, check_class_names, clip, read_mapping, rename_classes
from its_platform.settings import STARTER_WEIGHTS

GOOD = Box("car", 10, 10, 30, 20, "human", "reviewed")


def labels(*boxes: Box, review: str = "reviewed") -> FrameLabels:
    return FrameLabels("f" * 64, boxes, ("car", "bus"), review=review)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x1": math.nan}, "finite"),
        ({"y2": math.inf}, "finite"),
        ({"confidence": math.nan}, "finite"),
        ({"class_name": "tram"}, "'tram' is not among car, bus"),
        ({"origin": "rumour"}, "origin 'rumour'"),
        ({"review": "maybe"}, "review state 'maybe'"),
        ({"confidence": 1.2}, "between 0 and 1"),
        ({"x1": -3}, "outside the picture of 100x50"),
        ({"x2": 102}, "outside"),
        ({"y2": 51.5}, "outside"),
        ({"x2": 10}, "thinner"),
        ({"x1": 30, "x2": 10}, "thinner"),
        ({"y2": 10.5}, "thinner"),
    ],
)
def test_a_box_that_cannot_be_is_named_with_its_number_and_reason(change: dict[str, object], reason: str) -> None:
    faults = box_faults(labels(GOOD, replace(GOOD, **change)), 100, 50)  # type: ignore[arg-type]
    assert [fault.box for fault in faults] == [1]
    assert reason in faults[0].reason


def test_rounding_at_the_border_is_no_fault_and_is_cut_off() -> None:
    edge = replace(GOOD, x1=-0.6, x2=100.4, y2=50.9)
    assert box_faults(labels(edge), 100, 50) == []
    assert clip(labels(edge), 100, 50).boxes[0].corners == (0, 10, 100, 50)


def test_an_empty_frame_is_reviewed_when_it_says_so() -> None:
    assert labels().is_fit_to_judge
    assert not labels(review="unreviewed").is_reviewed


def test_one_unreviewed_box_makes_a_labelling_unreviewed() -> None:
    assert not labels(GOOD, replace(GOOD, review="unreviewed")).is_reviewed


def test_a_models_box_never_judges_even_when_reviewed() -> None:
    said = labels(replace(GOOD, origin="model"))
    assert said.is_reviewed
    assert not said.is_fit_to_judge


def test_content_ignores_order_time_and_source_and_nothing_else() -> None:
    other = replace(GOOD, class_name="bus")
    first = labels(GOOD, other)
    assert first.content == replace(labels(other, GOOD), source="elsewhere").content
    assert first.content != labels(GOOD).content
    assert first.content != labels(GOOD, replace(other, x1=10.1)).content
    assert first.content != labels(GOOD, replace(other, origin="model")).content


def test_classes_can_be_renamed_into_one() -> None:
    said = rename_classes(labels(GOOD, replace(GOOD, class_name="bus")), {"bus": "car"})
    assert said.classes == ("car",)
    assert {box.class_name for box in said.boxes} == {"car"}


def test_a_mapping_is_old_equals_new() -> None:
    assert read_mapping(["vehicle=car", " van = truck"]) == {"vehicle": "car", "van": "truck"}
    with pytest.raises(BadInput, match="vehicle"):
        read_mapping(["vehicle"])


def test_a_detector_is_loaded_after_ultralytics_was_told_to_stay_on_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Told(Exception):
        pass

    def prepare() -> None:
        raise Told

    monkeypatch.setattr(auto, "prepare_ultralytics", prepare)
    # Importing it would raise another error.
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(Told):
        auto.ultralytics_detector(STARTER_WEIGHTS)


def test_a_dropped_class_was_never_looked_for() -> None:
    said = rename_classes(labels(GOOD, replace(GOOD, class_name="bus")), {"car": "vehicle"}, {"bus"})
    assert "bus" not in said.classes
    assert "vehicle" in said.classes
    assert [box.class_name for box in said.boxes] == ["vehicle"]


def test_a_class_that_nothing_has_is_mistyped() -> None:
    check_class_names(["bus", "car"], ["car", "bus", "bus"])
    with pytest.raises(BadInput, match="'bsu'") as caught:
        check_class_names(["bsu"], ["car", "bus"])
    assert "car, bus" in caught.value.hint
