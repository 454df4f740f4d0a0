from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from its_platform.errors import BadInput
from its_platform.labels import Box, FrameLabels
from its_platform.labels.formats import ReadLabels, read_coco, read_yolo, write_coco, write_yolo, yolo_classes

CLASSES = ("car", "bus", "truck")
WIDTH, HEIGHT = 961, 541


def frames(count: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "frame_hash": [f"{i:064x}" for i in range(count)],
            "source": [f"/footage/cam_A{i}.jpg" for i in range(count)],
            "width": WIDTH,
            "height": HEIGHT,
        }
    )


@st.composite
def boxes(draw: Callable[..., float]) -> Box:
    x1, y1 = draw(st.floats(0, WIDTH - 3)), draw(st.floats(0, HEIGHT - 3))
    x2, y2 = draw(st.floats(x1 + 1, WIDTH)), draw(st.floats(y1 + 1, HEIGHT))
    corners = (round(value, 2) for value in (x1, y1, x2, y2))
    return Box(draw(st.sampled_from(CLASSES)), *corners, "imported", "reviewed")  # type: ignore[arg-type]


labelled = st.lists(st.lists(boxes(), max_size=6), min_size=1, max_size=3)


def check_round_trip(
    found: list[list[Box]], write: Callable[[Path, list[FrameLabels]], object], read: Callable[[Path], ReadLabels]
) -> None:
    wanted = [FrameLabels(f"{i:064x}", tuple(some), CLASSES, review="reviewed") for i, some in enumerate(found)]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), wanted)
        back = read(Path(folder))
    assert back.refused == ()
    assert [entry.frame_hash for entry in back.labels] == [entry.frame_hash for entry in wanted]
    for entry, said in zip(wanted, back.labels, strict=True):
        assert [b.class_name for b in said.boxes] == [b.class_name for b in entry.boxes]
        for one, other in zip(entry.boxes, said.boxes, strict=True):
            assert other.corners == pytest.approx(one.corners, abs=0.01)


@given(labelled)
@settings(max_examples=40, deadline=None)
def test_yolo_reads_back_what_was_written(found: list[list[Box]]) -> None:
    check_round_trip(
        found,
        lambda folder, labels: write_yolo(folder, labels, CLASSES, frames()),
        lambda folder: read_yolo(folder, yolo_classes(folder), frames()),
    )


@given(labelled)
@settings(max_examples=40, deadline=None)
def test_coco_reads_back_what_was_written(found: list[list[Box]]) -> None:
    check_round_trip(
        found,
        lambda folder, labels: write_coco(folder / "coco.json", labels, CLASSES, frames()),
        lambda folder: read_coco(folder / "coco.json", frames()),
    )


def yolo_folder(folder: Path, **files: str) -> Path:
    (folder / "labels").mkdir()
    for name, text in files.items():
        (folder / "labels" / f"{name}.txt").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("3 .5 .5 .1 .1", "class 3 is not among the 3 classes"),
        ("-1 .5 .5 .1 .1", "class -1"),
        ("1.5 .5 .5 .1 .1", "class 1.5"),
        ("0 nan .5 .1 .1", "finite"),
        ("0 .5 .5", "is no YOLO line"),
        ("car .5 .5 .1 .1", "is no YOLO line"),
    ],
)
def test_each_unreadable_line_is_listed_and_keeps_its_frame_out(tmp_path: Path, line: str, reason: str) -> None:
    read = read_yolo(
        yolo_folder(tmp_path, cam_A0=f"0 .5 .5 .1 .1\n{line}\n", cam_A1="0 .5 .5 .1 .1"), CLASSES, frames()
    )
    assert [entry.frame_hash for entry in read.labels] == [f"{1:064x}"]
    assert [(refusal.frame, refusal.box) for refusal in read.refused] == [("cam_A0.txt", 1)]
    assert reason in read.refused[0].reason


def test_every_box_of_a_refused_frame_that_cannot_be_is_listed_at_once(tmp_path: Path) -> None:
    text = "9 .5 .5 .1 .1\n0 .5 .5 .1 .1\n0 .99 .5 .4 .1\n"
    read = read_yolo(yolo_folder(tmp_path, cam_A0=text), CLASSES, frames())
    assert [refusal.box for refusal in read.refused] == [0, 2]
    assert "outside" in read.refused[1].reason


