"""From a dataset version to a registered model version: the candidate.

Enters: a dataset version's name and the settings. Leaves: a `Candidate`, with everything that belongs to it in its
MLflow run: parameters, curves, scores by slice and class, pictures, and where it comes from. The version is registered
last, so a training that is killed leaves a run without a version and is simply started again. What is the same
training (dataset, parameters and weights alike) is found again rather than done twice.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from its_platform.errors import BadInput
from its_platform.model.embedder import export_embedder
from its_platform.model.export import ParityResult
from its_platform.model.exported import read_detector
from its_platform.model.origin import DAGSTER_TAG, code_commit
from its_platform.model.registered import EVALUATION, ONNX, WEIGHTS, base_weights, evaluation_of, register_version
from its_platform.model.scoring import Evaluation
from its_platform.model.steps import export_weights, judge_export, train_weights, training_parameters
from its_platform.model.trainer import EpochFigures, TrainedDetector
from its_platform.stores.registry import MODEL_NAME, ModelVersion, VersionFacts
from its_platform.telemetry import Progress, no_progress
from its_platform.weights import check_weights

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
    from pandas import DataFrame

    from its_platform.dataset import DatasetVersion
    from its_platform.stores import Stores

KEY_TAG = "training_key"

__all__ = [
    "Candidate",
    "base_weights",
    "facts_of",
    "finished_candidate",
    "register_detector",
    "registered_candidate",
    "train_candidate",
]


@dataclass(frozen=True)
class Candidate:
    """A registered version with its run and its figures. `is_new`: whether this call trained it."""

    model_version: ModelVersion
    run_id: str
    evaluation: Evaluation
    is_new: bool = True


@dataclass(frozen=True)
class _Made:
    """What lies in the work folder when all is measured and nothing is registered yet."""

    folder: Path
    trained: TrainedDetector
    parity: ParityResult
    evaluation: Evaluation


def train_candidate(
    stores: Stores,
    dataset: str,
    progress: Progress = no_progress,
    epochs: int | None = None,
    weights: Path | None = None,
    image_size: int | None = None,
    fresh: bool = False,
    dagster_run: str | None = None,
) -> Candidate:
    """Train, export, compare, evaluate and register. None takes the setting.

    A finished candidate of the same dataset, parameters and weights is returned as it is, unless `fresh`.
    dagster_run: id of the Dagster run that asks for it, kept for the trace. Raises `BadInput` for weights that are
    not there or may not be read, `NotFound` for an unknown dataset version.
    """
    from its_platform.dataset import load_manifest, version

    base = Path(weights or stores.settings.training.weights)
    check_weights(base)
    wanted = version(stores, dataset)
    parameters = training_parameters(stores.settings, wanted, base, epochs, image_size)
    key = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
    # The lock ends with its process: a run that is open although the lock is free belongs to a dead training.
    with stores.database.lock(f"train {key}"):
        _close_dead_runs(stores, key)
        if not fresh and (done := finished_candidate(stores, key)):
            return done
        # What is served next is watched from its first frame on, and that takes the embedder.
        export_embedder(stores.settings)
        manifest = load_manifest(stores, dataset)
        with _run(stores, key, parameters, wanted, dagster_run) as (client, run_id, folder):
            made = _make(stores, client, run_id, folder, wanted, manifest, base, parameters, progress)
            return Candidate(_register(stores, run_id, made, wanted, parameters, key), run_id, made.evaluation)


def register_detector(
    stores: Stores,
    dataset: str,
    weights: Path,
    onnx: Path | None = None,
    progress: Progress = no_progress,
) -> Candidate:
    """Register a detector that was trained elsewhere: exported, compared and evaluated like any other candidate.

    onnx: its own export, taken instead of one of ours; what it differs from the weights in is found by the comparison.
    The same files for the same dataset are registered once. Raises `BadInput` for weights that may not be read or have
    other classes than the dataset, `NotFound` for an unknown dataset version.
    """
    from its_platform.dataset import load_manifest, version
    from its_platform.model.export import digest_of, inference_network

    check_weights(weights)
    wanted = version(stores, dataset)
    _, _, classes = inference_network(weights)
    if tuple(classes) != tuple(wanted.classes):
        raise BadInput(
            f"{weights.name} has the classes {', '.join(classes)}, dataset {dataset} has {', '.join(wanted.classes)}.",
            "Only a detector of the dataset's own classes, in their order, can be judged on it.",
        )
    parameters = training_parameters(stores.settings, wanted, weights) | {"epochs": 0, "onnx_digest": "own"}
    if onnx is not None:
        parameters["onnx_digest"] = digest_of(onnx)
    key = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
    with stores.database.lock(f"train {key}"):
        _close_dead_runs(stores, key)
        if done := finished_candidate(stores, key):
            return done
        manifest = load_manifest(stores, dataset)
        with _run(stores, key, parameters, wanted, None) as (client, run_id, folder):
            kept = folder / "version"
            kept.mkdir(parents=True, exist_ok=True)
            trained = TrainedDetector(
                Path(shutil.copy2(weights, kept / WEIGHTS)), tuple(classes), (), 0.0, "trained elsewhere", "none"
            )
            if onnx is not None:
                shutil.copy2(onnx, kept / ONNX)
            made = _judge(stores, client, run_id, folder, trained, wanted, manifest, parameters, progress)
            return Candidate(_register(stores, run_id, made, wanted, parameters, key), run_id, made.evaluation)


def registered_candidate(stores: Stores, version: int) -> Candidate:
    """A version that is registered already, as the candidate that it was. Raises `NotFound`."""
    known = stores.registry.get(MODEL_NAME, version)
    return Candidate(known, known.run_id, evaluation_of(stores, version), is_new=False)


def finished_candidate(stores: Stores, key: str) -> Candidate | None:
    """The newest version of a training key, with its evaluation; None when there is none."""
    for known in reversed(stores.registry.list()):
        if known.tags.get(KEY_TAG) == key:
            return Candidate(known, known.run_id, evaluation_of(stores, known.version), is_new=False)
    return None


@contextmanager
def _run(
    stores: Stores, key: str, parameters: dict[str, Any], wanted: DatasetVersion, dagster_run: str | None
) -> Iterator[tuple[MlflowClient, str, Path]]:
    """An open MLflow run and its work folder; the run ends FINISHED or FAILED with the block."""
    client = stores.registry.client()
    commit, is_dirty = code_commit()
    tags = {
        KEY_TAG: key,
        "dataset_version": wanted.name,
        "dataset_digest": wanted.digest,
        "data_commit": wanted.commit or "unknown",
        "code_commit": commit,
        "code_is_dirty": str(is_dirty).lower(),
        "base_weights_digest": parameters["base_weights_digest"],
        "mlflow.runName": f"{parameters['family']}-{wanted.name}-{key[:6]}",
        **({DAGSTER_TAG: dagster_run} if dagster_run else {}),
    }
    run_id = client.create_run(stores.registry.experiment(), tags=tags).info.run_id
    folder = stores.settings.home.absolute() / "work" / "training" / run_id
    status = "FAILED"
    try:
        for name, value in parameters.items():
            client.log_param(run_id, name, value)
        yield client, run_id, folder
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)
        shutil.rmtree(folder, ignore_errors=True)


def _close_dead_runs(stores: Stores, key: str) -> None:
    client = stores.registry.client()
    done = {version.run_id for version in stores.registry.list()}
    for run in client.search_runs(
        [stores.registry.experiment()], f"tags.{KEY_TAG} = '{key}' and attributes.status = 'RUNNING'"
    ):
        client.set_terminated(run.info.run_id, "FINISHED" if run.info.run_id in done else "KILLED")
        shutil.rmtree(stores.settings.home / "work" / "training" / run.info.run_id, ignore_errors=True)


def _make(
    stores: Stores,
    client: MlflowClient,
    run_id: str,
    folder: Path,
    wanted: DatasetVersion,
    manifest: DataFrame,
    base: Path,
    parameters: dict[str, Any],
    progress: Progress,
) -> _Made:
    from its_platform.dataset import materialise_yolo
    from its_platform.model.pictures import curves_picture

    began = time.monotonic()
    trained = train_weights(
        stores.settings,
        parameters,
        materialise_yolo(stores, wanted, manifest),
        base,
        folder / "version",
        lambda figures: _log_epoch(client, run_id, figures),
        progress,
    )
    _log_metrics(client, run_id, {"train/seconds": time.monotonic() - began}, 0)
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    (pictures / "curves.png").write_bytes(curves_picture(trained.epochs))
    return _judge(stores, client, run_id, folder, trained, wanted, manifest, parameters, progress)


def _judge(
    stores: Stores,
    client: MlflowClient,
    run_id: str,
    folder: Path,
    trained: TrainedDetector,
    wanted: DatasetVersion,
    manifest: DataFrame,
    parameters: dict[str, Any],
    progress: Progress,
) -> _Made:
    """Export, compare and evaluate the weights in the work folder, with pictures of what they see."""
    from its_platform.model.pictures import draw_judged

    kept, pictures = folder / "version", folder / "pictures"
    parity = export_weights(stores, parameters, manifest, kept, progress)
    evaluation = judge_export(stores, wanted, manifest, kept, progress)
    _log_scores(client, run_id, evaluation, parity, trained)
    draw_judged(stores, pictures, kept / ONNX, manifest, evaluation)
    client.log_artifacts(run_id, str(pictures), "pictures")
    client.log_artifact(run_id, str(kept / EVALUATION))
    return _Made(kept, trained, parity, evaluation)


def _register(
    stores: Stores, run_id: str, made: _Made, wanted: DatasetVersion, parameters: dict[str, Any], key: str
) -> ModelVersion:
    commit, _ = code_commit()
    facts = VersionFacts(
        dataset_version=wanted.name,
        family=parameters["family"],
        image_size=read_detector(made.folder / ONNX).image_size,
        classes=list(made.trained.classes),
        thresholds=made.evaluation.thresholds,
        tags={
            KEY_TAG: key,
            "parity": f"{made.parity.share:.6f}",
            "iou": str(parameters["export_iou"]),
            "dataset_digest": wanted.digest,
            "base_weights_digest": parameters["base_weights_digest"],
            "code_commit": commit,
            "data_commit": wanted.commit or "unknown",
        },
    )
    return register_version(stores, run_id, made.folder, facts)


def _log_epoch(client: MlflowClient, run_id: str, figures: EpochFigures) -> None:
    _log_metrics(client, run_id, figures.values, figures.epoch)


def _log_scores(
    client: MlflowClient, run_id: str, evaluation: Evaluation, parity: ParityResult, trained: TrainedDetector
) -> None:
    values = {
        "parity/share": parity.share,
        "parity/extra": parity.extra,
        "train/images_per_s": trained.images_per_s,
    }
    for score in evaluation.slices:
        if not score.boxes:
            continue
        of_class = {None: "", "*": "/any-class"}.get(score.class_name, f"/{score.class_name}")
        place = f"slice/{score.slice.replace('=', '-')}{of_class}"
        for name in ("ap50", "ap50_95", "precision", "recall"):
            values[f"{place}/{name}"] = getattr(score, name)
    _log_metrics(client, run_id, values, 0)
    client.set_tag(run_id, "precision", trained.precision)
    client.set_tag(run_id, "device", trained.device)


def _log_metrics(client: MlflowClient, run_id: str, values: dict[str, float], step: int) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, step) for name, value in values.items() if np.isfinite(value)]
    for part in _parts(metrics, 1000):
        client.log_batch(run_id, metrics=part)


def _parts(values: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    for at in range(0, len(values), most):
        yield values[at : at + most]


def facts_of(candidate: Candidate) -> dict[str, Any]:
    """A candidate as plain data, for commands."""
    return {
        "version": candidate.model_version.version,
        "run_id": candidate.run_id,
        "is_new": candidate.is_new,
        "thresholds": candidate.model_version.thresholds,
        "slices": [asdict(s) for s in candidate.evaluation.slices if s.class_name is None],
    }
