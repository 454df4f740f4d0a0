"""A registered version: how it comes into the registry, its files on this machine, its training, its figures then.

Enters: a version number. Leaves: paths of its files, its parameters, or its evaluation. Making a version is `train`'s
work, and that of `formats`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its_platform.contract import FORMATS
from its_platform.errors import NotFound
from its_platform.model.export import digest_of
from its_platform.model.origin import EXPORTED_FROM
from its_platform.model.scoring import Evaluation
from its_platform.settings import REPOSITORY, STARTER_WEIGHTS
from its_platform.stores.journal import Journal
from its_platform.stores.registry import MODEL_NAME

if TYPE_CHECKING:
    from its_platform.stores import Stores
    from its_platform.stores.registry import ModelVersion, VersionFacts

EVALUATION, WEIGHTS, ONNX, PARITY = "evaluation.json", "model.pt", "model.onnx", "parity.json"


def register_version(stores: Stores, run_id: str, folder: Path, facts: VersionFacts) -> ModelVersion:
    """Make the files of a folder the next version, with a row in the audit trail."""
    about: dict[str, Any] = {"dataset": facts.dataset_version, "family": facts.family, "format": facts.format}
    with Journal(stores.settings).step("model.registered", f"run {run_id}", **about) as detail:
        made = stores.registry.create_version(run_id, folder, facts)
        detail |= {"version": made.version, "digest": made.digest}
        return made


def version_folder(stores: Stores, version: int) -> Path:
    """A local copy of a version's files: its format's, model.pt, evaluation.json, parity.json. Raises `NotFound`."""
    wanted = stores.registry.get(MODEL_NAME, version)
    folder = stores.settings.home / "cache" / "models" / f"{version}-{wanted.digest[:16]}"
    return stores.registry.download(MODEL_NAME, version, folder)


def exported_file(stores: Stores, version: int) -> Path:
    """A local copy of the file that a version is served as; of several, the one that is opened. Raises `NotFound`."""
    return version_folder(stores, version) / FORMATS[stores.registry.get(MODEL_NAME, version).format].file


def trained_version(known: ModelVersion) -> int:
    """The version that was trained: this one, or the one that this is another format of."""
    return int(known.tags.get(EXPORTED_FROM, known.version))


def base_weights(stores: Stores, version: int) -> Path:
    """The trained weights of a registered version, to train on from. Raises `NotFound`."""
    path = version_folder(stores, version) / WEIGHTS
    if not path.is_file():
        raise NotFound(f"Version {version} has no weights to train from.", "Give a .pt with --weights.")
    return path


def pipeline_parameters(stores: Stores, version: int) -> dict[str, dict[str, Any]]:
    """What params.yaml has to say to train a version again. Raises `NotFound`, also for weights that are gone."""
    known = stores.registry.get(MODEL_NAME, version)
    run = stores.registry.client().get_run(known.run_id).data
    told = run.params
    return {
        "dataset": {"version": told["dataset"], "digest": told["dataset_digest"]},
        "training": {
            "family": told["family"],
            "weights": str(_weights_of(stores, known, told["base_weights_digest"])),
            **{name: int(told[name]) for name in ("epochs", "image_size", "batch", "freeze_layers", "seed")},
            **{name: float(told[name]) for name in ("learning_rate", "export_iou")},
            "rectangular": told.get("rectangular") == "True",
            "device": run.tags.get("device", "cpu"),
        },
    }


def _weights_of(stores: Stores, known: ModelVersion, digest: str) -> Path:
    """Where the weights of this digest lie: the starter, or a registered version's."""
    if digest_of(STARTER_WEIGHTS) == digest:
        return STARTER_WEIGHTS.relative_to(REPOSITORY)
    for other in stores.registry.list():
        if other.weights_digest == digest:
            return base_weights(stores, other.version)
    raise NotFound(
        f"Version {known.version} began with weights that are neither the starter's nor a registered version's.",
        f"Put the .pt whose SHA-256 is {digest[:12]}… into training.weights.",
    )


def evaluation_of(stores: Stores, version: int) -> Evaluation:
    """What was measured when a version was trained. Raises `NotFound`."""
    path = version_folder(stores, version) / EVALUATION
    if not path.is_file():
        raise NotFound(f"Version {version} carries no evaluation.", f"Measure it: its model evaluate {version}.")
    return Evaluation.from_dict(json.loads(path.read_text("utf-8")))
