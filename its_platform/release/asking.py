"""What a person or a job asks for: a version at a stage, a rollback, and how things stand.

A version number with a name and a reason enters; the alias is set, and what follows from it is done at once under
the same lease. What the gates say is asked first, so that a refusal changes nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from its_platform.errors import BadInput, GateNotPassed, NotFound
from its_platform.release import truth, verdicts
from its_platform.release.outside import Outside, real_outside
from its_platform.release.placing import VersionDoesNotServe
from its_platform.release.reconciling import intend, objection_at, reconcile_held, why_canary_is_spent
from its_platform.release.stages import SERVED, check_step
from its_platform.release.truth import Release, ReleaseChange, change_now
from its_platform.release.upkeep import last_good
from its_platform.stores import Stores
from its_platform.stores.audit import record
from its_platform.stores.registry import MODEL_NAME, ModelVersion


def promote(
    stores: Stores,
    version: int,
    stage: str = "production",
    by: str = "",
    why: str = "",
    wait_s: float = 0.0,
    outside: Outside | None = None,
) -> ReleaseChange:
    """Ask for a version at a stage by setting the alias, and make it true at once.

    Raises `GateNotPassed` naming each gate that is in the way, before anything has changed; `VersionDoesNotServe`
    when it fails on Triton: then the alias is put back and the old version goes on serving.
    """
    if stage not in SERVED:
        raise BadInput(f"There is no stage {stage}.", f"The stages are {', '.join(SERVED)}.")
    outside = outside or real_outside(stores)
    with truth.lease(stores, wait_s) as held:
        target = outside.registry.get(MODEL_NAME, version)
        is_rejected = verdicts.is_rejected(target, verdicts.waivers(stores, version))
        check_step(version, truth.stage_now(stores, version, is_rejected), stage)
        if (reason := objection_at(stores, target, stage)) is not None:
            with stores.database.session() as session:
                record(session, "release.refused", version, by, reason, "refused", {"stage": stage, "asked": why})
            raise GateNotPassed(
                f"Version {version} does not go to {stage}: {reason}.",
                "`its release judge` measures it again; `its release waive` lets a gate go by name.",
            )
        verdicts.record_event(stores, verdicts.ASKED, stage, version, why, {"by": by})
        before = outside.registry.by_alias(MODEL_NAME, stage)
        outside.registry.set_alias(MODEL_NAME, stage, version)
        changes = reconcile_held(held, outside, by, why, only_new=False)
        mine = [change for change in changes if change.stage == stage and change.version == version]
        failed = next((change for change in mine if change.kind in {"failed", "refused"}), None)
        if failed is not None:
            put_alias_back(outside, stage, before)
            raise VersionDoesNotServe(
                f"Version {version} did not reach {stage}: {failed.reason}", "What was served before goes on serving."
            )
        done = next((change for change in mine if change.kind in {"released", "rolled_back"}), None)
        return done or _unchanged(truth.served(stores, stage), stage, version)


def stage(
    stores: Stores, version: int, by: str, why: str, wait_s: float = 0.0, outside: Outside | None = None
) -> Release:
    """Serve a version at `staging`, where nobody is routed by default and its last gate, latency, is measured.

    The gates are asked for production; here the version has to load and to answer what its file answers, and must not
    have been rejected. Gives the row that says so. Raises as `promote` does.
    """
    change = promote(stores, version, "staging", by, why, wait_s, outside)
    if change.release is None:
        raise VersionDoesNotServe(f"Version {version} did not reach staging: {change.reason}")
    return change.release


def rollback(stores: Stores, by: str, why: str, wait_s: float = 0.0, outside: Outside | None = None) -> ReleaseChange:
    """Go back to the last good version in production, and have the present one refused until a waiver.

    The tag `rejected` is the first thing written: if all else fails, the next reconcile goes on from it.
    Raises `NotFound` when nothing is served or there is nothing to go back to.
    """
    outside = outside or real_outside(stores)
    with truth.lease(stores, wait_s) as held:
        current = truth.served(stores, "production")
        if current is None:
            raise NotFound("Nothing is served in production.", "`its release history` shows what was.")
        if (back := last_good(stores, outside)) is None:
            raise NotFound(
                f"There is no good version before {current.version} to go back to.",
                "Promote another one, which takes its place.",
            )
        mark = f"{datetime.now(UTC).isoformat(timespec='microseconds')} by {by}: {why}"
        outside.registry.set_tag(MODEL_NAME, current.version, verdicts.REJECTED, mark)
        outside.registry.set_alias(MODEL_NAME, "production", back.version)
        verdicts.record_event(stores, verdicts.ASKED, "production", back.version, why, {"by": by})
        changes = reconcile_held(held, outside, by, why, only_new=False)
        for change in changes:
            if change.stage == "production" and change.kind == "rolled_back":
                return change
        failed = next((change.reason for change in changes if change.stage == "production"), "nothing changed")
        raise VersionDoesNotServe(f"The rollback did not happen: {failed}", "`its release reconcile` tries again.")


@dataclass(frozen=True, slots=True)
class StageStatus:
    """Wish and truth of one stage. `in_the_way`: why the wish is not served, None where it is or there is none."""

    stage: str
    wished: int | None
    served: int | None
    since: datetime | None
    by: str | None
    why: str | None
    last_good: int | None
    in_the_way: str | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def status(stores: Stores, outside: Outside | None = None) -> list[StageStatus]:
    """What is asked for and what is served, stage by stage; nothing is changed, and Triton is not asked."""
    outside = outside or real_outside(stores)
    good = last_good(stores, outside)
    found = []
    for name in SERVED:
        plan = intend(stores, outside, name)
        row, event = plan.current, verdicts.last_event(stores, name)
        waiting = "not reconciled yet" if plan.target is not None else None
        if plan.target is not None and event is not None and event[:2] == (verdicts.FAILED, plan.target.version):
            waiting = event[2]
        found.append(
            StageStatus(
                stage=name,
                wished=plan.wished,
                served=row.version if row is not None else None,
                since=row.since if row is not None else None,
                by=row.by if row is not None else None,
                why=row.why if row is not None else None,
                last_good=good.version if good is not None and name == "production" else None,
                in_the_way=plan.refusal or waiting,
            )
        )
    return found


def pending(stores: Stores, outside: Outside | None = None) -> list[str]:
    """What a reconcile would change, or refuse for the first time, a line a stage; empty when there is nothing to do.

    A refusal that has been told is no longer pending, until its reason changes.
    """
    outside = outside or real_outside(stores)
    lines = []
    for name in SERVED:
        plan = intend(stores, outside, name)
        served = plan.current.version if plan.current is not None else "nothing"
        if plan.target is not None:
            lines.append(f"{name}: version {plan.target.version} is to be served, {served} is")
            continue
        told = verdicts.last_event(stores, name) == (verdicts.REFUSED, plan.wished or 0, plan.refusal)
        if plan.refusal is not None and not told:
            lines.append(f"{name}: version {plan.wished} is asked for and to be refused, {served} is served")
    if (spent := why_canary_is_spent(stores, outside)) is not None:
        lines.append(f"canary: it is to end, {spent}")
    return lines


def put_alias_back(outside: Outside, stage: str, before: ModelVersion | None) -> None:
    """Have an alias name what it named before a wish that came to nothing."""
    if before is None:
        outside.registry.delete_alias(MODEL_NAME, stage)
    else:
        outside.registry.set_alias(MODEL_NAME, stage, before.version)


def _unchanged(row: Release | None, stage: str, version: int) -> ReleaseChange:
    return change_now(
        stage, "unchanged", version, row.version if row is not None else None, "it is served already", row
    )
