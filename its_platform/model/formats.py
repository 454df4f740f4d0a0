"""One set of weights in several formats: made, judged beside FP32 ONNX, registered, and the one chosen that is served.

Enters: a trained version, and a format. Leaves: a version of its own with the format's files, its scores on the same
held-out frames and what an image costs it; and what was found, in the tag `formats` of the trained version. A format is
a version so that gates, canary and rollback treat it as any other. How a file of a format is made is in `export`,
`int8`, `openvino_ir` and `tensorrt_plan`, which of them is chosen in `format_choice`.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from its_platform.contract import FORMATS
from its_platform.errors import BadInput
from its_platform.hardware import hardware_name
from its_platform.model.evaluate import evaluate_onnx
from its_platform.model.exported import Pictures, open_detector
from its_platform.model.format_choice import FormatFigures, accuracy_loss, fastest, objection_to
from its_platform.model.int8 import CALIBRATION_FRAMES, export_int8
from its_platform.model.openvino_ir import export_openvino
from its_platform.model.origin import DAGSTER_TAG, EXPORTED_FROM, code_commit
from its_platform.model.registered import (
    EVALUATION,
    ONNX,
    PARITY,
    WEIGHTS,
    base_weights,
    register_version,
    trained_version,
    version_folder,
)
from its_platform.model.scoring import ANY_CLASS, Evaluation
from its_platform.model.steps import fitted_pictures, parity_pictures, write_json
from its_platform.model.tensorrt_plan import check_tensorrt, export_tensorrt, missing_for_tensorrt
from its_platform.model.trainer import trainer_of
from its_platform.stores.registry import MODEL_NAME, ModelVersion, VersionFacts
from its_platform.telemetry import Progress, no_progress

if TYPE_CHECKING:
    from its_platform.stores import Stores

FORMATS_TAG = "formats"
ACCURACY_LOSS = "accuracy_loss"
COST_ROUNDS, COST_PICTURES = 3, 8
# What a version keeps of the one that it is another format of; its training's key stays with the trained one.
_KEPT_TAGS = ("iou", "dataset_digest", "base_weights_digest", "data_commit")


@dataclass(frozen=True)
class FormatChoice:
    """The version to serve, and why. figures: what the choice was made from, empty where the setting names a format."""

    version: ModelVersion
    why: str
    figures: tuple[FormatFigures, ...] = ()


def export_format(stores: Stores, version: int, format_name: str, progress: Progress = no_progress) -> ModelVersion:
    """The version that is `version` in another format, made and registered where it is not there yet.

    Raises `BadInput` for a format that this machine cannot make. Whether it may be served is what gates decide.
    """
    base = _trained(stores, version)
    with stores.database.lock(f"formats of {base.version}"):
        return _exported(stores, base, format_name, progress)


def choose_format(
    stores: Stores, version: int, progress: Progress = no_progress, wanted: str | None = None
) -> FormatChoice:
    """The version to serve of these weights, in the format `wanted` (None: the setting's); made where it is not there.

    `auto` measures every format that this machine can make, and registers the one that it takes. Asked again, it takes
    the same.
    """
    base, wanted = _trained(stores, version), wanted or stores.settings.serving.format
    with stores.database.lock(f"formats of {base.version}"):
        if wanted != "auto":
            return FormatChoice(_exported(stores, base, wanted, progress), f"the format {wanted} was asked for")
        recorded = _recorded(base)
        if recorded.get("hardware") == hardware_name() and recorded.get("chosen"):
            chosen = recorded["chosen"]
            known = _sibling(stores, base, chosen)
            if known is not None:
                return FormatChoice(known, recorded["why"], formats_of(stores, base.version))
        return _choose(stores, base, progress)


def formats_of(stores: Stores, version: int) -> tuple[FormatFigures, ...]:
    """What is known of the formats of a version's weights, as they were last measured."""
    return tuple(FormatFigures(**one) for one in _recorded(_trained(stores, version)).get("figures", []))


def choice_of(stores: Stores, version: int) -> tuple[str | None, str]:
    """The format that `auto` chose of these weights, and why; None where it was not asked."""
    recorded = _recorded(_trained(stores, version))
    return recorded.get("chosen"), recorded.get("why", "")


def candidates() -> tuple[str, ...]:
    """The formats that `auto` chooses among on this machine."""
    return ("onnx", "tensorrt") if not missing_for_tensorrt() else ("onnx", "onnx-int8", "openvino")


def measure_costs(files: Mapping[str, Path], pictures: Pictures) -> dict[str, float]:
    """CPU milliseconds of one image by format, on one thread, the formats in turn; the median of the rounds."""
    detectors = {name: open_detector(path, threads=1) for name, path in files.items()}
    few = pictures[:COST_PICTURES]
    taken: dict[str, list[float]] = {name: [] for name in detectors}
    for detector in detectors.values():
        detector.detect(few[:1])
    for _ in range(COST_ROUNDS):
        for name, detector in detectors.items():
            began = time.process_time()
            for picture in few:
                detector.detect(picture[None])
            taken[name].append((time.process_time() - began) * 1000 / len(few))
    return {name: round(float(np.median(values)), 2) for name, values in taken.items()}


def make_candidates(
    stores: Stores, base: ModelVersion, folder: Path, progress: Progress
) -> tuple[dict[str, Path], dict[str, str]]:
    """The file of each format that `auto` chooses among, ONNX first; of those that cannot be made, the cause."""
    names = [name for name in candidates() if name != "onnx"]
    files, unmade = {"onnx": version_folder(stores, base.version) / ONNX}, {}
    for number, name in enumerate(names):
        progress("formats", number, len(names), name)
        try:
            files[name] = _make(stores, base, name, folder / name, progress)
        except BadInput as error:
            # A detector that one format cannot hold is served in another; its training was not in vain.
            unmade[name] = error.message
    progress("formats", len(names), len(names), "cost")
    return files, unmade


def _choose(stores: Stores, base: ModelVersion, progress: Progress) -> FormatChoice:
    with _work_folder(stores, base) as folder:
        files, unmade = make_candidates(stores, base, folder, progress)
        figures = _figures(stores, base, files)
        best, why = fastest(figures, unmade)
        chosen = base
        if best.format != "onnx":
            chosen = _sibling(stores, base, best.format) or _register(stores, base, best, files[best.format])
        _record(stores, base, figures, {best.format: chosen.version}, best.format, why)
        # Read anew: the trained version has a tag more now.
        return FormatChoice(stores.registry.get(MODEL_NAME, chosen.version), why, formats_of(stores, base.version))


def _exported(stores: Stores, base: ModelVersion, format_name: str, progress: Progress) -> ModelVersion:
    if format_name not in FORMATS:
        raise BadInput(f"There is no format {format_name!r}.", f"There are {', '.join(FORMATS)}.")
    if (known := _sibling(stores, base, format_name)) is not None:
        return known
    with _work_folder(stores, base) as folder:
        file = _make(stores, base, format_name, folder / format_name, progress)
        figures = _figures(stores, base, {"onnx": version_folder(stores, base.version) / ONNX, format_name: file})
        made = _register(stores, base, figures[1], file)
    _record(stores, base, figures, {format_name: made.version})
    return made


def _make(stores: Stores, base: ModelVersion, format_name: str, folder: Path, progress: Progress) -> Path:
    """The files of a format, its evaluation and its parity, in `folder`; the file that is opened."""
    from its_platform.dataset import load_manifest

    if format_name == "tensorrt":
        check_tensorrt()  # before minutes are spent on the rest
    onnx, out = version_folder(stores, base.version) / ONNX, folder / FORMATS[format_name].file
    manifest = load_manifest(stores, base.dataset_version)
    folder.mkdir(parents=True)
    # A version is whole: its weights are what the registry knows it by as the same detector, and are trained on from.
    shutil.copyfile(version_folder(stores, base.version) / WEIGHTS, folder / WEIGHTS)
    if format_name == "openvino":
        export_openvino(onnx, out)
    elif format_name == "tensorrt":
        export_tensorrt(onnx, out)
    else:
        taught = manifest[manifest["split"] == "train"]
        export_int8(onnx, out, fitted_pictures(stores, taught, base.image_size, CALIBRATION_FRAMES))
    parity = trainer_of(base.family).parity(
        base_weights(stores, base.version), out, parity_pictures(stores, manifest, base.image_size)
    )
    write_json(folder / PARITY, parity.as_dict())
    evaluation = evaluate_onnx(
        stores, out, manifest, base.classes, base.thresholds, dataset=base.dataset_version, progress=progress
    )
    write_json(folder / EVALUATION, evaluation.as_dict())
    return out


def _figures(stores: Stores, base: ModelVersion, files: Mapping[str, Path]) -> tuple[FormatFigures, ...]:
    """The figures of each format, ONNX first; the costs are measured now, in turn."""
    from its_platform.dataset import load_manifest

    gates = stores.settings.gates
    pictures = parity_pictures(stores, load_manifest(stores, base.dataset_version), base.image_size)
    costs = measure_costs(files, pictures)
    scores = {name: Evaluation.from_dict(_read(path.with_name(EVALUATION))) for name, path in files.items()}
    onnx = scores["onnx"]
    found = []
    for name, path in files.items():
        parity = float(_read(path.with_name(PARITY))["share"])
        one = FormatFigures(
            name,
            base.version if name == "onnx" else None,
            map50=_ap50(scores[name], None),
            any_class_ap50=_ap50(scores[name], ANY_CLASS),
            loss=round(accuracy_loss(scores[name], onnx, gates.minimum_boxes), 6),
            parity=parity,
            cpu_ms=costs[name],
            objection=objection_to(name, parity, scores[name], onnx, gates) if name != "onnx" else "",
        )
        found.append(one)
    return tuple(found)


def _register(stores: Stores, base: ModelVersion, figures: FormatFigures, file: Path) -> ModelVersion:
    commit, _ = code_commit()
    kind = FORMATS[figures.format]
    # What rounds is held to its accuracy: of its boxes, few have the very confidence of the weights' own.
    judged = {"parity": f"{figures.parity:.6f}"} if kind.is_exact else {ACCURACY_LOSS: f"{figures.loss:.6f}"}
    facts = VersionFacts(
        dataset_version=base.dataset_version,
        family=base.family,
        image_size=base.image_size,
        classes=list(base.classes),
        thresholds=dict(base.thresholds),
        tags={
            **{name: base.tags[name] for name in _KEPT_TAGS if name in base.tags},
            **judged,
            EXPORTED_FROM: str(base.version),
            "code_commit": commit,
            "map50": f"{figures.map50:.5f}",
            "any_class_ap50": f"{figures.any_class_ap50:.5f}",
            "cpu_ms": f"{figures.cpu_ms:g}",
            "hardware": hardware_name(),
        },
        format=figures.format,
    )
    run_id = _run_of(stores, base, figures)
    return register_version(stores, run_id, file.parent, facts)


def _run_of(stores: Stores, base: ModelVersion, figures: FormatFigures) -> str:
    """A finished MLflow run below the training's, with its parameters: from a format, too, it can be trained again."""
    client = stores.registry.client()
    trained = client.get_run(base.run_id).data
    kept = ("dataset_version", "dataset_digest", "data_commit", "base_weights_digest", "device", DAGSTER_TAG)
    commit, is_dirty = code_commit()
    tags = {
        **{name: trained.tags[name] for name in kept if name in trained.tags},
        EXPORTED_FROM: str(base.version),
        "code_commit": commit,
        "code_is_dirty": str(is_dirty).lower(),
        "hardware": hardware_name(),
        "mlflow.parentRunId": base.run_id,
        "mlflow.runName": f"{figures.format}-of-{base.version}",
    }
    run_id: str = client.create_run(stores.registry.experiment(), tags=tags).info.run_id
    for name, value in trained.params.items():
        client.log_param(run_id, name, value)
    client.log_metric(run_id, "slice/all/ap50", figures.map50)
    client.log_metric(run_id, "slice/all/any-class/ap50", figures.any_class_ap50)
    client.log_metric(run_id, "parity/share", figures.parity)
    client.log_metric(run_id, "cost/cpu_ms", figures.cpu_ms)
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _record(
    stores: Stores,
    base: ModelVersion,
    figures: Sequence[FormatFigures],
    registered: Mapping[str, int],
    chosen: str | None = None,
    why: str = "",
) -> None:
    """Put what was found into the trained version's tag; what is known of other formats stays."""
    recorded = _recorded(_trained(stores, base.version))
    known = {one["format"]: one for one in recorded.get("figures", [])}
    for one in figures:
        before = known.get(one.format, {}).get("version")
        known[one.format] = asdict(replace(one, version=registered.get(one.format, one.version or before)))
    told = {**recorded, "figures": list(known.values()), "hardware": hardware_name()}
    if chosen is not None:
        told |= {"chosen": chosen, "why": why}
    stores.registry.set_tag(MODEL_NAME, base.version, FORMATS_TAG, json.dumps(told))


def _recorded(base: ModelVersion) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base.tags.get(FORMATS_TAG, "{}"))
    return found


def _trained(stores: Stores, version: int) -> ModelVersion:
    known = stores.registry.get(MODEL_NAME, version)
    trained = trained_version(known)
    return known if trained == version else stores.registry.get(MODEL_NAME, trained)


def _sibling(stores: Stores, base: ModelVersion, format_name: str) -> ModelVersion | None:
    """The registered version of the same weights in a format."""
    if format_name == base.format:
        return base
    wanted = (str(base.version), format_name)
    found = [one for one in stores.registry.list() if (one.tags.get(EXPORTED_FROM), one.format) == wanted]
    return found[-1] if found else None


def _ap50(scores: Evaluation, class_name: str | None) -> float:
    found = scores.score("all", class_name)
    return found.ap50 if found is not None else 0.0


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


@contextmanager
def _work_folder(stores: Stores, base: ModelVersion) -> Iterator[Path]:
    folder = stores.settings.home.absolute() / "work" / "formats" / f"{base.version}-{uuid4().hex[:8]}"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
