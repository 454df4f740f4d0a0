"""Whatever stands in a label file: it is read, or refused in the platform's words."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from its_platform.errors import BadInput
from its_platform.labels.formats import read_coco, read_yolo, yolo_classes
from its_platform.labels.labelling import box_faults, rename_classes

FRAMES = pd.DataFrame({"frame_hash": ["0" * 64], "source": ["a.jpg"], "width": [64], "height": [48]})
CLASSES = ("car", "bus")

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
numbers = st.floats(-2, 3).map(str) | st.sampled_from(["nan", "inf", "-inf", "1e999", "0x1", "1_0", "", "٣", "0"])
yaml_like = st.text('names:[]{}-, &*!\n0123ab"', max_size=60)
lines = st.lists(st.lists(numbers, min_size=1, max_size=9).map(" ".join), max_size=5).map("\n".join)


def field(*usual: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(usual) | values


images = st.fixed_dictionaries({}, optional={"id": field(1), "file_name": field("a.jpg"), "width": field(64, 0)})
boxes = st.fixed_dictionaries(
    {},
    optional={
        "image_id": field(1, 2),
        "category_id": field(1, 2),
        "bbox": field([1, 2, 9, 9]) | st.lists(scalars, min_size=4, max_size=4),
        "score": field(0.5),
        "iscrowd": field(0, 1),
    },
)
categories = st.fixed_dictionaries({}, optional={"id": field(1), "name": field("car")})
coco_like = st.fixed_dictionaries(
    {},
    optional={
        "images": st.lists(images | values, max_size=3) | values,
        "annotations": st.lists(boxes | values, max_size=4) | values,
        "categories": st.lists(categories | values, max_size=2) | values,
    },
)
sound = st.fixed_dictionaries(
    {
        "images": st.just([{"id": 1, "file_name": "a.jpg"}]),
        "annotations": st.lists(boxes, max_size=4),
        "categories": st.just([{"id": 1, "name": "car"}]),
    }
)


@given(st.binary(max_size=200) | lines.map(str.encode))
@settings(max_examples=80, deadline=None)
def test_any_yolo_file_gives_labels_of_its_frame_or_a_refusal(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.txt").write_bytes(data)
        read = read_yolo(Path(folder), CLASSES, FRAMES)
    assert len(read.labels) == 1 or read.refused
    for entry in read.labels:
        assert {box.class_name for box in entry.boxes} <= set(CLASSES)
        box_faults(rename_classes(entry, {}), 64, 48)


@given(st.binary(max_size=200) | (coco_like | sound | values).map(lambda value: json.dumps(value).encode()))
@settings(max_examples=80, deadline=None)
def test_any_coco_file_gives_labels_refusals_or_bad_input(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        path.write_bytes(data)
        with contextlib.suppress(BadInput):
            for entry in read_coco(path, FRAMES).labels:
                box_faults(entry, 64, 48)


@given(st.binary(max_size=120) | yaml_like.map(lambda text: f"names: {text}".encode()))
@settings(max_examples=100, deadline=None)
def test_any_class_list_gives_names_or_bad_input(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data.yaml").write_bytes(data)
        with contextlib.suppress(BadInput):
            names = yolo_classes(Path(folder))
            assert names
            assert all(isinstance(name, str) for name in names)


def test_a_class_list_is_bounded_before_it_is_unfolded(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [" + "car, " * 300_000 + "bus]")
    with pytest.raises(BadInput, match="larger than 1 MB"):
        yolo_classes(tmp_path)
