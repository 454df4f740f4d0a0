"""What a gate answers, and what several answers together mean for a version.

Verdicts: `passed` and `failed` are what they say. `not_judged` means that what the gate needs is not there (too few
boxes, no served model to compare with). `no_verdict` means that it was measured and the measurement is not worth
a decision (a wide spread): it never passes and is measured again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["passed", "failed", "not_judged", "no_verdict"]

GOLDEN = "golden"
ALL = "all"
ACCURACY_FLOOR = "accuracy_floor"
CLASS_FLOOR = "class_floor"
CALIBRATION = "calibration"
SLICE_REGRESSION = "slice_regression"
LATENCY_RATIO = "latency_ratio"
LATENCY_BUDGET = "latency_budget"
MEMORY_RATIO = "memory_ratio"
MEMORY_BUDGET = "memory_budget"
EXPORT_PARITY = "export_parity"
FORMAT_ACCURACY = "format_accuracy"
CLASS_ORDER = "class_order"
SIGNATURE = "signature"
DATASET_CARD = "dataset_card"

# A version whose accuracy or export nobody could judge is not a good version. A slice that is too small, or a
# latency with nothing to compare it to, says nothing against it.
MUST_BE_JUDGED = frozenset({ACCURACY_FLOOR, EXPORT_PARITY, FORMAT_ACCURACY})
# Of these there is one for each slice, whatever the golden set holds.
BY_SLICE = frozenset({SLICE_REGRESSION, CLASS_FLOOR})


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's answer.

    metric: what was measured (`any_class_ap50`, `class_ap50`, `ece`, `ap50_drop`, `ms_ratio`, `ms`, `memory_ratio`,
    `mib`, `matched_share`, `faults`); `value` and `threshold` are in its unit, None where there was nothing to measure.
    boxes: boxes that the value stands on (true ones; for `ece` found ones), None for gates that count none.
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
        """What a waiver names: the gate, and the slice where the gate judges several."""
        return self.name if self.name not in BY_SLICE and self.slice in (GOLDEN, ALL) else f"{self.name}:{self.slice}"

    @property
    def is_in_the_way(self) -> bool:
        """Whether this result keeps the version from being served, as long as nobody waives it."""
        if self.verdict == "not_judged":
            return self.name in MUST_BE_JUDGED
        return self.verdict != "passed"


def is_passed(results: Collection[GateResult], waived: Collection[str] = ()) -> bool:
    """Whether a version with these results may be served. No results at all is not a pass.

    `waived` holds the keys of the gates that somebody let go by name.
    """
    return bool(results) and not failing(results, waived)


def failing(results: Iterable[GateResult], waived: Collection[str] = ()) -> list[GateResult]:
    """The results that are in the way and not waived."""
    return [result for result in results if result.is_in_the_way and result.key not in waived]
