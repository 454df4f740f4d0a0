"""What was recorded about a version: its gate results, waivers, rejections, and the times it was refused.

Rows enter and leave; each is only ever added. How a gate comes to its verdict is in `gates`, what follows from it
in `reconciling.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa

from its_platform.errors import BadInput
from its_platform.notifications import Event, tell
from its_platform.release.gates import GateResult, Verdict, failing
from its_platform.stores import Stores
from its_platform.stores.audit import Action, Outcome, record
from its_platform.stores.registry import MODEL_NAME, ModelVersion
from its_platform.stores.runs import made_by
from its_platform.stores.schema import DecisionRow, GateResultRow, WaiverRow

REJECTED = "rejected"
REFUSED_TAG = "release_refused"
REFUSED, FAILED, ASKED = "release_refused", "release_failed", "release_asked"
FROZEN, THAWED = "release_frozen", "release_thawed"
HELD, RESUMED, LOOKED = "canary_held", "canary_resumed", "canary_looked_at"
# What is asked for is recorded by what came of it, and a look by the step that followed.
_AUDITED: dict[str, tuple[Action, Outcome]] = {
    REFUSED: ("release.refused", "refused"),
    FAILED: ("release.failed", "failed"),
    FROZEN: ("release.frozen", "done"),
    THAWED: ("release.thawed", "done"),
    HELD: ("canary.held", "done"),
    RESUMED: ("canary.resumed", "done"),
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """All gate results of one judging of a version. `served` is the version it was compared with, if any."""

    version: int
    at: datetime
    round: str
    served: int | None
    results: tuple[GateResult, ...]


@dataclass(frozen=True, slots=True)
class Waiver:
    """A person's word that a version may go on in spite of a gate (its key), or of having been rejected."""

    version: int
    gate: str
    by: str
    reason: str
    at: datetime


def record_judgement(
    stores: Stores, version: int, round: str, served: int | None, results: Sequence[GateResult]
) -> Judgement:
    """Keep the results of one judging, all at one time."""
    with stores.database.session() as session:
        at = session.execute(sa.select(sa.func.now())).scalar_one()
        session.add_all(
            GateResultRow(
                model_name=MODEL_NAME,
                version=version,
                at=at,
                round=round,
                name=result.name,
                metric=result.metric,
                slice=result.slice,
                value=result.value,
                threshold=result.threshold,
                boxes=result.boxes,
                verdict=result.verdict,
                detail={"text": result.detail, "served": served},
            )
            for result in results
        )
    return Judgement(version, at, round, served, tuple(results))


def latest_judgement(stores: Stores, version: int, round: str | None = None) -> Judgement | None:
    """The last judging of a version (of one round, where it is named); None where it was never judged."""
    of_version = [GateResultRow.model_name == MODEL_NAME, GateResultRow.version == version]
    if round is not None:
        of_version.append(GateResultRow.round == round)
    # The last by its number, not by its time: the clock may have been set back in between.
    newest = sa.select(sa.func.max(GateResultRow.id)).where(*of_version).scalar_subquery()
    last = sa.select(GateResultRow.at).where(GateResultRow.id == newest).scalar_subquery()
    query = sa.select(GateResultRow).where(*of_version, GateResultRow.at == last).order_by(GateResultRow.id)
    with stores.database.session() as session:
        rows = list(session.execute(query).scalars())
    if not rows:
        return None
    results = tuple(
        GateResult(
            name=row.name,
            metric=row.metric,
            slice=row.slice,
            value=row.value,
            threshold=row.threshold,
            boxes=row.boxes,
            verdict=cast(Verdict, row.verdict),
            detail=str(row.detail.get("text", "")),
        )
        for row in rows
    )
    return Judgement(version, rows[0].at, rows[0].round, rows[0].detail.get("served"), results)


def judgement_evidence(stores: Stores, version: int) -> dict[str, Any] | None:
    """The last judging of a version as a release row keeps it, by gate; None where it was never judged."""
    judgement = latest_judgement(stores, version)
    if judgement is None:
        return None
    return {
        "round": judgement.round,
        "at": judgement.at.isoformat(),
        "served": judgement.served,
        "gates": {
            result.key: {
                "value": _finite(result.value),
                "threshold": _finite(result.threshold),
                "verdict": result.verdict,
            }
            for result in judgement.results
        },
    }


def gates_of(stores: Stores, version: int) -> list[GateResult]:
    """The results of the last judging of a version; empty where it was never judged."""
    judgement = latest_judgement(stores, version)
    return list(judgement.results) if judgement is not None else []


def waived_gates(stores: Stores, version: int) -> frozenset[str]:
    """The keys of the gates that were let go for a version."""
    return frozenset(waiver.gate for waiver in waivers(stores, version))


def waivers(stores: Stores, version: int) -> list[Waiver]:
    """Every waiver for a version, oldest first."""
    query = (
        sa.select(WaiverRow)
        .where(WaiverRow.model_name == MODEL_NAME, WaiverRow.version == version)
        .order_by(WaiverRow.id)
    )
    with stores.database.session() as session:
        return [Waiver(row.version, row.gate, row.by, row.reason, row.at) for row in session.execute(query).scalars()]


