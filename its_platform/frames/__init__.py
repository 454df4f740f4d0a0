"""Footage becomes frames: read, measured, made anonymous, stored by content and indexed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from its_platform.frames.frame import Frame
    from its_platform.frames.index import FrameIndex, FrameRow
    from its_platform.frames.ingest import IngestResult, load_image, load_jpeg, object_key

__all__ = ["Frame", "FrameIndex", "FrameRow", "IngestResult", "load_image", "load_jpeg", "object_key"]

_HOMES = {
    "Frame": "frame",
    "FrameIndex": "index",
    "FrameRow": "index",
    "IngestResult": "ingest",
    "load_image": "ingest",
    "load_jpeg": "ingest",
    "object_key": "ingest",
}


def __getattr__(name: str) -> Any:
    # Pictures can be read without the index and its table format being loaded.
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(f"its_platform.frames.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
