"""Two registered versions compared in live traffic: planned, shared out, judged at every look, and concluded.

Enters: a hypothesis about what is in production and a challenger. Leaves: a decision with its interval, in the table
`experiments`. No alias is ever changed: what follows from a result is for somebody, or for a canary, to do.
"""

from __future__ import annotations

from its_platform.experiments.judging import Effect, Finding, judge_experiment
from its_platform.experiments.planning import MEASURES, Plan, blocks_needed, plan_experiment
from its_platform.experiments.running import (
    ExperimentLook,
    Question,
    look_at_experiment,
    plan_for,
    start_experiment,
    stop_experiment,
    version_at,
)

__all__ = [
    "MEASURES",
    "Effect",
    "ExperimentLook",
    "Finding",
    "Plan",
    "Question",
    "blocks_needed",
    "judge_experiment",
    "look_at_experiment",
    "plan_experiment",
    "plan_for",
    "start_experiment",
    "stop_experiment",
    "version_at",
]
