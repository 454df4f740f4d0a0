"""The stages of `dvc.yaml`: from a dataset version to a judged, exported detector, as files in one folder.

Enters: params.yaml, the remote of the data repository, the object store. Leaves: the files of a model version beside
its metrics, plots and pictures. Each stage calls the step that a candidate's training calls. No server is asked, and
nothing is registered: that is `train`'s work.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from its_platform.errors import BadInput
from its_platform.model.export import ParityResult, digest_of
from its_platform.model.exported import read_detector
from its_platform.model.registered import ONNX, WEIGHTS
from its_platform.model.scoring import ANY_CLASS, Evaluation
from its_platform.model.steps import export_weights, judge_export, train_weights, training_parameters, write_json
from its_platform.model.trainer import EpochFigures, TrainedDetector
from its_platform.settings import Settings, TrainingSettings
from its_platform.stores import Stores, open_stores
from its_platform.telemetry import Progress, no_progress

if TYPE_CHECKING:
    from pandas import DataFrame

    from its_platform.dataset import DatasetVersion

PARAMETERS = Path("params.yaml")
FOLDER = Path("pipeline")
DATASET, MODEL, PICTURES = "dataset", "model", "pictures"
CURVES, METRICS = "curves.csv", "metrics"


class _DatasetChoice(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = Field(min_length=1)
    digest: str | None = None


class Parameters(BaseModel):
    """params.yaml. A digest, or the beginning of one, refuses a version of that name with another content."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: _DatasetChoice
    training: TrainingSettings


@dataclass(frozen=True)
class Pipeline:
    """Parameters, stores whose training settings are those of the parameters alone, and the folder that is written."""

    parameters: Parameters
    stores: Stores
    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / MODEL


def open_pipeline(settings: Settings, parameters: Path = PARAMETERS, folder: Path = FOLDER) -> Pipeline:
    """The pipeline of a checkout. Raises `BadInput` naming each parameter that cannot be used."""
    try:
        written = yaml.safe_load(parameters.read_text("utf-8"))
        if not isinstance(written, dict):
            raise BadInput(f"{parameters} does not hold the groups dataset and training.", "See docs/reproduce.md.")
        read = Parameters.model_validate(written)
    except FileNotFoundError as error:
        raise BadInput(f"There is no {parameters} here.", "Run it in the top folder of the checkout.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{parameters} is not YAML: {' '.join(str(error).split())}.") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadInput(f"{parameters} cannot be used: {wrong}.", "docs/reproduce.md names its parameters.") from error
    # What ITS_TRAINING__* or settings.yaml say is this machine's; a commit alone has to decide what comes out.
    return Pipeline(read, open_stores(settings.model_copy(update={"training": read.training})), folder)


def check_out_dataset(pipeline: Pipeline, progress: Progress = no_progress) -> DatasetVersion:
    """The version's manifest and card from the remote, each of its frames read from the object store and hashed.

    Raises `NotFound`, `DatasetDamaged`, and `BadInput` where the version has another digest than the parameters want.
    """
    from its_platform.dataset.manifest import CARD, MANIFEST, read_manifest
    from its_platform.dataset.versions import from_files, prove_frames, remote_bytes

    choice = pipeline.parameters.dataset
    files = remote_bytes(pipeline.stores, choice.version)
    wanted = from_files(files)
    if choice.digest and not wanted.digest.startswith(choice.digest):
        raise BadInput(
            f"The dataset {wanted.name} of this data repository is {wanted.digest[:12]}, not {choice.digest[:12]}.",
            "Set ITS_DATA_REMOTE to the remote that has it, or change dataset.digest.",
        )
    prove_frames(pipeline.stores, read_manifest(files[MANIFEST]), progress)
    folder = _made(pipeline.folder / DATASET)
    for name in (MANIFEST, CARD):
        (folder / name).write_bytes(files[name])
    return wanted


