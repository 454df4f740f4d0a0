"""The calibration error of made-up detectors whose error is known."""

from __future__ import annotations

import numpy as np
import pytest

from its_platform.model.confidence import calibration

BOX = (0.0, 0.0, 10.0, 10.0)


def frames(confidence: float, hits: int, of: int, class_id: int = 0) -> tuple[list, list]:
    """Frames with one found box each, of which `hits` lie on a true one."""
    truth = [np.array([[*BOX, class_id]]) if n < hits else np.zeros((0, 5)) for n in range(of)]
    return truth, [np.array([[*BOX, confidence, class_id]]) for _ in range(of)]


@pytest.mark.parametrize(
    ("confidence", "hits", "error", "leaning"), [(0.8, 8, 0.0, 0.0), (0.8, 4, 0.4, 0.4), (0.3, 8, 0.5, -0.5)]
)
def test_the_error_is_the_distance_between_promise_and_hits(
    confidence: float, hits: int, error: float, leaning: float
) -> None:
    found = calibration(*frames(confidence, hits, 10), ["car"], {})
    assert (found.error, found.overconfidence) == (pytest.approx(error, abs=1e-6), pytest.approx(leaning, abs=1e-6))
    assert found.boxes == 10


def test_errors_to_both_sides_do_not_cancel_across_bins() -> None:
    low, high = frames(0.35, 10, 10), frames(0.95, 3, 10)
    found = calibration(low[0] + high[0], low[1] + high[1], ["car"], {})
    assert found.error == pytest.approx(0.65)
    assert found.overconfidence == pytest.approx(0.0, abs=1e-6)


def test_a_box_of_the_wrong_class_is_no_hit() -> None:
    truth, _ = frames(0.9, 10, 10, class_id=1)
    _, found = frames(0.9, 10, 10, class_id=0)
    assert calibration(truth, found, ["car", "bus"], {}).error == pytest.approx(0.9)


def test_nothing_found_is_nothing_to_judge() -> None:
    truth, found = frames(0.2, 5, 5)
    assert calibration(truth, found, ["car"], {"car": 0.5}).boxes == 0
