"""What gates read of a detector's answers: a loss that the frames prove, noise that they do not, wrong names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from its_platform.release.gates import accuracy_floors, class_floors, failing, slice_regressions
from its_platform.release.golden import (
    GoldenAnswers,
    calibration_of,
    class_scores,
    drops_between,
    floor_parts,
)
from its_platform.settings import GateSettings
from tests.fakes import golden_answers

SETTINGS = GateSettings()


def scattered(chance: float, seed: int, blocks: int = 24) -> GoldenAnswers:
    """A detector that finds each box with this chance, by luck of its own."""
    random = np.random.default_rng(seed)
    whole = golden_answers(blocks=blocks)
    return replace(whole, found=tuple(rows[random.random(len(rows)) < chance] for rows in whole.found))


def regressions(served: GoldenAnswers, candidate: GoldenAnswers) -> dict[str, str]:
    found = slice_regressions(drops_between(served, candidate), SETTINGS)
    return {result.key: result.verdict for result in found}


def test_two_detectors_that_differ_by_luck_alone_are_not_called_worse() -> None:
    verdicts = [
        regressions(scattered(0.8, 2 * n), scattered(0.8, 2 * n + 1))["slice_regression:golden"] for n in range(20)
    ]
    assert verdicts.count("failed") == 0


def test_a_detector_that_lost_a_tenth_of_the_boxes_is_called_worse() -> None:
    verdicts = [
        regressions(scattered(0.9, 2 * n), scattered(0.8, 2 * n + 1))["slice_regression:golden"] for n in range(20)
    ]
    assert verdicts.count("failed") >= 19


def test_a_loss_in_one_block_of_many_is_not_proved_and_a_loss_in_most_is() -> None:
    served = golden_answers(blocks=12)
    assert regressions(served, golden_answers(blocks=12, missing=[3]))["slice_regression:golden"] == "passed"
    lost = golden_answers(blocks=12, missing=range(8))
    assert regressions(served, lost)["slice_regression:golden"] == "failed"


def test_a_single_block_proves_nothing() -> None:
    found = regressions(golden_answers(blocks=1, frames=20), golden_answers(blocks=1, frames=20, share=0.2))
    assert found["slice_regression:golden"] == "not_judged"


def test_a_model_with_permuted_classes_passes_every_any_class_figure_and_is_stopped_by_its_classes() -> None:
    served, permuted = golden_answers(), golden_answers(swapped=True)
    floors = accuracy_floors(floor_parts(permuted, {}), SETTINGS)
    assert [(result.verdict, result.value) for result in floors] == [("passed", 1.0)]
    alone = class_floors(class_scores(permuted), SETTINGS)
    assert {result.key for result in failing(alone)} == {
        "class_floor:golden/class=car",
        "class_floor:golden/class=truck",
    }
    assert not failing(class_floors(class_scores(served), SETTINGS))
    assert regressions(served, permuted)["slice_regression:golden/class=car"] == "failed"


def test_a_class_that_only_one_of_two_detectors_has_is_no_regression() -> None:
    wider = golden_answers(classes=("car", "truck", "tram"), boxes=9)
    narrower = wider.over(("car", "truck"))
    found = regressions(narrower, wider)
    assert found == {
        "slice_regression:golden": "passed",
        "slice_regression:golden/class=car": "passed",
        "slice_regression:golden/class=truck": "passed",
    }


def test_the_parts_that_have_a_floor_share_no_frame() -> None:
    answers = golden_answers(blocks=10, frames=1)
    number = np.arange(10)
    answers = replace(
        answers,
        slices={**answers.slices, "golden/light=night": number >= 7, "golden/weather=fog": number >= 5},
        is_simulated=number < 3,
    )
    parts = floor_parts(answers, ["light=night", "weather=fog", "light=dusk"])
    assert {name: part.frames for name, part in parts.items()} == {
        "golden/light=night": 3,
        "golden/weather=fog": 2,
        "golden/world=simulated": 3,
        "golden/world=real": 2,
    }


@pytest.mark.parametrize(("is_simulated", "kind"), [(True, "golden/world=simulated"), (False, "golden/world=real")])
def test_a_golden_set_of_one_world_is_judged_as_a_whole(is_simulated: bool, kind: str) -> None:
    parts = floor_parts(golden_answers(is_simulated=is_simulated), {})
    assert {name: part.slice for name, part in parts.items()} == {"golden": kind}


def test_no_golden_frames_no_parts() -> None:
    empty = replace(golden_answers(), slices={})
    assert floor_parts(empty, {}) == {}
    assert class_scores(empty) == []


def test_boxes_below_the_threshold_of_their_class_do_not_count_for_calibration() -> None:
    answers = golden_answers(blocks=2, frames=2)
    assert calibration_of(answers, {}).boxes == 40
    assert calibration_of(answers, {"car": 0.95}).boxes == 20
    assert calibration_of(answers, {}).error == pytest.approx(0.1)
