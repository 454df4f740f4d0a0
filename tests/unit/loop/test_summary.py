"""What the play on real footage promises, and which figures it reports."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from its_platform.loop.summary import broken_promises, main_class, rows_of
from its_platform.model.scoring import SliceScore

EVENING = datetime(2026, 5, 1, 22, tzinfo=UTC)


def score(name: str, class_name: str | None, boxes: int, ap50: float) -> SliceScore:
    return SliceScore(name, class_name, boxes, 10, ap50, 0.3, 0.8, 0.7, ap50 - 0.1, ap50 + 0.1)


SCORES = [
    score("all", None, 30, 0.5),
    score("all", "*", 30, 0.8),
    score("all", "bus", 4, 0.2),
    score("all", "car", 26, 0.9),
    score("north", None, 30, 0.6),
    score("north", "*", 30, 0.7),
    score("north", "car", 26, 0.75),
]


def facts(**changes: Any) -> dict[str, Any]:
    rows = [(1, 0.5), (2, 0.6)]
    return {
        "models": [{"version": 1}, {"version": 2}],
        "live_camera": "night",
        "drift": [{"model": 1, "since": EVENING, "verdict": "drifted"}],
        "served": {"staging": None, "production": 2},
        "duplicates": {"frames": 0},
        "scores": [{"version": v, "camera": "night", "what": "any class", "ap50": ap50} for v, ap50 in rows],
        **changes,
    }


def test_the_main_class_is_the_one_with_most_boxes():
    assert main_class(SCORES) == "car"


def test_three_figures_are_told_of_each_camera_and_of_all_together():
    rows = rows_of(2, SCORES, "car")
    assert [(row["camera"], row["what"], row["ap50"]) for row in rows] == [
        ("all", "car", 0.9),
        ("all", "any class", 0.8),
        ("all", "mean of classes", 0.5),
        ("north", "car", 0.75),
        ("north", "any class", 0.7),
        ("north", "mean of classes", 0.6),
    ]
    assert (rows[0]["low"], rows[0]["high"]) == (pytest.approx(0.8), pytest.approx(1.0))


def test_a_loop_that_closed_broke_no_promise():
    assert broken_promises(facts()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"drift": [{"model": 1, "since": EVENING, "verdict": "stable"}]}, "from 22:00 was judged stable"),
        ({"served": {"staging": None, "production": 1}}, "Triton serves version 1, not 2"),
        ({"duplicates": {"frames": 3}}, "there twice"),
        (
            {"scores": [{"version": v, "camera": "night", "what": "any class", "ap50": 0.5} for v in (1, 2)]},
            "AP50 on night went from 0.500 to 0.500",
        ),
    ],
)
def test_a_promise_that_was_not_kept_is_told_in_words(changes: dict[str, Any], said: str):
    (wrong,) = broken_promises(facts(**changes))
    assert said in wrong
