from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from its_platform.cameras import Camera, add_camera
from its_platform.detections import Detections
from its_platform.labels import Box, FrameLabels
from its_platform.labels.auto import auto_label
from its_platform.labels.expectations import check_labels
from its_platform.labels.pictures import labelled_sheet
from its_platform.labels.review import review_simulated, unlabelled_frames
from its_platform.labels.store import (
    LabelsUnreadable,
    add_labels,
    current_labels,
    label_history,
    label_statistics,
    table_path,
)
from its_platform.simulation import append_segment, truth_at
from its_platform.stores import Stores
from tests.unit.dataset.footage import CLASSES, add_frames, label

BOX = Box("car", 4, 5, 24, 25, "human", "reviewed")


def labelling(frame_hash: str, *boxes: Box, review: str = "reviewed") -> FrameLabels:
    return FrameLabels(frame_hash, boxes, CLASSES, review=review)  # type: ignore[arg-type]


def test_what_cannot_be_used_is_listed_one_by_one_and_the_rest_is_stored(stores: Stores) -> None:
    good, bad = add_frames(stores, "bridge", [0, 1])
    wrong = (replace(BOX, x2=900), BOX, replace(BOX, class_name="tram"))
    result = add_labels(stores, [labelling(good, BOX), labelling(bad, *wrong), labelling("0" * 64, BOX)])
    assert result.added == 1
    assert [(refusal.frame, refusal.box) for refusal in result.refused] == [(bad, 0), (bad, 2), ("0" * 64, None)]
    assert set(current_labels(stores)) == {good}


def test_the_same_content_twice_adds_nothing_and_a_return_to_earlier_boxes_does(stores: Stores) -> None:
    (frame,) = add_frames(stores, "bridge", [0])
    first, second = labelling(frame, BOX), labelling(frame, replace(BOX, x1=6))
    assert add_labels(stores, [first, first]).added == 1
    assert add_labels(stores, [replace(first, source="again")]).unchanged == 1
    assert add_labels(stores, [second]).added == 1
    assert add_labels(stores, [first]).added == 1
    assert current_labels(stores)[frame].boxes[0].x1 == 4
    assert [entry.boxes[0].x1 for entry in label_history(stores, frame)] == [4, 6, 4]


def test_labels_added_twice_at_once_are_stored_once(stores: Stores) -> None:
    frames = add_frames(stores, "bridge", range(5))
    wanted = [labelling(frame, BOX) for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: add_labels(stores, wanted), range(4)))
    assert sum(result.added for result in results) == 5
    assert [len(label_history(stores, frame)) for frame in frames] == [1] * 5


def test_a_later_unreviewed_labelling_does_not_supersede_a_reviewed_one(stores: Stores) -> None:
    (frame,) = add_frames(stores, "bridge", [0])
    label(stores, [frame])
    label(stores, [frame], origin="model", review="unreviewed", x=9)
    assert current_labels(stores)[frame].boxes[0].origin == "human"
    assert len(label_history(stores, frame)) == 2


def test_a_slow_clock_does_not_hide_what_was_added_last(stores: Stores) -> None:
    (frame,) = add_frames(stores, "bridge", [0])
    now = labelling(frame, BOX)
    add_labels(stores, [now])
    add_labels(stores, [replace(labelling(frame), created_at=now.created_at - timedelta(hours=1))])
    assert current_labels(stores)[frame].boxes == ()


def test_a_damaged_table_is_an_error_and_never_no_labels(stores: Stores) -> None:
    (frame,) = add_frames(stores, "bridge", [0])
    label(stores, [frame])
    for entry in (table_path(stores) / "_delta_log").glob("*.json"):
        entry.write_text("{")
    with pytest.raises(LabelsUnreadable):
        current_labels(stores)


def test_a_detectors_boxes_are_unreviewed_of_origin_model_and_cut_at_the_border(stores: Stores) -> None:
    frames = add_frames(stores, "bridge", range(3))

    def detect(images: list[np.ndarray]) -> list[Detections]:
        rows = np.array([[-5, 5, 20, 25, 0.9, 0], [5, 5, 20, 25, 0.1, 0], [5, 5, 20, 25, 0.8, 1]], np.float32)
        return [Detections.from_rows(rows) for _ in images]

    result = auto_label(stores, frames, detect, ("vehicle", "person"), 0.4, batch=2, mapping={"vehicle": "car"})  # type: ignore[arg-type]
    assert (result.added, result.refused) == (3, ())
    said = current_labels(stores)[frames[0]]
    assert [(b.class_name, b.x1, b.origin, b.review) for b in said.boxes] == [("car", 0, "model", "unreviewed")]
    assert said.classes == ("car",)
    assert not said.is_reviewed


def test_what_a_detector_labelled_before_it_was_stopped_is_kept(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("its_platform.labels.auto.STORED_AT_ONCE", 2)
    frames = add_frames(stores, "bridge", range(5))
    rows = np.array([[5, 5, 20, 25, 0.9, 0]], np.float32)
    asked: list[int] = []

    def detect(images: list[np.ndarray]) -> list[Detections]:
        asked.append(len(images))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return [Detections.from_rows(rows) for _ in images]

    with pytest.raises(KeyboardInterrupt):
        auto_label(stores, frames, detect, ("car",), batch=1)  # type: ignore[arg-type]
    assert set(current_labels(stores)) == set(frames[:2])
    again = auto_label(stores, frames, detect, ("car",), batch=1)  # type: ignore[arg-type]
    assert (again.added, again.unchanged, again.boxes) == (3, 2, {"car": 5})


def test_the_simulated_reviewer_tells_the_truth_of_simulated_frames_alone(stores: Stores) -> None:
    append_segment(stores.settings, "day", "clear", 60)
    from its_platform.simulation import read_timeline

    epoch = read_timeline(stores.settings).epoch
    add_camera(stores, Camera(camera_id="sim", source="sim://junction"))
    add_camera(stores, Camera(camera_id="real", source="/footage/real"))
    simulated, real = add_frames(stores, "sim", [5], start=epoch)[0], add_frames(stores, "real", [5])[0]
    late = add_frames(stores, "sim", [500], start=epoch)[0]
    from its_platform.frames.index import FrameIndex

    assert len(FrameIndex(stores).query()) == 3
    assert unlabelled_frames(stores) == [simulated, late]
    # The stand-in pictures are smaller than the world's, so the truth is judged as any other label.
    result = review_simulated(stores, [simulated, real, late, "0" * 64])
    reasons = {refusal.frame: refusal.reason for refusal in result.refused}
    assert reasons[real] == "camera real is not simulated"
    assert reasons["0" * 64] == "there is no such frame"
    assert late in reasons
    truth = truth_at(stores.settings, "sim://junction", epoch + timedelta(seconds=5))
    assert truth
    if result.added:
        assert {box.origin for box in current_labels(stores)[simulated].boxes} == {"simulated"}


def test_the_check_counts_and_fails_where_a_frame_has_gone(stores: Stores) -> None:
    assert not check_labels(stores).passed
    frames = add_frames(stores, "bridge", range(3))
    label(stores, frames)
    result = check_labels(stores)
    assert (result.passed, result.failures) == (True, [])
    assert result.statistics["boxes_by_class"] == {"car": 3, "truck": 3}
    assert label_statistics(stores)["frames_fit_to_judge"] == 3
    assert labelled_sheet(stores, frames).startswith(b"\x89PNG")  # type: ignore[union-attr]
    assert labelled_sheet(stores, []) is None
