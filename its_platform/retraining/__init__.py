"""Whether a new model is trained now, on what, how often at most, and who is told.

Enter: drift reports, labels, frames, what is served and what was decided before. Leaves: a `Decision` with its reasons
and numbers, kept in the table `decisions`. Starting the training belongs to whoever asked (Dagster's sensor, a person).
Read `policy` (the whole of it in one place), then `deciding` (pure), `history`, `recording` and `replay`.
"""

from __future__ import annotations

from its_platform.retraining.deciding import (
    ACTIONS,
    TRAININGS,
    Decision,
    EarlierTraining,
    RetrainingHistory,
    decide,
)
from its_platform.retraining.history import read_history
from its_platform.retraining.policy import Policy, policy_of
from its_platform.retraining.recording import list_decisions, list_told, record_decision, record_run
from its_platform.retraining.replay import Replayed, replay

__all__ = [
    "ACTIONS",
    "TRAININGS",
    "Decision",
    "EarlierTraining",
    "Policy",
    "Replayed",
    "RetrainingHistory",
    "decide",
    "list_decisions",
    "list_told",
    "policy_of",
    "read_history",
    "record_decision",
    "record_run",
    "replay",
]
