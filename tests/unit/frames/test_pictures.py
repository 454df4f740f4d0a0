"""Pictures for people."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from its_platform.errors import BadInput
from its_platform.frames.pictures import colour_of, contact_sheet, draw_boxes, spread_over_cameras


def opened(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_a_box_is_drawn_where_it_is_and_the_original_stays() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    drawn = draw_boxes(image, [(50, 40, 120, 80, "car 0.9")])
    assert image.max() == 0
    assert tuple(drawn[60, 50]) == colour_of("car 0.9") == colour_of("car")
    assert drawn[60, 85].max() == 0


def test_boxes_at_and_over_the_edge_are_drawn() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    assert draw_boxes(image, [(-5, -5, 20, 20, "a"), (190, 90, 300, 200, "b"), (0, 0, 0, 0, "")]).any()


def test_a_sheet_holds_each_picture_with_its_boxes_scaled() -> None:
    picture = np.full((180, 640, 3), 60, np.uint8)
    sheet = opened(
        contact_sheet([(picture, f"p{i}", [(100, 60, 500, 120, "bus")]) for i in range(5)], columns=2, width=320)
    )
    assert sheet.shape[1] == 2 * 320 + 3 * 6
    assert sheet.shape[0] == 3 * (90 + 20) + 4 * 6
    assert tuple(sheet[6 + 45, 6 + 50]) == colour_of("bus")


def test_a_sheet_of_nothing_is_a_picture_too() -> None:
    assert opened(contact_sheet([])).any()


def test_a_sheet_without_columns_is_refused() -> None:
    with pytest.raises(BadInput):
        contact_sheet([], columns=0)


def test_a_sheet_spreads_its_frames_over_cameras_and_time() -> None:
    rows = [("few", second) for second in range(2)] + [("many", second) for second in range(100)]
    start = pd.Timestamp("2026-05-01", tz="UTC")
    frames = pd.DataFrame(
        {"camera_id": name, "captured_at": start + pd.Timedelta(seconds=second)} for name, second in rows
    )
    picked = spread_over_cameras(frames, 8)
    seconds = (picked["captured_at"] - start).dt.total_seconds().astype(int)
    assert list(zip(picked["camera_id"], seconds, strict=True)) == [
        ("few", 0),
        ("few", 1),
        *(("many", second) for second in (0, 20, 40, 59, 79, 99)),
    ]
    assert len(spread_over_cameras(frames, 500)) == 102
    assert len(spread_over_cameras(frames, 1)) == 1