def test_a_file_without_a_frame_and_a_name_of_two_frames_are_refused(tmp_path: Path) -> None:
    table = frames()
    table.loc[2, "source"] = "/other/cam_A1.png"
    read = read_yolo(yolo_folder(tmp_path, cam_A9="", cam_A1=""), CLASSES, table)
    assert read.labels == ()
    assert [str(refusal) for refusal in read.refused] == [
        "cam_A1.txt: 2 frames have this file name",
        "cam_A9.txt: there is no such frame",
    ]


def test_a_picture_beside_the_labels_decides_by_its_content(tmp_path: Path) -> None:
    folder = yolo_folder(tmp_path, renamed="0 .5 .5 .1 .1")
    (folder / "images").mkdir()
    (folder / "images" / "renamed.jpg").write_bytes(b"the picture")
    table = frames()
    table.loc[1, "frame_hash"] = hashlib.sha256(b"the picture").hexdigest()
    assert [entry.frame_hash for entry in read_yolo(folder, CLASSES, table).labels] == [table.loc[1, "frame_hash"]]


def test_a_picture_of_another_camera_gives_its_labels_to_no_frame_of_the_same_name(tmp_path: Path) -> None:
    folder = yolo_folder(tmp_path, cam_A1="0 .5 .5 .1 .1")
    (folder / "images").mkdir()
    (folder / "images" / "cam_A1.jpg").write_bytes(b"the picture")
    elsewhere = {hashlib.sha256(b"the picture").hexdigest()}
    read = read_yolo(folder, CLASSES, frames(), elsewhere=elsewhere)
    assert read.labels == ()
    assert [str(refusal) for refusal in read.refused] == ["cam_A1.txt: its picture is a frame of another camera"]
    stated = [{"id": 7, "file_name": "images/cam_A1.jpg", "width": WIDTH, "height": HEIGHT}]
    path = coco(tmp_path / "c.json", images=stated, annotations=[])
    assert read_coco(path, frames(), elsewhere=elsewhere).labels == ()


def test_an_empty_label_file_is_an_empty_frame_and_a_missing_one_is_no_label(tmp_path: Path) -> None:
    read = read_yolo(yolo_folder(tmp_path, cam_A1=""), CLASSES, frames())
    assert [(entry.frame_hash, entry.boxes) for entry in read.labels] == [(f"{1:064x}", ())]


def test_a_polygon_becomes_its_bounding_box(tmp_path: Path) -> None:
    read = read_yolo(yolo_folder(tmp_path, cam_A0="1 .1 .2 .5 .3 .2 .6"), CLASSES, frames())
    corners = (0.1 * WIDTH, 0.2 * HEIGHT, 0.5 * WIDTH, 0.6 * HEIGHT)
    assert read.labels[0].boxes[0].corners == pytest.approx(corners)


def test_class_names_come_from_data_yaml_of_the_folder_or_its_parent(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: {1: bus, 0: car}\n")
    camera = tmp_path / "camera"
    camera.mkdir()
    assert yolo_classes(camera) == ("car", "bus")
    (camera / "deeper" / "still").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"data\.yaml"):
        yolo_classes(camera / "deeper" / "still")


