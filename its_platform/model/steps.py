"""The steps of a training, one function each: weights, export, judgement. Each leaves its files in one folder.

`train` strings them together for a candidate that is registered; `pipeline` runs one a stage for `dvc repro`. Enters:
parameters, a dataset version's manifest and YOLO folder, weights to start from. Leaves, in the folder: model.pt,
model.onnx, parity.json, evaluation.json. No database and no registry is touched here.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from its_platform.contract import ImageSize
from its_platform.model.evaluate import JUDGED_SPLITS, best_thresholds, detect_frames, evaluate_onnx, truth_of
from its_platform.model.export import ParityResult, digest_of
from its_platform.model.letterbox import letterbox
from its_platform.model.registered import EVALUATION, ONNX, PARITY, WEIGHTS
from its_platform.model.scoring import Evaluation
from its_platform.model.trainer import EpochFigures, TrainedDetector, TrainingPlan, trainer_of
from its_platform.settings import Settings
from its_platform.telemetry import Progress

if TYPE_CHECKING:
    from pandas import DataFrame

    from its_platform.dataset import DatasetVersion
    from its_platform.stores import Stores

RECIPE = "4"  # raise it whenever the same parameters would train another detector
PARITY_FRAMES = 24


def training_parameters(
    settings: Settings, wanted: DatasetVersion, base: Path, epochs: int | None = None, image_size: int | None = None
) -> dict[str, Any]:
    """All that decides which detector comes out: dataset, weights and settings. None takes the setting."""
    training = settings.training
    return {
        "recipe": RECIPE,
        "family": training.family,
        "dataset": wanted.name,
        "dataset_digest": wanted.digest,
        "base_weights": base.name,
        "base_weights_digest": digest_of(base),
        "epochs": epochs or training.epochs,
        "image_size": image_size or training.image_size,
        "batch": training.batch,
        "learning_rate": training.learning_rate,
        "freeze_layers": training.freeze_layers,
        "seed": training.seed,
        "export_iou": training.export_iou,
        # Only where it is so: a training that never heard of it is still the same training.
        **({"rectangular": True} if training.rectangular else {}),
    }


def export_size(parameters: dict[str, Any], manifest: DataFrame) -> ImageSize:
    """What the export is given: the square that was trained on, or the shape of most frames at its longer side."""
    side = int(parameters["image_size"])
    if not parameters.get("rectangular"):
        return side
    shapes = Counter(zip(manifest["height"], manifest["width"], strict=True))
    (height, width), _ = shapes.most_common(1)[0]
    longer = max(height, width)
    # The network halves a picture five times. Rounding up leaves a border, rounding down would shrink the picture.
    fitted_height, fitted_width = (math.ceil(side * length / longer / 32) * 32 for length in (height, width))
    return side if fitted_height == fitted_width else (fitted_height, fitted_width)


def train_weights(
    settings: Settings,
    parameters: dict[str, Any],
    data: Path,
    base: Path,
    folder: Path,
    on_epoch: Callable[[EpochFigures], None],
    progress: Progress,
) -> TrainedDetector:
    """Train on the YOLO folder `data` from the weights `base`; model.pt is put into `folder`.

    `folder` has a neighbour `<folder>-training` for as long as it takes.
    """
    training = settings.training
    space = folder.with_name(f"{folder.name}-training")
    plan = TrainingPlan(
        data=data,
        weights=base,
        folder=space,
        home=settings.home,
        epochs=parameters["epochs"],
        image_size=parameters["image_size"],
        batch=parameters["batch"],
        learning_rate=parameters["learning_rate"],
        freeze_layers=parameters["freeze_layers"],
        device=training.device,
        workers=training.workers,
        seed=parameters["seed"],
    )
    shutil.rmtree(space, ignore_errors=True)
    try:
        trained = trainer_of(parameters["family"]).train(plan, on_epoch, progress)
        folder.mkdir(parents=True, exist_ok=True)
        return replace(trained, weights=trained.weights.replace(folder / WEIGHTS))
    finally:
        shutil.rmtree(space, ignore_errors=True)


def export_weights(
    stores: Stores, parameters: dict[str, Any], manifest: DataFrame, folder: Path, progress: Progress
) -> ParityResult:
    """model.pt becomes model.onnx, compared with the detector itself on the dataset's pictures (parity.json).

    A model.onnx that is there already, exported elsewhere, is compared as it is.
    """
    trainer = trainer_of(parameters["family"])
    weights, onnx, size = folder / WEIGHTS, folder / ONNX, export_size(parameters, manifest)
    if not onnx.exists():
        progress("export", 0, 2, "ONNX")
        trainer.export(weights, onnx, size, parameters["export_iou"], parameters["dataset"])
    progress("export", 1, 2, "parity")
    parity = trainer.parity(weights, onnx, parity_pictures(stores, manifest, size))
    write_json(folder / PARITY, parity.as_dict())
    progress("export", 2, 2, f"{parity.share:.1%} of the detector's own boxes")
    return parity


def judge_export(
    stores: Stores, wanted: DatasetVersion, manifest: DataFrame, folder: Path, progress: Progress
) -> Evaluation:
    """model.onnx judged on the held-out frames, with the thresholds that val gives (evaluation.json)."""
    onnx, classes = folder / ONNX, list(wanted.classes)
    val = manifest[manifest["split"] == "val"].reset_index(drop=True)
    thresholds = best_thresholds(truth_of(val, classes), detect_frames(stores, onnx, val, classes), classes)
    evaluation = evaluate_onnx(stores, onnx, manifest, classes, thresholds, dataset=wanted.name, progress=progress)
    write_json(folder / EVALUATION, evaluation.as_dict())
    return evaluation


def write_json(path: Path, data: dict[str, Any]) -> None:
    """The same data gives the same bytes."""
    path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", "utf-8")


def parity_pictures(stores: Stores, manifest: DataFrame, size: ImageSize) -> npt.NDArray[np.uint8]:
    """Judged frames of a dataset version, letterboxed; any of its frames where none may judge."""
    judged = manifest[manifest["split"].isin(list(JUDGED_SPLITS))]
    return fitted_pictures(stores, judged if len(judged) else manifest, size, PARITY_FRAMES)


def fitted_pictures(stores: Stores, frames: DataFrame, size: ImageSize, most: int) -> npt.NDArray[np.uint8]:
    """At most so many frames spread evenly over the rows, letterboxed: uint8 `[n, H, W, 3]`."""
    from its_platform.frames import load_image

    keys = list(frames["object_key"])
    chosen = sorted({round(i) for i in np.linspace(0, len(keys) - 1, min(most, len(keys)))})
    return np.stack([letterbox(load_image(stores, keys[i]), size)[0] for i in chosen])
