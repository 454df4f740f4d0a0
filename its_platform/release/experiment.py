"""Experiments: two versions compared in live traffic, as they are recorded, and how they end.

A plan and a hypothesis enter; a row of `experiments` leaves, of which at most one is open. While it is open its
challenger is at the stage `canary`, without an alias: the front gives it its share of the blocks and has production
answer where it fails. What the blocks say, and when that is enough, is not known here (`its_platform/experiments`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

import sqlalchemy as sa

from its_platform.errors import NotFound
from its_platform.release import truth, verdicts
from its_platform.release.outside import Outside
from its_platform.release.truth import Lease, Release, ReleaseChange, change_now
from its_platform.release.upkeep import true_routes
from its_platform.stores import Stores
from its_platform.stores.audit import record
from its_platform.stores.database import check_fencing
from its_platform.stores.registry import MODEL_NAME
from its_platform.stores.schema import ExperimentRow

# Where a release row of the stage `canary` says that its version is there for an experiment.
EVIDENCE = "experiment"
Decision = Literal["difference", "no_difference", "not_found", "unsafe", "stopped", "cut_short"]
# Looks that are kept of one experiment, the last ones.
MOST_LOOKS = 2000


@dataclass(frozen=True, slots=True)
class Experiment:
    """One row. `until`, `decision`, `why_ended` and `ended_by` are None while it goes on.

    looks: the figures at each look, the first one first. result: the figures on which it ended, None until they
    were taken.
    """

    id: int
    control: int
    challenger: int
    hypothesis: str
    plan: dict[str, Any]
    by: str
    since: datetime
    until: datetime | None
    decision: Decision | None
    why_ended: str | None
    ended_by: str | None
    looks: list[dict[str, Any]]
    result: dict[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def experiment_at(row: Release) -> int | None:
    """The experiment that a release row belongs to, None for a version that is at its stage in its own right."""
    number = row.evidence.get(EVIDENCE)
    return int(number) if number is not None else None


def running_experiment(stores: Stores) -> Experiment | None:
    """The experiment that goes on now."""
    with stores.database.session() as session:
        row = session.execute(_all().where(ExperimentRow.until.is_(None))).scalar_one_or_none()
        return _experiment(row) if row is not None else None


def unfinished_experiment(stores: Stores) -> Experiment | None:
    """The latest experiment that has ended and of which nobody has taken the result yet."""
    query = _all().where(ExperimentRow.until.is_not(None), ExperimentRow.result.is_(None))
    with stores.database.session() as session:
        row = session.execute(query.order_by(ExperimentRow.id.desc()).limit(1)).scalar_one_or_none()
        return _experiment(row) if row is not None else None


def experiments(stores: Stores) -> list[Experiment]:
    """Every experiment there was, the latest first."""
    with stores.database.session() as session:
        return [_experiment(row) for row in session.execute(_all().order_by(ExperimentRow.id.desc())).scalars()]


def read_experiment(stores: Stores, number: int) -> Experiment:
    """One experiment. Raises `NotFound`."""
    with stores.database.session() as session:
        row = session.execute(_all().where(ExperimentRow.id == number)).scalar_one_or_none()
        if row is None:
            raise NotFound(f"There is no experiment {number}.", "`its experiment status` lists them.")
        return _experiment(row)


def record_experiment(
    held: Lease, control: int, challenger: int, hypothesis: str, plan: Mapping[str, Any], by: str
) -> Experiment:
    """Write that an experiment begins. Raises `LeaseHeld`."""
    with held.stores.database.session() as session:
        check_fencing(session, truth.LEASE, held.fencing)
        row = ExperimentRow(
            model_name=MODEL_NAME,
            control=control,
            challenger=challenger,
            hypothesis=hypothesis,
            plan=dict(plan),
            by=by,
            since=datetime.now(UTC),
        )
        session.add(row)
        session.flush()
        session.refresh(row)
        versions = {"control": control, "challenger": challenger}
        record(session, "experiment.started", row.id, by, hypothesis, detail=versions)
        return _experiment(row)


def note_look(held: Lease, number: int, figures: Mapping[str, Any]) -> None:
    """Keep what a look found, `blocks` and `finding` among it; one without a new block takes the last one's place.

    Raises `LeaseHeld`.
    """
    with held.stores.database.session() as session:
        check_fencing(session, truth.LEASE, held.fencing)
        row = session.execute(_all().where(ExperimentRow.id == number)).scalar_one()
        if row.looks and row.looks[-1]["blocks"] == figures["blocks"]:
            row.looks = [*row.looks[:-1], dict(figures)]
            return
        # What was found in each light is kept of the last look alone.
        former = [{name: value for name, value in look.items() if name != "finding"} for look in row.looks]
        row.looks = [*former, dict(figures)][-MOST_LOOKS:]


def note_result(held: Lease, number: int, figures: Mapping[str, Any]) -> None:
    """Keep the figures on which an experiment ended. Raises `LeaseHeld`."""
    with held.stores.database.session() as session:
        check_fencing(session, truth.LEASE, held.fencing)
        session.execute(sa.update(ExperimentRow).where(ExperimentRow.id == number).values(result=dict(figures)))


def end_experiment(
    held: Lease, outside: Outside, running: Experiment, decision: Decision, why: str, by: str
) -> list[ReleaseChange]:
    """End an experiment and have its challenger answer nobody any more. No alias is touched. Raises `LeaseHeld`.

    The reason is written first: what is left of the rest is done by the next `settle_experiment`.
    """
    with held.stores.database.session() as session:
        check_fencing(session, truth.LEASE, held.fencing)
        ended = session.execute(
            sa.update(ExperimentRow)
            .where(ExperimentRow.id == running.id, ExperimentRow.until.is_(None))
            .values(until=datetime.now(UTC), decision=decision, why_ended=why, ended_by=by)
            .returning(ExperimentRow.id)
        ).scalar()
        if ended is not None:
            record(session, "experiment.ended", running.id, by, why, detail={"decision": decision})
    return _end_traffic(held, outside, by, why)


def settle_experiment(held: Lease, outside: Outside, by: str) -> list[ReleaseChange]:
    """End an experiment that cannot go on, and traffic that one left behind; empty where there is nothing to do."""
    running = running_experiment(held.stores)
    if running is None:
        return _end_traffic(held, outside, by, "its experiment has ended")
    why = why_spent(held.stores, outside, running)
    return end_experiment(held, outside, running, "cut_short", why, by) if why is not None else []


def why_spent(stores: Stores, outside: Outside, running: Experiment) -> str | None:
    """Why an experiment cannot go on: what it compares is no more as it was, or a freeze; None where it can."""
    canary, production = truth.served(stores, "canary"), truth.served(stores, "production")
    if canary is None or experiment_at(canary) != running.id:
        return "its challenger does not answer live traffic"
    if production is None or production.version != running.control:
        return f"version {production.version if production else 'none'} is in production, not {running.control}"
    try:
        version = outside.registry.get(MODEL_NAME, running.challenger)
    except NotFound:
        return f"version {running.challenger} is no longer registered"
    if verdicts.is_rejected(version, verdicts.waivers(stores, running.challenger)):
        return f"version {running.challenger} was rejected ({version.tags[verdicts.REJECTED]})"
    if (frozen := verdicts.freeze_in_force(stores)) is not None:
        return f"releases are frozen {frozen}"
    return None


def _end_traffic(held: Lease, outside: Outside, by: str, why: str) -> list[ReleaseChange]:
    row = truth.served(held.stores, "canary")
    if row is None or experiment_at(row) is None:
        return []
    ended = truth.end_release(held, "canary", by, why)
    outside.server.route(true_routes(held.stores))
    return [change_now("canary", "ended", row.version, None, why, ended)]


def _all() -> sa.Select[ExperimentRow]:
    return sa.select(ExperimentRow).where(ExperimentRow.model_name == MODEL_NAME)


def _experiment(row: ExperimentRow) -> Experiment:
    return Experiment(
        id=row.id,
        control=row.control,
        challenger=row.challenger,
        hypothesis=row.hypothesis,
        plan=row.plan,
        by=row.by,
        since=row.since,
        until=row.until,
        decision=cast("Decision | None", row.decision),
        why_ended=row.why_ended,
        ended_by=row.ended_by,
        looks=list(row.looks),
        result=row.result,
    )