def test_a_folders_own_class_list_comes_before_the_one_above_it(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [car, bus]\n")
    camera = tmp_path / "camera"
    camera.mkdir()
    (camera / "classes.txt").write_text("bus\ncar\n")
    assert yolo_classes(camera) == ("bus", "car")
    (camera / "data.yaml").write_text("names: [truck]\n")
    assert yolo_classes(camera) == ("truck",)


def coco(path: Path, **changes: object) -> Path:
    content = {
        "images": [{"id": 7, "file_name": "images/cam_A0.jpg", "width": WIDTH * 2, "height": HEIGHT * 2}],
        "categories": [{"id": 3, "name": "car"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [20, 40, 60, 80]}],
    }
    path.write_text(json.dumps({**content, **changes}))
    return path


def test_coco_boxes_are_scaled_from_the_stated_size_to_the_stored_frame(tmp_path: Path) -> None:
    read = read_coco(coco(tmp_path / "c.json"), frames())
    assert read.labels[0].boxes[0].corners == pytest.approx((10, 20, 40, 60))


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ({"image_id": 7, "category_id": 9, "bbox": [1, 1, 9, 9]}, "category 9 is not listed"),
        ({"image_id": 7, "category_id": 3, "bbox": [1, 1, 9, 9], "iscrowd": 1}, "crowd"),
        ({"image_id": 7, "category_id": 3, "bbox": [1, 1]}, "four numbers"),
        ({"image_id": 8, "category_id": 3, "bbox": [1, 1, 9, 9]}, "image that is not listed"),
    ],
)
def test_each_coco_annotation_that_cannot_be_used_is_listed(
    tmp_path: Path, annotation: dict[str, object], reason: str
) -> None:
    read = read_coco(coco(tmp_path / "c.json", annotations=[annotation]), frames())
    assert len(read.refused) == 1
    assert reason in read.refused[0].reason


def test_a_file_that_is_not_coco_says_so(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    for text in ("{", "[]", '{"images": []}'):
        path.write_text(text)
        with pytest.raises(BadInput, match="COCO"):
            read_coco(path, frames())


def roboflow_export(folder: Path) -> Path:
    """Splits in folders of their own, one picture's name in both, and the notes that the export adds."""
    (folder / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['Vehicle']\n")
    (folder / "README.roboflow.txt").write_text("Vehicles - v3\nProvided by a Roboflow user\n")
    for split, text in (("train", "0 .5 .5 .1 .1\n"), ("valid", "0 .25 .25 .1 .1\n0 .5 .5 .2 .2\n")):
        (folder / split / "images").mkdir(parents=True)
        (folder / split / "labels").mkdir()
        (folder / split / "images" / "a.rf.0.jpg").write_bytes(split.encode())
        (folder / split / "labels" / "a.rf.0.txt").write_text(text)
    return folder


def test_splits_in_folders_of_their_own_are_read_together(tmp_path: Path) -> None:
    table = frames()
    for row, split in enumerate(("train", "valid")):
        table.loc[row, "frame_hash"] = hashlib.sha256(split.encode()).hexdigest()
    folder = roboflow_export(tmp_path)
    read = read_yolo(folder, yolo_classes(folder), table)
    assert read.refused == ()
    found = {entry.frame_hash: len(entry.boxes) for entry in read.labels}
    assert found == {table.loc[0, "frame_hash"]: 1, table.loc[1, "frame_hash"]: 2}
    one = read_yolo(folder / "valid", yolo_classes(folder / "valid"), table)
    assert [entry.frame_hash for entry in one.labels] == [table.loc[1, "frame_hash"]]


@pytest.mark.parametrize("where", ["images/b.jpg", "annotations/../images/b.jpg", "elsewhere/b.jpg"])
def test_a_coco_files_pictures_are_found_by_content_where_exports_put_them(tmp_path: Path, where: str) -> None:
    picture = tmp_path / where
    (tmp_path / "annotations").mkdir()
    picture.parent.mkdir(exist_ok=True)
    picture.write_bytes(b"the picture")
    table = frames()
    table.loc[1, "frame_hash"] = hashlib.sha256(b"the picture").hexdigest()
    stated = [{"id": 7, "file_name": "b.jpg", "width": WIDTH, "height": HEIGHT}]
    path = coco(tmp_path / "annotations" / "instances.json", images=stated)
    read = read_coco(path, table, images_in=tmp_path / "elsewhere" if "elsewhere" in where else None)
    assert [entry.frame_hash for entry in read.labels] == [table.loc[1, "frame_hash"]]


def test_a_coco_segmentation_without_a_box_is_framed(tmp_path: Path) -> None:
    annotation = {"image_id": 7, "category_id": 3, "segmentation": [[20, 40, 80, 40, 80, 120]]}
    read = read_coco(coco(tmp_path / "c.json", annotations=[annotation]), frames())
    assert read.labels[0].boxes[0].corners == pytest.approx((10, 20, 40, 60))
