"""The gates that stand on the golden frames: floors, classes, calibration, and no slice worse than what is served.

Scores and drops enter (`release.golden` measures them), results leave. What "worse" means is a paired bootstrap's lower
bound: noise does not fail a slice, a loss that the frames prove does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from its_platform.model.comparison import Drop
from its_platform.model.confidence import Calibration
from its_platform.model.scoring import SliceScore
from its_platform.release.gates.result import (
    ACCURACY_FLOOR,
    CALIBRATION,
    CLASS_FLOOR,
    GOLDEN,
    SLICE_REGRESSION,
    GateResult,
    Verdict,
)
from its_platform.settings import GateSettings


def accuracy_floors(parts: Mapping[str, SliceScore], settings: GateSettings) -> list[GateResult]:
    """AP50 with classes ignored must reach its floor on each part of the golden set, on enough boxes to mean something.

    parts: by `golden/world=simulated`, `golden/world=real` and `golden/<slice>` for each slice that has a floor of its
    own; the three kinds share no frame. Where one part is the whole golden set its name is `golden`, and its kind the
    score's own slice.
    """
    if not parts:
        floor = settings.real_floor
        return [_floor(GOLDEN, None, floor, "no golden frames", settings.minimum_boxes)]
    own = settings.slice_floors
    results = []
    for name, score in parts.items():
        kind = score.slice.removeprefix(f"{GOLDEN}/")
        if kind in own:
            results.append(_floor(name, score, own[kind], f"the floor of {kind}", settings.minimum_boxes))
            continue
        world = kind.removeprefix("world=")
        floor = settings.simulated_floor if world == "simulated" else settings.real_floor
        without = f" but for {', '.join(sorted(own))}" if own else ""
        results.append(_floor(name, score, floor, f"the floor of {world} cameras{without}", settings.minimum_boxes))
    return results


def _floor(name: str, score: SliceScore | None, floor: float, which: str, needed: int) -> GateResult:
    boxes, value = (score.boxes, finite(score.ap50)) if score is not None else (0, None)
    if boxes < needed or value is None:
        verdict: Verdict = "not_judged"
        detail = f"{boxes} golden boxes, {needed} are needed; {which} is {floor:.3f}"
    else:
        verdict = "passed" if value >= floor else "failed"
        detail = f"AP50 of any class {value:.3f} on {boxes} golden boxes, {which} is {floor:.3f}"
    return GateResult(ACCURACY_FLOOR, "any_class_ap50", name, value, floor, boxes, verdict, detail)


def class_floors(classes: Iterable[SliceScore], settings: GateSettings) -> list[GateResult]:
    """AP50 of each class over the whole golden set, which any-class figures cannot see.

    A model that finds everything and calls it by the wrong name has an AP of nearly nothing in each class that it
    mistakes, whatever its AP with classes ignored.
    """
    floor, needed = settings.class_floor, settings.minimum_boxes
    results = []
    for score in classes:
        value = finite(score.ap50)
        if score.boxes < needed or value is None:
            verdict: Verdict = "not_judged"
            detail = f"{score.boxes} golden boxes, {needed} are needed"
        else:
            verdict = "passed" if value >= floor else "failed"
            detail = f"AP50 of {score.class_name} {value:.3f} on {score.boxes} golden boxes, the floor is {floor:.3f}"
        name = f"{GOLDEN}/class={score.class_name}"
        results.append(GateResult(CLASS_FLOOR, "class_ap50", name, value, floor, score.boxes, verdict, detail))
    return results


def calibration_gate(measured: Calibration, settings: GateSettings) -> GateResult:
    """Expected calibration error of the confidences (see `model.confidence`) on the golden frames."""
    limit, needed = settings.calibration_error, settings.minimum_boxes
    value = finite(measured.error) if measured.boxes else None
    if measured.boxes < needed or value is None:
        verdict: Verdict = "not_judged"
        detail = f"{measured.boxes} boxes were found at or above their class's threshold, {needed} are needed"
    else:
        verdict = "passed" if value <= limit else "failed"
        leaning = "more" if measured.overconfidence > 0 else "less"
        detail = (
            f"confidences are {value:.3f} away from the share of hits, at most {limit:.3f} is allowed; "
            f"{abs(measured.overconfidence):.3f} {leaning} sure than right on the whole"
        )
    return GateResult(CALIBRATION, "ece", GOLDEN, value, limit, measured.boxes, verdict, detail)


def slice_regressions(drops: Iterable[Drop] | None, settings: GateSettings) -> list[GateResult]:
    """One result a golden slice and class: how much worse than the served model.

    Failed where the drop exceeds the tolerance even at the lower bound of the paired bootstrap. None where no model is
    served. A class on its own has few boxes of wide scatter, so it has a tolerance of its own.
    """
    if drops is None:
        alone = "no model is served that it could be compared with"
        limit = settings.slice_tolerance
        return [GateResult(SLICE_REGRESSION, "ap50_drop", GOLDEN, None, limit, None, "not_judged", alone)]
    return [_slice_regression(drop, settings) for drop in drops]


def _slice_regression(drop: Drop, settings: GateSettings) -> GateResult:
    tolerance = settings.slice_tolerance if drop.class_name is None else settings.class_tolerance
    name = drop.slice if drop.class_name is None else f"{drop.slice}/class={drop.class_name}"

    def result(verdict: Verdict, detail: str) -> GateResult:
        return GateResult(
            SLICE_REGRESSION, "ap50_drop", name, finite(drop.value), tolerance, drop.boxes, verdict, detail
        )

    if drop.boxes < settings.minimum_boxes:
        return result("not_judged", f"{drop.boxes} golden boxes, {settings.minimum_boxes} are needed")
    figures = f"mAP50 {drop.after:.3f}, the served model {drop.before:.3f}"
    if drop.low is None or drop.high is None:
        return result("not_judged", f"{figures}; all boxes lie in one block, so that chance cannot be told from loss")
    worse = f"{figures}: a drop of {drop.low:+.3f} to {drop.high:+.3f} over resampled blocks ({drop.blocks})"
    # Rounding is no loss.
    if drop.low > tolerance + 1e-9:
        return result("failed", f"{worse}, surely more than {tolerance:.3f}")
    return result("passed", f"{worse}, not surely more than {tolerance:.3f}")


def finite(value: float | None) -> float | None:
    """A figure that can be compared; None for one that cannot."""
    return float(value) if value is not None and math.isfinite(value) else None
