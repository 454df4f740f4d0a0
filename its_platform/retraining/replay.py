"""What the policy would have decided at each drift report of the past, by the function that the sensor asks.

Enters: the stores, and the settings that are in force now. Leaves: one `Replayed` a report, in the order in which the
reports were made, each on the history that was known at that moment. Nothing is recorded or started.

What really was trained, registered and served stays as it was: the question is what this policy says to that history,
not what the world would have become under it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from its_platform.monitoring.reports import list_reports
from its_platform.retraining.deciding import Decision, RetrainingHistory, decide
from its_platform.retraining.history import read_history
from its_platform.settings import RetrainingSettings
from its_platform.stores import Stores
from its_platform.stores.runs import DagsterRun, dagster_runs

LEARN = "learn"


@dataclass(frozen=True)
class Replayed:
    """The decision at a moment, and why. decision: one of `deciding.ACTIONS`."""

    at: datetime
    decision: str
    reasons: list[str]


def replay(stores: Stores, since: datetime | None = None, until: datetime | None = None) -> list[Replayed]:
    """Go through the reports made in `[since, until)`, oldest first."""
    made = sorted(report.created_at for report in list_reports(stores))
    wanted = [at for at in made if (since is None or at >= since) and (until is None or at < until)]
    runs = dagster_runs(stores.settings)
    known = ((at, read_history(stores, is_training_at(runs, at), at)) for at in wanted)
    return [replayed(at, decision) for at, decision in decisions_on(known, stores.settings.retraining)]


def decisions_on(
    known: Iterator[tuple[datetime, RetrainingHistory]] | Sequence[tuple[datetime, RetrainingHistory]],
    settings: RetrainingSettings,
) -> Iterator[tuple[datetime, Decision]]:
    """The decision that each history calls for at its moment. Pure."""
    for at, history in known:
        yield at, decide(history, settings, at)


def replayed(at: datetime, decision: Decision) -> Replayed:
    return Replayed(at, decision.action, list(decision.reasons))


def is_training_at(runs: Sequence[DagsterRun], at: datetime) -> bool:
    """Whether a run that trains was under way at a moment."""
    return any(
        run.job == LEARN and run.started is not None and run.started <= at and (run.ended is None or run.ended > at)
        for run in runs
    )