def waive(stores: Stores, version: ModelVersion, gate: str, by: str, reason: str) -> Waiver:
    """Let one gate of one version go. `gate` is a result's key, or `rejected` for a version that was rolled back.

    Raises `BadInput` where there is no name, no reason, or nothing of that name in the version's way.
    """
    if not by.strip() or not reason.strip():
        raise BadInput("A waiver needs a name and a reason.", "Give both --by and --reason.")
    in_the_way = _in_the_way(stores, version)
    if gate not in in_the_way:
        raise BadInput(
            f"Nothing named {gate} is in the way of version {version.version}.",
            f"In its way: {', '.join(in_the_way)}." if in_the_way else "Nothing is in its way.",
        )
    # The rejection itself goes into the waiver: a later rejection is another one, and not covered.
    recorded = f"{REJECTED}={version.tags[REJECTED]}" if gate == REJECTED else gate
    with stores.database.session() as session:
        row = WaiverRow(model_name=MODEL_NAME, version=version.version, gate=recorded, by=by, reason=reason)
        session.add(row)
        session.flush()
        session.refresh(row)
        record(session, "release.waived", version.version, by, reason, detail={"gate": recorded})
        return Waiver(row.version, row.gate, row.by, row.reason, row.at)


def _in_the_way(stores: Stores, version: ModelVersion) -> list[str]:
    judgement = latest_judgement(stores, version.version)
    found = [result.key for result in failing(judgement.results)] if judgement is not None else []
    return [*found, *([REJECTED] if version.tags.get(REJECTED) else [])]


def is_rejected(version: ModelVersion, given: Sequence[Waiver]) -> bool:
    """Whether a version was rejected and nobody has waived that very rejection since."""
    mark = version.tags.get(REJECTED)
    return bool(mark) and f"{REJECTED}={mark}" not in {waiver.gate for waiver in given}


def objection(stores: Stores, version: ModelVersion, served: int | None, was_served: bool) -> str | None:
    """Why a version may not go into production, with the numbers; None when it may.

    served: the version in production now. was_served: whether this one was in production before; a return to it
    needs no comparison with what came after.
    """
    given = waivers(stores, version.version)
    if is_rejected(version, given):
        return f"it was rejected ({version.tags[REJECTED]})"
    judgement = latest_judgement(stores, version.version)
    if judgement is None:
        return "it has not been judged"
    left = failing(judgement.results, {waiver.gate for waiver in given})
    if left:
        return "; ".join(f"{result.key} {result.verdict}: {result.detail}" for result in left)
    if judgement.served != served and not was_served and served != version.version:
        against = f"version {judgement.served}" if judgement.served is not None else "nothing"
        return f"it was judged against {against}, and version {served} is served now"
    return None


def record_event(
    stores: Stores, action: str, stage: str, version: int, reason: str, numbers: dict[str, Any] | None = None
) -> None:
    """Keep a refusal, a failure or a request in `decisions`, beside what the retraining policy decides.

    What a person or the reconciler decided by it is in `audit` too; numbers: with `by` in them, who that was.
    """
    kept = {**(numbers or {}), **made_by(), "stage": stage, "version": version}
    with stores.database.session() as session:
        session.add(DecisionRow(action=action, reasons=[reason], numbers=kept))
        if action in _AUDITED:
            audited, outcome = _AUDITED[action]
            record(session, audited, version or stage, kept.get("by", ""), reason, outcome, {"stage": stage})
    if action == REFUSED:
        said = f"Version {version} does not go to {stage}: {reason}"
        tell(stores, Event("refusal", said, {"version": version, "stage": stage}))


def last_event(stores: Stores, stage: str) -> tuple[str, int, str] | None:
    """The latest of them at a stage: action, version, reason."""
    query = (
        sa.select(DecisionRow)
        .where(DecisionRow.action.in_((REFUSED, FAILED, ASKED)), DecisionRow.numbers["stage"].astext == stage)
        .order_by(DecisionRow.id.desc())
        .limit(1)
    )
    with stores.database.session() as session:
        row = session.execute(query).scalar_one_or_none()
        return (row.action, int(row.numbers["version"]), str(row.reasons[0])) if row is not None else None


def latest_of(stores: Stores, actions: Sequence[str]) -> DecisionRow | None:
    """The last event of one of these kinds, None where there was none."""
    query = sa.select(DecisionRow).where(DecisionRow.action.in_(actions)).order_by(DecisionRow.id.desc()).limit(1)
    with stores.database.session() as session:
        row = session.execute(query).scalar_one_or_none()
        if row is not None:
            session.expunge(row)
        return row


def freeze_in_force(stores: Stores) -> str | None:
    """Who froze what live traffic meets, and why; None where nothing is frozen."""
    row = latest_of(stores, (FROZEN, THAWED))
    if row is None or row.action == THAWED:
        return None
    return f"by {row.numbers['by']} on {row.at:%Y-%m-%d %H:%M} UTC: {row.reasons[0]}"


def failures_in_a_row(stores: Stores, stage: str, version: int) -> int:
    """How often this version failed at a stage since somebody last asked for it there, or another was tried."""
    query = (
        sa.select(DecisionRow)
        .where(DecisionRow.action.in_((FAILED, ASKED)), DecisionRow.numbers["stage"].astext == stage)
        .order_by(DecisionRow.id.desc())
        .limit(50)
    )
    count = 0
    with stores.database.session() as session:
        for row in session.execute(query).scalars():
            if row.action != FAILED or int(row.numbers["version"]) != version:
                break
            count += 1
    return count


def _finite(value: float | None) -> float | None:
    """PostgreSQL's JSON has neither infinity nor NaN."""
    return value if value is not None and math.isfinite(value) else None
