"""Judging a candidate: everything its gates need is measured, judged, and recorded once.

A staged version enters, its gate results leave and lie in `gate_results`; the use of the golden set is counted. The
gates themselves are in `gates`; what follows from them in `reconciling.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from its_platform.contract import FORMATS
from its_platform.dataset import record_use
from its_platform.dataset import version as dataset_version
from its_platform.errors import BadInput, NotFound
from its_platform.notifications import Event, tell
from its_platform.release import truth, verdicts
from its_platform.release.gates import (
    LATENCY_BUDGET,
    LATENCY_RATIO,
    MEMORY_BUDGET,
    MEMORY_RATIO,
    GateResult,
    Signature,
    Tensor,
    accuracy_floors,
    calibration_gate,
    class_floors,
    class_order,
    dataset_card,
    export_parity,
    failing,
    format_accuracy,
    latency_budget,
    latency_ratio,
    memory_gates,
    signature_gate,
    slice_regressions,
)
from its_platform.release.golden import calibration_of, class_scores, drops_between, floor_parts
from its_platform.release.latency import Contender, measure_until_steady
from its_platform.release.measured import format_loss_of, parity_of
from its_platform.release.outside import Outside, real_outside
from its_platform.release.placing import fetch_onnx
from its_platform.release.truth import Release
from its_platform.serving.config import TensorConfig, detector_config
from its_platform.serving.repository import route_of
from its_platform.settings import Settings
from its_platform.stores import Stores
from its_platform.stores.registry import MODEL_NAME, ModelVersion
from its_platform.telemetry import Progress, no_progress

# What is measured in Triton, where a busy machine may leave no verdict; all else is the same at any time.
MACHINE_GATES = frozenset({LATENCY_RATIO, LATENCY_BUDGET, MEMORY_RATIO, MEMORY_BUDGET})
PURPOSE = "gate"


def judge_candidate(
    stores: Stores, version: int, progress: Progress = no_progress, outside: Outside | None = None
) -> list[GateResult]:
    """Every gate's result for a version that is staged on Triton.

    Both it and the served version are scored on the golden frames of the candidate's dataset. The same version beside
    the same served version, on the same golden set, with the same thresholds is judged once; only a result without a
    verdict has it measured again. Raises `BadInput` for a version that Triton has not loaded.
    """
    outside = outside or real_outside(stores)
    candidate = outside.registry.get(MODEL_NAME, version)
    served = truth.served(stores, "production")
    if served is not None and served.version == version:
        if (known := verdicts.latest_judgement(stores, version)) is not None:
            return list(known.results)
        served = None
    golden = _golden_number(stores, candidate)
    name = _round_name(stores, served, golden)
    known = verdicts.latest_judgement(stores, version, name)
    undecided = {result.name for result in known.results if result.verdict == "no_verdict"} if known else set()
    if known is not None and not undecided:
        return list(known.results)
    _check_loaded(outside, candidate)
    if known is not None and undecided <= MACHINE_GATES:
        # The golden set has spoken; asking it again would only count as another use.
        results = [result for result in known.results if result.name not in MACHINE_GATES]
    else:
        progress("judge", 0, 3, "golden frames")
        results = _accuracy_results(stores, outside, candidate, served)
        results += _provenance_results(stores, outside, candidate)
        if golden is not None:
            record_use(stores, golden, version, PURPOSE)
    progress("judge", 2, 3, "latency")
    results += _machine_results(stores, outside, candidate, served)
    verdicts.record_judgement(stores, version, name, served.version if served is not None else None, results)
    _tell_if_refused(stores, version, results)
    progress("judge", 3, 3)
    return results


def _tell_if_refused(stores: Stores, version: int, results: Sequence[GateResult]) -> None:
    left = failing(results, verdicts.waived_gates(stores, version))
    if left:
        said = "; ".join(f"{result.key} {result.verdict}: {result.detail}" for result in left)
        facts = {"version": version, "gates": [result.key for result in left]}
        tell(stores, Event("refusal", f"Version {version} did not pass its gates: {said}", facts))


def _accuracy_results(
    stores: Stores, outside: Outside, candidate: ModelVersion, served: Release | None
) -> list[GateResult]:
    settings, dataset = stores.settings.gates, candidate.dataset_version
    ours = outside.evaluate(fetch_onnx(stores.settings, outside, candidate), candidate, dataset, candidate.classes)
    drops = None
    if served is not None:
        other = outside.registry.get(MODEL_NAME, served.version)
        shared = [name for name in candidate.classes if name in other.classes]
        theirs = outside.evaluate(fetch_onnx(stores.settings, outside, other), other, dataset, shared)
        drops = drops_between(theirs, ours)
    return [
        *accuracy_floors(floor_parts(ours, settings.slice_floors), settings),
        *class_floors(class_scores(ours), settings),
        calibration_gate(calibration_of(ours, candidate.thresholds), settings),
        *slice_regressions(drops, settings),
    ]


def _provenance_results(stores: Stores, outside: Outside, candidate: ModelVersion) -> list[GateResult]:
    onnx = fetch_onnx(stores.settings, outside, candidate)
    card = outside.card(candidate.dataset_version)
    of_dataset = card.get("classes") if card is not None else None
    return [
        _export_result(stores, candidate, onnx),
        signature_gate(
            expected_signature(stores.settings, candidate),
            outside.server.signature(route_of(candidate).model, candidate.version),
        ),
        class_order(candidate.classes, of_dataset, outside.classes_in(onnx)),
        dataset_card(candidate.dataset_version, candidate.tags.get("dataset_digest", ""), card),
    ]


def _export_result(stores: Stores, candidate: ModelVersion, exported: Path) -> GateResult:
    settings = stores.settings.gates
    if FORMATS[candidate.format].is_exact:
        return export_parity(parity_of(candidate, exported.parent), settings)
    return format_accuracy(format_loss_of(candidate), settings)


def expected_signature(settings: Settings, version: ModelVersion) -> Signature:
    """The registered file, and the tensors that the front asks a detector of this version by."""
    model = route_of(version).model
    config = detector_config(model, version.image_size, settings.serving)

    def seen(tensors: Sequence[TensorConfig]) -> tuple[Tensor, ...]:
        # Triton puts the batch before the shape of a model that takes one.
        return tuple(Tensor(one.name, one.data_type.removeprefix("TYPE_"), (-1, *one.dims)) for one in tensors)

    return Signature(version.onnx_digest, seen(config.inputs), seen(config.outputs))


def _machine_results(
    stores: Stores, outside: Outside, candidate: ModelVersion, served: Release | None
) -> list[GateResult]:
    settings = stores.settings.gates
    picture = outside.picture(candidate)
    other = outside.registry.get(MODEL_NAME, served.version) if served is not None else None
    is_first = other is None
    rounds = measure_until_steady(
        outside.server, picture, _contender(candidate), _contender(other) if other is not None else None, settings
    )
    memory = [
        outside.server.memory_bytes(route_of(one).model, one.version) if one is not None else None
        for one in (candidate, other)
    ]
    return [
        latency_ratio(rounds, settings, is_first),
        *latency_budget(rounds, settings),
        *memory_gates(memory[0], memory[1], settings, is_first),
    ]


def _contender(version: ModelVersion) -> Contender:
    return Contender(route_of(version).model, version.version, version.image_size)


def _check_loaded(outside: Outside, candidate: ModelVersion) -> None:
    model = route_of(candidate).model
    if candidate.version not in outside.server.ready().get(model, set()):
        raise BadInput(
            f"Version {candidate.version} is not loaded, so its latency cannot be measured.",
            f"Stage it first: `its release stage {candidate.version}`.",
        )


def _golden_number(stores: Stores, candidate: ModelVersion) -> int | None:
    try:
        return dataset_version(stores, candidate.dataset_version).golden
    except NotFound:
        return None


def _round_name(stores: Stores, served: Release | None, golden: int | None) -> str:
    """What a judgement depends on besides the version; another threshold asks for another judgement."""
    gates = hashlib.sha256(stores.settings.gates.model_dump_json().encode()).hexdigest()[:8]
    return f"served={served.version if served is not None else None} golden={golden} gates={gates}"
