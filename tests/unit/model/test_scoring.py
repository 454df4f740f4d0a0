"""Average precision by known values, and the rules of slices, classes and intervals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from its_platform.model.scoring import (
    Evaluation,
    average_precision,
    best_thresholds,
    iou_matrix,
    match_class,
    score_detections,
)

BOX = [0.0, 0.0, 10.0, 10.0]


def truth(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 5)


def found(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 6)


def test_iou_of_known_boxes() -> None:
    a = np.array([BOX], np.float32)
    b = np.array([BOX, [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float32)
    assert np.allclose(iou_matrix(a, b), [[1.0, 1 / 3, 0.0, 0.0]])


def test_average_precision_of_a_perfect_detector_is_one() -> None:
    assert average_precision(np.array([True, True, True]), 3) == pytest.approx(1.0)


def test_average_precision_of_known_hits() -> None:
    # Hit, miss, hit of two: precision 1 up to recall 0.5 (51 points), then 2/3 (50 points).
    assert average_precision(np.array([True, False, True]), 2) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_class_that_is_never_found_scores_zero() -> None:
    assert average_precision(np.zeros(0, bool), 5) == 0.0
    assert average_precision(np.array([False, False]), 5) == 0.0


def test_a_weight_of_two_is_the_frame_twice() -> None:
    once = average_precision(np.array([True, False, True]), 3, np.array([2.0, 1.0, 1.0]))
    twice = average_precision(np.array([True, True, False, True]), 3)
    assert once == pytest.approx(twice)


def test_a_second_box_on_the_same_object_is_a_false_one() -> None:
    match = match_class([truth([*BOX, 0])], [found([*BOX, 0.9, 0], [*BOX, 0.8, 0])], 0)
    assert match.hit[:, 0].tolist() == [True, False]


def test_the_surer_box_takes_the_object() -> None:
    rows = found([*BOX, 0.5, 0], [0, 0, 10, 9, 0.9, 0])
    match = match_class([truth([*BOX, 0])], [rows], 0)
    assert match.confidence.tolist() == pytest.approx([0.9, 0.5])
    assert match.hit[:, 0].tolist() == [True, False]


def test_the_mean_is_over_the_classes_that_the_truth_holds() -> None:
    scores = score_detections([truth([*BOX, 0])], [found([*BOX, 0.9, 0])], ["car", "bus"], rounds=5)
    assert scores[0].ap50 == pytest.approx(1.0)
    assert scores[0].boxes == 1


def test_a_wrong_class_counts_for_nothing_but_is_right_when_classes_are_ignored() -> None:
    scores = score_detections([truth([*BOX, 0])], [found([*BOX, 0.9, 1])], ["car", "bus"], rounds=5)
    by_class = {s.class_name: s for s in scores}
    assert by_class[None].ap50 == 0.0
    assert by_class["*"].ap50 == pytest.approx(1.0)


def test_precision_and_recall_are_those_at_the_threshold_of_the_class() -> None:
    true = [truth([*BOX, 0], [20, 20, 30, 30, 0])]
    rows = [found([*BOX, 0.9, 0], [20, 20, 30, 30, 0.3, 0], [50, 50, 60, 60, 0.8, 0])]
    score = score_detections(true, rows, ["car"], thresholds={"car": 0.5}, rounds=5)[0]
    assert (score.precision, score.recall) == (0.5, 0.5)


def test_a_slice_without_boxes_says_so() -> None:
    score = score_detections([truth()], [found([*BOX, 0.9, 0])], ["car"], rounds=5)[0]
    assert (score.boxes, score.frames, score.ap50, score.precision) == (0, 1, 0.0, 0.0)


def test_the_interval_holds_the_value_and_has_no_width_for_one_block() -> None:
    random = np.random.default_rng(1)
    true = [truth([*BOX, 0]) for _ in range(40)]
    rows = [found([*BOX, random.uniform(0.3, 1), 0]) if random.random() < 0.6 else found() for _ in range(40)]
    score = score_detections(true, rows, ["car"], rounds=100)[0]
    assert score.ap50_low < score.ap50 < score.ap50_high
    alone = score_detections(true, rows, ["car"], blocks=["one"] * 40, rounds=20)[0]
    assert alone.ap50_low == alone.ap50_high == alone.ap50


def test_slices_count_their_own_frames_alone() -> None:
    true = [truth([*BOX, 0]), truth([*BOX, 0])]
    rows = [found([*BOX, 0.9, 0]), found()]
    masks = {"day": np.array([True, False]), "night": np.array([False, True])}
    scores = {s.slice: s for s in score_detections(true, rows, ["car"], masks, rounds=5) if s.class_name is None}
    assert scores["day"].ap50 == pytest.approx(1.0)
    assert scores["night"].ap50 == 0.0


def test_it_agrees_with_ultralytics_on_random_boxes() -> None:
    from ultralytics.utils.metrics import ap_per_class

    random = np.random.default_rng(3)
    true, rows = [], []
    for _ in range(60):
        corners = random.uniform(0, 300, (5, 2)).astype(np.float32)
        boxes = np.concatenate([corners, corners + random.uniform(20, 60, (5, 2))], 1)
        true.append(np.concatenate([boxes, np.zeros((5, 1))], 1).astype(np.float32))
        moved = boxes + random.normal(0, 6, boxes.shape)
        rows.append(np.concatenate([moved, random.uniform(0, 1, (5, 1)), np.zeros((5, 1))], 1).astype(np.float32))
    match = match_class(true, rows, 0)
    theirs = ap_per_class(match.hit, match.confidence, np.zeros(len(match.hit)), np.zeros(300))[5][0]
    ours = score_detections(true, rows, ["car"], rounds=2)[0]
    assert ours.ap50 == pytest.approx(theirs[0], abs=0.01)
    assert ours.ap50_95 == pytest.approx(theirs.mean(), abs=0.01)


def test_the_threshold_is_that_of_the_best_f1_within_its_bounds() -> None:
    true = [truth([*BOX, 0])] * 4
    rows = [found([*BOX, 0.4, 0]), found([*BOX, 0.45, 0]), found([50, 50, 60, 60, 0.2, 0]), found([*BOX, 0.3, 0])]
    assert best_thresholds(true, rows, ["car", "bus"]) == {"car": 0.3, "bus": 0.25}
    assert best_thresholds(true, [found([*BOX, 0.95, 0])] * 4, ["car"]) == {"car": 0.6}


def test_an_evaluation_survives_json() -> None:
    scores = score_detections([truth([*BOX, 0])], [found([*BOX, 0.9, 0])], ["car"], rounds=5)
    whole = Evaluation(tuple(scores), ("car",), {"car": 0.3}, "v1", "abc")
    assert Evaluation.from_dict(json.loads(json.dumps(whole.as_dict()))) == whole
    assert whole.score("no such slice") is None
