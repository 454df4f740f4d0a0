"""The decisions as rows of the table `decisions`: written once each, read back, and named by the run that they started.

Who is to be told of a training is told when its decision is written.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from its_platform.notifications import NOT_TOLD, TOLD, Event, tell
from its_platform.retraining.deciding import ACTIONS, TRAININGS, Decision
from its_platform.stores import Stores
from its_platform.stores.audit import record
from its_platform.stores.schema import DecisionRow

_DURATION = re.compile(r"\b\d+ (s|min|h)\b")


def record_decision(
    stores: Stores, decision: Decision, report_id: str | None = None, run_id: str | None = None
) -> bool:
    """Keep a decision in `decisions`; one that says what the last one said is not written again.

    Whether it was written. Trainings are told apart by their key, all others by action and reasons.
    """
    numbers = {**decision.numbers, "key": decision.key}
    if decision.window:
        numbers["window"] = [moment.isoformat() for moment in decision.window]
    report = report_id or decision.numbers.get("report")
    # Two callers at once would both see that the last row differs.
    with stores.database.lock("decisions"), stores.database.session() as session:
        last = session.scalar(own_decisions().limit(1))
        if last is not None and _says_the_same(last, decision, run_id):
            return False
        session.add(
            DecisionRow(
                action=decision.action,
                reasons=list(decision.reasons),
                numbers=numbers,
                report_id=report,
                run_id=run_id,
            )
        )
        if decision.is_training:
            told = {"key": decision.key, "report": report, "run": run_id}
            record(session, "retraining.decided", decision.action, why=" ".join(decision.reasons), detail=told)
    if decision.is_training:
        tell(stores, Event("training", f"{decision.action}: {' '.join(decision.reasons)}", {"key": decision.key}))
    return True


def record_run(stores: Stores, key: str, run_id: str) -> bool:
    """Name the run that a decision to train started, in the latest decision of this key; whether it was new.

    The first run stays: one that is started again for the same decision says so by its own tag.
    """
    wanted = sa.select(DecisionRow).where(
        DecisionRow.action.in_(TRAININGS), DecisionRow.numbers["key"].astext == key, DecisionRow.run_id.is_(None)
    )
    with stores.database.lock("decisions"), stores.database.session() as session:
        row = session.scalar(wanted.order_by(DecisionRow.id.desc()).limit(1))
        if row is None:
            return False
        row.run_id = run_id
    return True


def list_decisions(stores: Stores, limit: int | None = None) -> list[dict[str, Any]]:
    """What was decided, the latest first."""
    return _as_facts(stores, own_decisions().limit(limit))


def list_told(stores: Stores, limit: int | None = None) -> list[dict[str, Any]]:
    """Who was told of what, or could not be, the latest first."""
    told = sa.select(DecisionRow).where(DecisionRow.action.in_((TOLD, NOT_TOLD))).order_by(DecisionRow.id.desc())
    return _as_facts(stores, told.limit(limit))


def _as_facts(stores: Stores, query: sa.Select[Any]) -> list[dict[str, Any]]:
    with stores.database.session() as session:
        return [
            {
                "at": row.at.astimezone(UTC),
                "action": row.action,
                "reasons": list(row.reasons),
                "numbers": row.numbers,
                "report_id": row.report_id,
                "run_id": row.run_id,
            }
            for row in session.scalars(query)
        ]


def own_decisions(by: datetime | None = None) -> sa.Select[Any]:
    """The rows of this policy, the latest first; those written by a moment, where one is named."""
    # The table also holds what the release stage refused; its rows have other actions.
    query = sa.select(DecisionRow).where(DecisionRow.action.in_(ACTIONS)).order_by(DecisionRow.id.desc())
    return query if by is None else query.where(DecisionRow.at <= by)


def _says_the_same(last: DecisionRow, decision: Decision, run_id: str | None) -> bool:
    # The run of a decision is named after it was recorded: to decide the same again says nothing new.
    if last.action != decision.action or (run_id is not None and last.run_id != run_id):
        return False
    if decision.is_training:
        return bool(last.numbers.get("key") == decision.key)
    return _without_times(list(last.reasons)) == _without_times(decision.reasons)


def _without_times(reasons: list[str]) -> list[str]:
    """Reasons without the durations that change from one look to the next."""
    return [_DURATION.sub("", reason) for reason in reasons]
