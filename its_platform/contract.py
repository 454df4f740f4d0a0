"""What a served detector takes, and what kind of file it is: the two things that its Triton model is named for.

Enters: a size or a format as a tag, a setting or JSON has it. Leaves: values that every stage means the same by.
How a format is made is in `model`, how it is served in `serving`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

ImageSize = int | tuple[int, int]
"""The picture that a detector is given, in pixels: the side of a square, or height and width of what is none."""

FormatName = Literal["onnx", "onnx-int8", "openvino", "tensorrt"]


@dataclass(frozen=True)
class Format:
    """A kind of file that Triton serves.

    files: what lies in a version's folder, the one that is opened first. runs_on: Triton's platform or backend.
    is_exact: whether it computes what the weights say, so that its boxes are theirs; one that rounds is held to
    accuracy instead.
    """

    name: FormatName
    files: tuple[str, ...]
    runs_on: tuple[Literal["platform", "backend"], str]
    is_exact: bool = True

    @property
    def file(self) -> str:
        return self.files[0]


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        one.name: one
        for one in (
            Format("onnx", ("model.onnx",), ("platform", "onnxruntime_onnx")),
            Format("onnx-int8", ("model.onnx",), ("platform", "onnxruntime_onnx"), is_exact=False),
            Format("openvino", ("model.xml", "model.bin"), ("backend", "openvino")),
            Format("tensorrt", ("model.plan",), ("platform", "tensorrt_plan"), is_exact=False),
        )
    }
)


def read_size(value: Any) -> ImageSize:
    """A size from `320`, `"320"`, `"320x192"` (width first, as everywhere in text) or `[192, 320]` (height first).

    Raises `ValueError` for anything else.
    """
    if isinstance(value, str) and "x" in value:
        width, height = value.split("x")
        sides = (int(height), int(width))
    elif isinstance(value, list | tuple):
        height, width = value
        sides = (int(height), int(width))
    else:
        sides = (int(value), int(value))
    if min(sides) < 1:
        raise ValueError(f"a side of {min(sides)} pixels")
    return sides[0] if sides[0] == sides[1] else sides


def size_text(size: ImageSize) -> str:
    """`320`, or `320x192` for a width of 320 and a height of 192."""
    return str(size) if isinstance(size, int) else f"{size[1]}x{size[0]}"


def served_digest(folder: Path, format_name: str) -> str:
    """sha256 hex of what is served of a version in this folder; empty where a file of its format is missing."""
    files = [folder / name for name in FORMATS[format_name].files]
    return files_digest(files) if all(path.is_file() for path in files) else ""


def files_digest(files: Sequence[Path]) -> str:
    """sha256 hex of a file, or of several the same over their digests in order."""
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()
