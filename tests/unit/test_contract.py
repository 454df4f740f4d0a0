"""Sizes and formats mean the same in tags, names and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from its_platform.contract import FORMATS, ImageSize, files_digest, read_size, served_digest, size_text


@pytest.mark.parametrize(
    ("written", "size", "text"),
    [
        ("320", 320, "320"),
        (640, 640, "640"),
        ("320x192", (192, 320), "320x192"),
        ([192, 320], (192, 320), "320x192"),
        ("320x320", 320, "320"),
    ],
)
def test_a_size_is_read_from_all_that_it_is_written_as(written: Any, size: ImageSize, text: str) -> None:
    assert read_size(written) == size
    assert size_text(size) == text
    assert read_size(text) == size


@pytest.mark.parametrize("written", ["", "x", "320x", "0", "1x2x3", [1, 2, 3], None])
def test_what_is_no_size_is_refused(written: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        read_size(written)


def test_a_digest_stands_for_every_file_of_a_format(tmp_path: Path) -> None:
    for name in ("model.onnx", "model.xml", "model.bin"):
        (tmp_path / name).write_text(name)
    assert served_digest(tmp_path, "onnx") == files_digest([tmp_path / "model.onnx"])
    before = served_digest(tmp_path, "openvino")
    (tmp_path / "model.bin").write_text("changed")
    assert served_digest(tmp_path, "openvino") not in ("", before)
    (tmp_path / "model.bin").unlink()
    assert served_digest(tmp_path, "openvino") == ""


def test_only_formats_that_round_are_excused_from_finding_the_same_boxes() -> None:
    assert {name for name, kind in FORMATS.items() if not kind.is_exact} == {"onnx-int8", "tensorrt"}
