"""The real data that other tests leave aside: each video, the labels of many cameras, the other detectors."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from its_platform.cameras import add_camera
from its_platform.cameras.registry import make_camera
from its_platform.errors import BadInput
from its_platform.frames.anonymise import open_anonymiser
from its_platform.frames.expectations import check_frames
from its_platform.frames.index import FrameIndex
from its_platform.frames.ingest import ingest
from its_platform.labels.auto import auto_label, ultralytics_detector
from its_platform.labels.formats import read_yolo, yolo_classes
from its_platform.labels.labelling import FrameLabels
from its_platform.labels.store import add_labels, current_labels
from its_platform.settings import FrameSettings
from its_platform.stores import Stores

pytestmark = [pytest.mark.data, pytest.mark.slow, pytest.mark.timeout(600)]

START = datetime(2026, 5, 1, 8, tzinfo=UTC)
VIDEOS = {
    "abhishek_highway.mp4",
    "intel_car-detection.mp4",
    "opencv_vtest.avi",
    "otvision_cars-cyclist.mp4",
    "otvision_cars-truck.mp4",
    "ozlu_input.mp4",
}
VEHICLES = {name: name for name in ("car", "bus", "truck")}


def needed(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path} is missing")
    return path


def test_two_seconds_of_every_video_are_taken_in(stores: Stores, data_folder: Path) -> None:
    videos = sorted(path for path in (data_folder / "videos").iterdir() if path.is_file())
    assert {path.name for path in videos} >= VIDEOS
    for number, path in enumerate(videos):
        source = f"file://{path}?start={START:%Y-%m-%dT%H:%M:%SZ}"
        add_camera(stores, make_camera(f"video{number}", source, sample_interval_s=0.5))
        result = ingest(stores, f"video{number}", until=START + timedelta(seconds=2))
        assert (result.added + result.duplicates, result.rejected, result.warnings) == (4, 0, ()), path.name
        assert result.added > 0, path.name
    assert check_frames(stores).passed


def test_the_labels_of_many_cameras_are_imported_box_by_box(stores: Stores, data_folder: Path) -> None:
    folder = needed(data_folder / "datasets" / "topview_vehicle")
    for split in ("train", "valid"):
        add_camera(stores, make_camera(split, str(folder / split / "images")))
        ingest(stores, split)
    written = [len(path.read_text("utf-8").splitlines()) for path in folder.glob("*/labels/*.txt")]
    classes = yolo_classes(folder)
    assert classes == ("Vehicle",)
    read = read_yolo(folder, classes, FrameIndex(stores).query())
    result = add_labels(stores, read.labels)
    assert (len(read.refused), len(result.refused)) == (0, 0)
    assert result.added == len(written)
    assert result.boxes == {"Vehicle": sum(written)}


def test_a_detector_finds_the_same_vehicles_in_each_of_its_forms(stores: Stores, data_folder: Path) -> None:
    forms = [needed(data_folder / "models" / name) for name in ("yolo11n.onnx", "yolo11n_from_onnx.pt")]
    source = f"file://{needed(data_folder / 'videos' / 'abhishek_highway.mp4')}?start={START:%Y-%m-%dT%H:%M:%SZ}"
    add_camera(stores, make_camera("highway", source, sample_interval_s=1))
    assert ingest(stores, "highway", until=START + timedelta(seconds=2)).added == 2
    hashes = list(FrameIndex(stores).query()["frame_hash"])
    found: list[dict[str, FrameLabels]] = []
    for weights in forms:
        detect, names = ultralytics_detector(weights)
        assert (len(names), names[2], names[7]) == (80, "car", "truck")
        made = auto_label(stores, hashes, detect, names, source=weights.name, mapping=VEHICLES)
        assert made.refused == ()
        found.append(current_labels(stores, hashes))
    boxes = [Counter(box.class_name for entry in labels.values() for box in entry.boxes) for labels in found]
    assert boxes[0]["car"] > 0, "cars drive through both pictures"
    assert set(boxes[0]) <= set(VEHICLES)
    assert boxes[0] == boxes[1]


def test_a_face_detector_of_no_fixed_size_is_refused_with_a_way_out(data_folder: Path) -> None:
    dynamic = needed(data_folder / "models" / "yunet_n_dynamic.onnx")
    plates = needed(data_folder / "models" / "license-plate-yolo11n.onnx")
    with pytest.raises(BadInput, match="cannot load") as refused:
        open_anonymiser(FrameSettings(face_model=dynamic, plate_model=plates))
    assert "fixed input size" in refused.value.hint
