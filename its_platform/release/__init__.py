"""A registered version becomes a served one: gates, wish and truth, stages, rollback.

Enters: a model version of the registry and the wish that an alias is. Leaves: a version that was seen answering at a
stage, a row in `releases` that says so, and a `ReleaseChange` for whoever acts on it. How Triton is run belongs to
`serving`; whether a model is needed at all, to `retraining`.
"""

from __future__ import annotations

from its_platform.release.asking import StageStatus, pending, promote, rollback, stage, status
from its_platform.release.card import ModelCard, publish_card, publish_cards, read_model_card, write_card
from its_platform.release.experiment import (
    Experiment,
    experiments,
    read_experiment,
    running_experiment,
    unfinished_experiment,
)
from its_platform.release.gates import GateResult, LatencyRounds, failing, is_passed
from its_platform.release.judging import judge_candidate
from its_platform.release.outside import Outside, real_outside
from its_platform.release.pictures import gates_markdown, timeline_markdown
from its_platform.release.placing import VersionDoesNotServe
from its_platform.release.reconciling import reconcile
from its_platform.release.rollout import (
    CanaryState,
    Look,
    canary_state,
    freeze,
    hold_canary,
    is_past_patience,
    look_at_canary,
    release,
    resume_canary,
    stop_canary,
    thaw,
)
from its_platform.release.truth import Release, ReleaseChange, history, served
from its_platform.release.upkeep import mend, restore
from its_platform.release.verdicts import (
    Judgement,
    Waiver,
    freeze_in_force,
    gates_of,
    latest_judgement,
    waive,
    waived_gates,
    waivers,
)

__all__ = [
    "CanaryState",
    "Experiment",
    "GateResult",
    "Judgement",
    "LatencyRounds",
    "Look",
    "ModelCard",
    "Outside",
    "Release",
    "ReleaseChange",
    "StageStatus",
    "VersionDoesNotServe",
    "Waiver",
    "canary_state",
    "experiments",
    "failing",
    "freeze",
    "freeze_in_force",
    "gates_markdown",
    "gates_of",
    "history",
    "hold_canary",
    "is_passed",
    "is_past_patience",
    "judge_candidate",
    "latest_judgement",
    "look_at_canary",
    "mend",
    "pending",
    "promote",
    "publish_card",
    "publish_cards",
    "read_experiment",
    "read_model_card",
    "real_outside",
    "reconcile",
    "release",
    "restore",
    "resume_canary",
    "rollback",
    "running_experiment",
    "served",
    "stage",
    "status",
    "stop_canary",
    "thaw",
    "timeline_markdown",
    "unfinished_experiment",
    "waive",
    "waived_gates",
    "waivers",
    "write_card",
]
