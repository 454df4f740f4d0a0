"""The gates that stand on a staged version in Triton: how long it takes and how much memory it holds.

Rounds of measurements enter (`release.latency`, the model server), results leave. Both are judged as ratios to the
served model, which was measured beside it, and against a budget where the settings have one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from its_platform.release.gates.result import (
    ALL,
    LATENCY_BUDGET,
    LATENCY_RATIO,
    MEMORY_BUDGET,
    MEMORY_RATIO,
    GateResult,
    Verdict,
)
from its_platform.settings import GateSettings

MIB = 1024 * 1024


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


def latency_ratio(latency: LatencyRounds | None, settings: GateSettings, is_first: bool) -> GateResult:
    """How many times slower than the served model, median over interleaved rounds."""
    limit = settings.latency_ratio

    def result(value: float | None, verdict: Verdict, detail: str) -> GateResult:
        return GateResult(LATENCY_RATIO, "ms_ratio", ALL, value, limit, None, verdict, detail)

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
        return [GateResult(LATENCY_BUDGET, "ms", ALL, value, budget, None, verdict, detail)]

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


def memory_gates(
    candidate_bytes: int | None, served_bytes: int | None, settings: GateSettings, is_first: bool
) -> list[GateResult]:
    """Resident memory of an instance, after the latency rounds have made both work, as a ratio and as a budget.

    None where it cannot be seen: a server in a container, or on a GPU whose memory is not this machine's.
    """
    results = [_memory_ratio(candidate_bytes, served_bytes, settings.memory_ratio, is_first)]
    budget = settings.memory_budget_mib
    if budget is not None:
        value = candidate_bytes / MIB if candidate_bytes is not None else None
        verdict: Verdict = "not_judged" if value is None else "passed" if value <= budget else "failed"
        detail = "the memory of this server cannot be seen" if value is None else f"{value:.0f} MiB an instance"
        results.append(GateResult(MEMORY_BUDGET, "mib", ALL, value, budget, None, verdict, detail))
    return results


def _memory_ratio(candidate: int | None, served: int | None, limit: float, is_first: bool) -> GateResult:
    def result(value: float | None, verdict: Verdict, detail: str) -> GateResult:
        return GateResult(MEMORY_RATIO, "memory_ratio", ALL, value, limit, None, verdict, detail)

    if candidate is None:
        return result(None, "not_judged", "the memory of this server cannot be seen")
    if is_first:
        alone = f"{candidate / MIB:.0f} MiB an instance; no model is served that it could be compared with"
        return result(None, "not_judged", alone)
    if not served:
        return result(None, "no_verdict", "the served model's instances were not found")
    value = candidate / served
    figures = f"{candidate / MIB:.0f} MiB an instance, the served model {served / MIB:.0f} MiB"
    return result(value, "passed" if value <= limit else "failed", figures)
