"""The gates: what a model version has to show, as pure functions with their numbers.

Measurements and facts of a candidate and of the served model enter; `GateResult`s leave. Nothing here measures, reads
or stores anything: that is `judging`'s work. Read `result` first, then `accuracy` (the golden frames), `serving` (the
staged model in Triton) and `provenance` (whether a version is what it says).
"""

from its_platform.release.gates.accuracy import accuracy_floors, calibration_gate, class_floors, slice_regressions
from its_platform.release.gates.provenance import (
    Signature,
    Tensor,
    class_order,
    dataset_card,
    export_parity,
    format_accuracy,
    signature_gate,
)
from its_platform.release.gates.result import (
    ACCURACY_FLOOR,
    CALIBRATION,
    CLASS_FLOOR,
    CLASS_ORDER,
    DATASET_CARD,
    EXPORT_PARITY,
    FORMAT_ACCURACY,
    GOLDEN,
    LATENCY_BUDGET,
    LATENCY_RATIO,
    MEMORY_BUDGET,
    MEMORY_RATIO,
    MUST_BE_JUDGED,
    SIGNATURE,
    SLICE_REGRESSION,
    GateResult,
    Verdict,
    failing,
    is_passed,
)
from its_platform.release.gates.serving import LatencyRounds, latency_budget, latency_ratio, memory_gates, spread

__all__ = [
    "ACCURACY_FLOOR",
    "CALIBRATION",
    "CLASS_FLOOR",
    "CLASS_ORDER",
    "DATASET_CARD",
    "EXPORT_PARITY",
    "FORMAT_ACCURACY",
    "GOLDEN",
    "LATENCY_BUDGET",
    "LATENCY_RATIO",
    "MEMORY_BUDGET",
    "MEMORY_RATIO",
    "MUST_BE_JUDGED",
    "SIGNATURE",
    "SLICE_REGRESSION",
    "GateResult",
    "LatencyRounds",
    "Signature",
    "Tensor",
    "Verdict",
    "accuracy_floors",
    "calibration_gate",
    "class_floors",
    "class_order",
    "dataset_card",
    "export_parity",
    "failing",
    "format_accuracy",
    "is_passed",
    "latency_budget",
    "latency_ratio",
    "memory_gates",
    "signature_gate",
    "slice_regressions",
    "spread",
]
