"""The gates: what a model version has to show, as pure functions with their numbers.

An evaluation of the candidate, one of the served model on the same golden frames, the latency of both and the
export's parity enter; a list of `GateResult` leaves. Nothing here measures, reads or stores anything.

Verdicts: `passed` and `failed` are what they say. `not_judged` means that what the gate needs is not there (too few
boxes, no served model to compare with). `no_verdict` means that it was measured and the measurement is not worth
a decision (a wide spread): it never passes and is measured again.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from its_platform.model.evaluate import Evaluation, SliceScore
    from its_platform.settings import GateSettings

Verdict = Literal["passed", "failed", "not_judged", "no_verdict"]

GOLDEN = "golden"
ANY_CLASS = "*"
ACCURACY_FLOOR = "accuracy_floor"
SLICE_REGRESSION = "slice_regression"
LATENCY_RATIO = "latency_ratio"
LATENCY_BUDGET = "latency_budget"
EXPORT_PARITY = "export_parity"

# A version whose accuracy or export nobody could judge is not a good version. A slice that is too small, or a
# latency with nothing to compare it to, says nothing against it.
MUST_BE_JUDGED = frozenset({ACCURACY_FLOOR, EXPORT_PARITY})


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's answer.

    metric: what was measured (`ap50`, `ap50_drop`, `ms_ratio`, `ms`, `matched_share`); `value` and `threshold` are in
    its unit, None where there was nothing to measure. boxes: ground-truth boxes that the value stands on, None for
    gates that count none.
    """

    name: str
    metric: str
    slice: str
    value: float | None
    threshold: float | None
    boxes: int | None
    verdict: Verdict
    detail: str

    @property
    def key(self) -> str:
        """What a waiver names: the gate, and the slice where one gate judges several."""
        return f"{self.name}:{self.slice}" if self.name == SLICE_REGRESSION else self.name

    @property
    def is_in_the_way(self) -> bool:
        """Whether this result keeps the version from being served, as long as nobody waives it."""
        if self.verdict == "not_judged":
            return self.name in MUST_BE_JUDGED
        return self.verdict != "passed"


@dataclass(frozen=True, slots=True)
class LatencyRounds:
    """Medians in milliseconds of one request with one picture, one number a round, the two models in turn.

    `served_ms` is empty where nothing is served yet. `hardware` names the machine that was measured on.
    """

    candidate_ms: tuple[float, ...]
    served_ms: tuple[float, ...] = ()
    hardware: str = ""

    @property
    def ratios(self) -> tuple[float, ...]:
        """Candidate over served, round by round: what slows the machine for a while slows both."""
        return tuple(c / s for c, s in zip(self.candidate_ms, self.served_ms, strict=False) if s > 0)


def spread(values: Sequence[float]) -> float:
    """Widest distance between rounds as a share of their median; infinite when there are none."""
    middle = statistics.median(values) if values else 0.0
    return (max(values) - min(values)) / middle if middle > 0 else math.inf


def judge(
    candidate: Evaluation,
    served: Evaluation | None,
    latency: LatencyRounds | None,
    parity: float | None,
    settings: GateSettings,
) -> list[GateResult]:
    """Every gate's result for a candidate.

    `candidate` and `served` must have been measured on the same golden frames; only their golden parts are read.
    `served` is None only when no model is served. `parity` is the share (0 to 1) of the detector's own boxes that its
    export has too; None or NaN where it was not measured.
    """
    return [
        accuracy_floor(candidate, settings),
        *slice_regressions(candidate, served, settings),
        latency_ratio(latency, settings, is_first=served is None),
        *latency_budget(latency, settings),
        export_parity(parity, settings),
    ]


def is_passed(results: Collection[GateResult], waived: Collection[str] = ()) -> bool:
    """Whether a version with these results may be served. No results at all is not a pass.

    `waived` holds the keys of the gates that somebody let go by name.
    """
    return bool(results) and not failing(results, waived)


def failing(results: Iterable[GateResult], waived: Collection[str] = ()) -> list[GateResult]:
    """The results that are in the way and not waived."""
    return [result for result in results if result.is_in_the_way and result.key not in waived]


def accuracy_floor(candidate: Evaluation, settings: GateSettings) -> GateResult:
    """mAP50 on the whole golden set must reach the floor, on enough boxes to mean something."""
    score = golden_scores(candidate).get(GOLDEN)
    boxes, value = (score.boxes, _finite(score.ap50)) if score is not None else (0, None)
    floor, needed = settings.metric_floor, settings.minimum_boxes
    if boxes < needed or value is None:
        verdict: Verdict = "not_judged"
        detail = f"{boxes} golden boxes, {needed} are needed"
    else:
        verdict = "passed" if value >= floor else "failed"
        detail = f"mAP50 {value:.3f} on {boxes} golden boxes, the floor is {floor:.3f}"
    return GateResult(ACCURACY_FLOOR, "ap50", GOLDEN, value, floor, boxes, verdict, detail)


def slice_regressions(candidate: Evaluation, served: Evaluation | None, settings: GateSettings) -> list[GateResult]:
    """One result a golden slice: how much worse than the served model, which may not exceed the tolerance.

    A class on its own has few boxes of wide scatter, so it has a tolerance of its own.
    """
    if served is None:
        alone = "no model is served that it could be compared with"
        limit = settings.slice_tolerance
        return [GateResult(SLICE_REGRESSION, "ap50_drop", GOLDEN, None, limit, None, "not_judged", alone)]
    ours, theirs = golden_scores(candidate), golden_scores(served)
    return [_slice_regression(name, score, theirs.get(name), settings) for name, score in ours.items()]


