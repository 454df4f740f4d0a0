"""A registered version's files on this machine, and what was measured when it was trained.

Enters: a version number. Leaves: paths of its files, or its evaluation. Making a version is `train`'s work.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from its_platform.errors import NotFound
from its_platform.model.scoring import Evaluation
from its_platform.stores.registry import MODEL_NAME

if TYPE_CHECKING:
    from its_platform.stores import Stores

EVALUATION, WEIGHTS, ONNX, PARITY = "evaluation.json", "model.pt", "model.onnx", "parity.json"


def version_folder(stores: Stores, version: int) -> Path:
    """A local copy of a version's files: model.onnx, model.pt, evaluation.json, parity.json. Raises `NotFound`."""
    wanted = stores.registry.get(MODEL_NAME, version)
    folder = stores.settings.home / "cache" / "models" / f"{version}-{wanted.digest[:16]}"
    return stores.registry.download(MODEL_NAME, version, folder)


def base_weights(stores: Stores, version: int) -> Path:
    """The trained weights of a registered version, to train on from. Raises `NotFound`."""
    path = version_folder(stores, version) / WEIGHTS
    if not path.is_file():
        raise NotFound(f"Version {version} has no weights to train from.", "Give a .pt with --weights.")
    return path


def evaluation_of(stores: Stores, version: int) -> Evaluation:
    """What was measured when a version was trained. Raises `NotFound`."""
    path = version_folder(stores, version) / EVALUATION
    if not path.is_file():
        raise NotFound(f"Version {version} carries no evaluation.", f"Measure it: its model evaluate {version}.")
    return Evaluation.from_dict(json.loads(path.read_text("utf-8")))
