"""Judging a candidate: everything its gates need is measured, judged, and recorded once.

A staged version enters, its gate results leave and lie in `gate_results`; the use of the golden set is counted. The
gates themselves are in `gates.py`; what follows from them in `reconciling.py`.
"""

from __future__ import annotations

import hashlib

from its_platform.dataset import record_use
from its_platform.dataset import version as dataset_version
from its_platform.errors import BadInput, NotFound
from its_platform.release import truth, verdicts
from its_platform.release.gates import (
    LATENCY_BUDGET,
    LATENCY_RATIO,
    GateResult,
    accuracy_floor,
    export_parity,
    latency_budget,
    latency_ratio,
    slice_regressions,
)
from its_platform.release.latency import Contender, measure_until_steady
from its_platform.release.measured import parity_of
from its_platform.release.outside import Outside, real_outside
from its_platform.release.placing import fetch_onnx
from its_platform.release.truth import Release
from its_platform.serving.repository import route_of
from its_platform.stores import Stores
from its_platform.stores.registry import MODEL_NAME, ModelVersion
from its_platform.telemetry import Progress, no_progress

LATENCY_GATES = frozenset({LATENCY_RATIO, LATENCY_BUDGET})
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
    if known is not None and undecided <= LATENCY_GATES:
        # The golden set has spoken; asking it again would only count as another use.
        results = [result for result in known.results if result.name not in LATENCY_GATES]
    else:
        progress("judge", 0, 3, "golden frames")
        results = _accuracy_results(stores, outside, candidate, served)
        if golden is not None:
            record_use(stores, golden, version, PURPOSE)
    progress("judge", 2, 3, "latency")
    results += _latency_results(stores, outside, candidate, served)
    verdicts.record_judgement(stores, version, name, served.version if served is not None else None, results)
    progress("judge", 3, 3)
    return results


def _accuracy_results(
    stores: Stores, outside: Outside, candidate: ModelVersion, served: Release | None
) -> list[GateResult]:
    settings, dataset = stores.settings.gates, candidate.dataset_version
    onnx = fetch_onnx(stores.settings, outside, candidate)
    parity = parity_of(candidate, onnx.parent)
    own = outside.evaluate(onnx, candidate, dataset, candidate.classes)
    results = [accuracy_floor(own, settings)]
    if served is None:
        return [*results, *slice_regressions(own, None, settings), export_parity(parity, settings)]
    other = outside.registry.get(MODEL_NAME, served.version)
    # Both are held to what both can know: a class that only the candidate has is no regression and no gain.
    shared = [name for name in candidate.classes if name in other.classes]
    ours = own if shared == list(candidate.classes) else outside.evaluate(onnx, candidate, dataset, shared)
    theirs = outside.evaluate(fetch_onnx(stores.settings, outside, other), other, dataset, shared)
    return [*results, *slice_regressions(ours, theirs, settings), export_parity(parity, settings)]


def _latency_results(
    stores: Stores, outside: Outside, candidate: ModelVersion, served: Release | None
) -> list[GateResult]:
    settings = stores.settings.gates
    picture = outside.picture(candidate)
    other = outside.registry.get(MODEL_NAME, served.version) if served is not None else None
    rounds = measure_until_steady(
        outside.server, picture, _contender(candidate), _contender(other) if other is not None else None, settings
    )
    return [latency_ratio(rounds, settings, is_first=served is None), *latency_budget(rounds, settings)]


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
