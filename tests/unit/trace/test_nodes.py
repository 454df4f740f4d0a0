"""What a node of the graph says of its record."""

from __future__ import annotations

from its_platform.dataset import DatasetVersion
from its_platform.trace.nodes import nodes_of
from its_platform.trace.records import Contents, Records
from its_platform.trace.words import told


def test_a_dataset_of_which_one_frame_alone_was_read_says_nothing_of_its_cameras() -> None:
    version = DatasetVersion("v1", "d" * 64, ("car",), {"train": 3}, {"train": 9}, golden=None, previous=None)
    row = {"frame_hash": "f" * 64, "camera_id": "north", "captured_at": "2026-05-01T08:00:00+00:00", "sequence": None}

    def dataset(by_camera: dict[str, int]) -> str:
        records = Records(datasets=(version,), contents={"v1": Contents((row,), by_camera)})
        return next(told(node) for node in nodes_of(records) if node.kind == "dataset")

    assert "cameras north 3" in dataset({"north": 3})
    assert "cameras" not in dataset({})