def train_stage(pipeline: Pipeline, progress: Progress = no_progress) -> TrainedDetector:
    """model.pt, the figures of each epoch as a table and as a picture."""
    from its_platform.dataset.yolo import materialise_yolo
    from its_platform.model.pictures import curves_picture

    wanted, manifest = _dataset(pipeline)
    base = pipeline.parameters.training.weights
    if not base.is_file():
        raise BadInput(f"There are no weights at {base}.", "training.weights in params.yaml names a .pt.")
    stores, parameters = pipeline.stores, training_parameters(pipeline.stores.settings, wanted, base)
    data = materialise_yolo(stores, wanted, manifest, progress=progress)
    trained = train_weights(stores.settings, parameters, data, base, pipeline.model, lambda _: None, progress)
    _write_curves(pipeline.folder / CURVES, trained.epochs)
    (_made(pipeline.folder / PICTURES) / "curves.png").write_bytes(curves_picture(trained.epochs))
    return trained


def export_stage(pipeline: Pipeline, progress: Progress = no_progress) -> ParityResult:
    """model.onnx, made anew, and parity.json."""
    wanted, manifest = _dataset(pipeline)
    # DVC removes a stage's files before it runs; by hand, that of the weights before would be taken for an export.
    (pipeline.model / ONNX).unlink(missing_ok=True)
    parameters = training_parameters(pipeline.stores.settings, wanted, pipeline.parameters.training.weights)
    return export_weights(pipeline.stores, parameters, manifest, pipeline.model, progress)


def evaluate_stage(pipeline: Pipeline, progress: Progress = no_progress) -> Evaluation:
    """evaluation.json, a file of figures for each slice, and pictures.

    Raises `BadInput` where the exported file is of other weights than lie beside it.
    """
    from its_platform.model.pictures import draw_judged

    wanted, manifest = _dataset(pipeline)
    weights, onnx = pipeline.model / WEIGHTS, pipeline.model / ONNX
    if weights.is_file() and read_detector(onnx).digest != digest_of(weights):
        raise BadInput(f"{onnx} was not exported from the {WEIGHTS} beside it.", "`its pipeline export` does it anew.")
    evaluation = judge_export(pipeline.stores, wanted, manifest, pipeline.model, progress)
    shutil.rmtree(pipeline.folder / METRICS, ignore_errors=True)
    for name in evaluation.names():
        write_json(_metrics_file(pipeline.folder / METRICS, name), metrics_of(evaluation, name))
    draw_judged(pipeline.stores, pipeline.folder / PICTURES, pipeline.model / ONNX, manifest, evaluation)
    return evaluation


def metrics_of(evaluation: Evaluation, name: str) -> dict[str, float | int]:
    """The figures of one slice; without any true box there are none. `low` and `high` bound the middle 95 %."""
    means, anyhow = evaluation.score(name), evaluation.score(name, ANY_CLASS)
    if means is None or not means.boxes:
        return {"boxes": 0}
    figures = {
        "boxes": means.boxes,
        "frames": means.frames,
        "map50": means.ap50,
        "map50_low": means.ap50_low,
        "map50_high": means.ap50_high,
        "map50_95": means.ap50_95,
        "precision": means.precision,
        "recall": means.recall,
    }
    if anyhow is not None:
        figures |= {
            "any_class_ap50": anyhow.ap50,
            "any_class_ap50_low": anyhow.ap50_low,
            "any_class_ap50_high": anyhow.ap50_high,
        }
    return figures


def _metrics_file(folder: Path, name: str) -> Path:
    """golden/light=day.json. A class or camera may be called anything; no name leads out of the folder."""
    of_golden, short = name.startswith("golden/"), quote(name.removeprefix("golden/"), safe="=+@ ")
    return _made(folder / "golden" if of_golden else folder) / f"{short}.json"


def _dataset(pipeline: Pipeline) -> tuple[DatasetVersion, DataFrame]:
    from its_platform.dataset.manifest import CARD, MANIFEST, read_manifest
    from its_platform.dataset.versions import from_files

    folder = pipeline.folder / DATASET
    try:
        files = {name: (folder / name).read_bytes() for name in (MANIFEST, CARD)}
    except FileNotFoundError as error:
        raise BadInput(f"There is no dataset version in {folder}.", "The stage `dataset` comes first.") from error
    return from_files(files), read_manifest(files[MANIFEST])


def _write_curves(path: Path, epochs: Sequence[EpochFigures]) -> None:
    names = sorted({name for one in epochs for name in one.values})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", *names])
        writer.writerows([one.epoch, *(one.values.get(name, "") for name in names)] for one in epochs)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
