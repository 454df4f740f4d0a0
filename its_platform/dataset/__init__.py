"""Frames and labels become an immutable dataset version with splits that leak nothing.

Read `request` (what is asked for), `splits` (pure: which block goes where), `selection` (which frames may teach and
which may judge), `manifest` (the bytes of a version), `golden` (what judges every later model) and `build`.
"""

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