def _slice_regression(name: str, ours: SliceScore, theirs: SliceScore | None, settings: GateSettings) -> GateResult:
    tolerance = settings.slice_tolerance if ours.class_name is None else settings.class_tolerance
    before, after = _finite(theirs.ap50) if theirs is not None else None, _finite(ours.ap50)
    value = before - after if before is not None and after is not None else None

    def result(verdict: Verdict, detail: str) -> GateResult:
        return GateResult(SLICE_REGRESSION, "ap50_drop", name, value, tolerance, ours.boxes, verdict, detail)

    if ours.boxes < settings.minimum_boxes:
        return result("not_judged", f"{ours.boxes} golden boxes, {settings.minimum_boxes} are needed")
    if theirs is None or before is None:
        return result("not_judged", "the served model has no score here")
    if theirs.boxes != ours.boxes and ours.class_name is None:
        # Unequal truth means that the two were not measured on the same frames, and the difference says nothing.
        return result("no_verdict", f"measured on {ours.boxes} boxes, the served model on {theirs.boxes}")
    if after is None or value is None:
        return result("failed", f"no score on {ours.boxes} boxes, the served model has {before:.3f}")
    detail = f"mAP50 {after:.3f}, the served model {before:.3f}, at most {tolerance:.3f} worse is allowed"
    return result("passed" if value <= tolerance + 1e-9 else "failed", detail)


def latency_ratio(latency: LatencyRounds | None, settings: GateSettings, is_first: bool) -> GateResult:
    """How many times slower than the served model, median over interleaved rounds."""
    limit = settings.latency_ratio

    def result(value: float | None, verdict: Verdict, detail: str) -> GateResult:
        return GateResult(LATENCY_RATIO, "ms_ratio", "all", value, limit, None, verdict, detail)

    if is_first:
        return result(None, "not_judged", "no model is served that it could be compared with")
    if latency is None or not latency.ratios:
        return result(None, "no_verdict", "latency was not measured")
    value, wide = statistics.median(latency.ratios), spread(latency.ratios)
    ours, theirs = statistics.median(latency.candidate_ms), statistics.median(latency.served_ms)
    figures = f"{ours:.1f} ms, the served model {theirs:.1f} ms, {len(latency.ratios)} rounds"
    if len(latency.ratios) < settings.latency_rounds:
        return result(value, "no_verdict", f"{figures}; {settings.latency_rounds} rounds are needed")
    if wide > settings.latency_spread:
        limit_text = f"more than {settings.latency_spread:.0%} is no verdict"
        return result(value, "no_verdict", f"{figures}, spread over the rounds {wide:.0%}; {limit_text}")
    return result(value, "passed" if value <= limit else "failed", f"{figures}, spread {wide:.0%}")


def latency_budget(latency: LatencyRounds | None, settings: GateSettings) -> list[GateResult]:
    """An absolute budget, judged only on the hardware that the settings name. No result where no budget is set."""
    budget, named = settings.latency_budget_ms, settings.hardware
    if budget is None:
        return []

    def result(value: float | None, verdict: Verdict, detail: str) -> list[GateResult]:
        return [GateResult(LATENCY_BUDGET, "ms", "all", value, budget, None, verdict, detail)]

    if not named:
        return result(None, "not_judged", "a budget in milliseconds means nothing before gates.hardware is named")
    if latency is None or not latency.candidate_ms:
        return result(None, "no_verdict", "latency was not measured")
    if named.lower() not in latency.hardware.lower():
        return result(None, "not_judged", f"measured on {latency.hardware or 'unknown hardware'}, not on {named}")
    value, wide = statistics.median(latency.candidate_ms), spread(latency.candidate_ms)
    detail = f"{value:.1f} ms on {latency.hardware}, spread {wide:.0%}"
    if wide > settings.latency_spread:
        return result(value, "no_verdict", detail)
    return result(value, "passed" if value <= budget else "failed", detail)


def export_parity(parity: float | None, settings: GateSettings) -> GateResult:
    """The exported model must find what the trained one finds."""
    value, floor = _finite(parity), settings.parity_floor
    if value is None:
        verdict: Verdict = "not_judged"
        detail = "the version carries no parity figure"
    else:
        verdict = "passed" if value >= floor else "failed"
        detail = f"{value:.1%} of the detector's own boxes are in the export, {floor:.1%} are needed"
    return GateResult(EXPORT_PARITY, "matched_share", "all", value, floor, None, verdict, detail)


def golden_scores(evaluation: Evaluation) -> dict[str, SliceScore]:
    """The golden part of an evaluation by slice name: whole slices, and classes over the whole golden set.

    A class within one light or camera stands on too few boxes to be judged by itself.
    """
    found: dict[str, SliceScore] = {}
    for score in evaluation.slices:
        is_golden = score.slice == GOLDEN or score.slice.startswith(f"{GOLDEN}/")
        if not is_golden:
            continue
        if score.class_name is None:
            found[score.slice] = score
        elif score.slice == GOLDEN and score.class_name != ANY_CLASS:
            found[f"{GOLDEN}/class={score.class_name}"] = score
    return found


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
