"""Frames and labels become an immutable dataset version with splits that leak nothing.

Read `request` (what is asked for), `splits` (pure: which block goes where), `selection` (which frames may teach and
which may judge), `manifest` (the bytes of a version), `golden` (what judges every later model) and `build`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from its_platform.dataset.build import build_dataset
    from its_platform.dataset.golden import current_golden, golden_manifest, record_use
    from its_platform.dataset.request import DatasetRequest, NoReviewedLabels
    from its_platform.dataset.sampling import sample_window
    from its_platform.dataset.versions import DatasetVersion, latest, list_versions, load_manifest, version
    from its_platform.dataset.yolo import materialise_yolo

__all__ = [
    "DatasetRequest",
    "DatasetVersion",
    "NoReviewedLabels",
    "build_dataset",
    "current_golden",
    "golden_manifest",
    "latest",
    "list_versions",
    "load_manifest",
    "materialise_yolo",
    "record_use",
    "sample_window",
    "version",
]

_HOMES = {
    "DatasetRequest": "request",
    "DatasetVersion": "versions",
    "NoReviewedLabels": "request",
    "build_dataset": "build",
    "current_golden": "golden",
    "golden_manifest": "golden",
    "latest": "versions",
    "list_versions": "versions",
    "load_manifest": "versions",
    "materialise_yolo": "yolo",
    "record_use": "golden",
    "sample_window": "sampling",
    "version": "versions",
}


def __getattr__(name: str) -> Any:
    # A module that names a dataset version need not load tables, DVC and the frame index for it.
    import importlib

    if name in _HOMES:
        return getattr(importlib.import_module(f"its_platform.dataset.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
