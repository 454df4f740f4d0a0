"""Drops between two detectors, and what the bootstrap can say of them."""

from __future__ import annotations

import numpy as np
import pytest

from its_platform.model.comparison import paired_drops
from tests.fakes import golden_answers


def drops(before: object, after: object, **changed: object) -> dict:
    given = {"classes": before.classes, "slices": before.slices, "blocks": before.blocks, "by_class": "golden"}
    found = paired_drops(before.truth, before.found, after.found, **{**given, **changed})
    return {(drop.slice, drop.class_name): drop for drop in found}


def test_a_detector_compared_with_itself_has_not_dropped_whatever_is_drawn() -> None:
    same = golden_answers(share=0.7)
    whole = drops(same, same)["golden", None]
    assert (whole.value, whole.low, whole.high) == (0.0, 0.0, 0.0)


def test_what_makes_a_block_hard_for_both_cancels() -> None:
    hard = golden_answers(blocks=10, missing=range(5))
    worse = golden_answers(blocks=10, missing=range(5), share=0.8)
    whole = drops(hard, worse)["golden", None]
    assert whole.value == pytest.approx(0.1, abs=0.02)
    assert whole.low is not None
    assert 0.0 < whole.low < whole.value


def test_boxes_and_blocks_are_those_of_the_slice_and_classes_stand_in_the_named_one_alone() -> None:
    one = golden_answers(blocks=4, frames=2)
    half = np.arange(8) < 4
    found = drops(one, one, slices={"golden": np.ones(8, bool), "golden/light=day": half})
    assert {(name, class_name): (drop.boxes, drop.blocks) for (name, class_name), drop in found.items()} == {
        ("golden", None): (80, 4),
        ("golden", "car"): (40, 4),
        ("golden", "truck"): (40, 4),
        ("golden/light=day", None): (40, 2),
    }


def test_a_slice_without_boxes_has_no_interval() -> None:
    one = golden_answers(boxes=0)
    whole = drops(one, one)["golden", None]
    assert (whole.boxes, whole.low) == (0, None)
