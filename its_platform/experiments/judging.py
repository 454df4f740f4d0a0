"""Whether an experiment has found something, has looked long enough, or goes on.

Enters: what was observed, and the plan. Leaves: a `Finding` with its figures, each interval one that holds at every
look. Errors and latency end an experiment always, by the canary's rule. Pure: nothing is read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from its_platform.experiments.blocks import Observed, values_of
from its_platform.experiments.planning import MEASURES, Plan
from its_platform.release.canary import LIGHTS, unsafe
from its_platform.release.confidence_sequence import confidence_sequence
from its_platform.release.experiment import Decision
from its_platform.settings import CanarySettings

# The ends are known to a two thousandth of the widest that a value can be.
GRID = 4001


@dataclass(frozen=True, slots=True)
class Effect:
    """How much higher the measure is with the challenger, and the interval; None without a block of each version."""

    blocks: int
    effect: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Finding:
    """What a look found. decision: None while the experiment goes on.

    control, challenger: the mean of their blocks and how many there are; of a paired measure only the gain is known.
    """

    decision: Decision | None
    reasons: tuple[str, ...]
    overall: Effect
    of: int
    by_light: dict[str, Effect]
    control: tuple[int, float | None]
    challenger: tuple[int, float | None]
    numbers: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge_experiment(
    observed: Observed, plan: Plan, settings: CanarySettings, latency_ratio: float, is_over: bool = False
) -> Finding:
    """What the blocks say so far; the order of the blocks is the one in which they came in.

    settings, latency_ratio: the canary's limits to failures and to latency. is_over: the days of the plan have passed.
    """
    numbers: dict[str, float] = {"pictures": observed.safety.pictures}
    against = unsafe(observed.safety, settings, latency_ratio, numbers)
    blocks = observed.blocks[: plan.blocks]
    values = values_of(blocks, plan)
    overall = _effect(values, plan, plan.alpha, _has_both(blocks, plan))
    by_light = {}
    for light in sorted({block.light for block in blocks}):
        own = [(block, value) for block, value in zip(blocks, values, strict=True) if block.light == light]
        has_both = _has_both([block for block, _ in own], plan)
        by_light[light] = _effect([value for _, value in own], plan, plan.alpha / len(LIGHTS), has_both)
    decision, reason = ("unsafe", "; ".join(against)) if against else _decision(overall, plan, is_over)
    arms = [[block.value for block in blocks if block.is_challengers == drawn] for drawn in (False, True)]
    control, challenger = ((len(arm), fmean(arm) if arm else None) for arm in arms)
    return Finding(decision, (reason,), overall, plan.blocks, by_light, control, challenger, numbers)


def _decision(overall: Effect, plan: Plan, is_over: bool) -> tuple[Decision | None, str]:
    few = f"not enough evidence: {overall.blocks} of {plan.blocks} blocks"
    late = f"{few} in the {plan.days:g} days of the plan"
    if overall.effect is None or overall.low is None or overall.high is None:
        return ("not_found", late) if is_over else (None, few)
    said = f"{overall.effect:+.4g} {MEASURES[plan.measure].said} ({overall.low:+.4g} to {overall.high:+.4g})"
    if overall.low > 0 or overall.high < 0:
        way = "more" if overall.low > 0 else "less"
        return "difference", f"{way} with the challenger: {said} in {overall.blocks} blocks"
    if -plan.effect < overall.low and overall.high < plan.effect:
        return "no_difference", f"any difference is smaller than {plan.effect:g}: {said} in {overall.blocks} blocks"
    if overall.blocks >= plan.blocks:
        return "not_found", f"not enough evidence of a difference in all {plan.blocks} blocks of the plan: {said}"
    return ("not_found", f"{late}: {said}") if is_over else (None, f"{few}, {said}")


def _effect(values: Sequence[float], plan: Plan, alpha: float, has_both: bool) -> Effect:
    if not values or not has_both:
        return Effect(len(values), None, None, None)
    width = 2 * plan.half_width
    scaled = [min(1.0, max(0.0, 0.5 + value / width)) for value in values]
    low, high = confidence_sequence(scaled, alpha, (plan.spread / width) ** 2, GRID)
    return Effect(len(values), fmean(values), (low - 0.5) * width, (high - 0.5) * width)


def _has_both(blocks: Sequence[Any], plan: Plan) -> bool:
    return MEASURES[plan.measure].is_paired or len({block.is_challengers for block in blocks}) == 2
