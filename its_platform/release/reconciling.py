"""Wish and truth: what the aliases ask for, made true on Triton one step at a time.

The registry's aliases `staging`, `canary` and `production` enter as the wish; `releases` rows and the `ReleaseChange`s
that led to them leave. A version is placed, loaded, checked, routed, seen answering through the front, and only then
written down. Each step can be done twice, so that the next reconcile finishes what a crash left. A failed read and a
deleted alias change nothing. How a version is measured does not belong here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from its_platform.errors import ItsError, NotFound, PermanentError, TransientError
from its_platform.notifications import Event, tell
from its_platform.release import truth, verdicts
from its_platform.release.experiment import experiment_at, running_experiment, settle_experiment
from its_platform.release.hosts.publishing import publish
from its_platform.release.outside import Outside, real_outside
from its_platform.release.placing import bring_up, fetch_onnx, lead_traffic
from its_platform.release.stages import SERVED, has_step
from its_platform.release.truth import ChangeKind, Lease, Release, ReleaseChange, change_now
from its_platform.release.upkeep import last_good, restore_held, retire, route_as_json, true_routes
from its_platform.serving.repository import Route, route_of
from its_platform.settings import CanarySettings
from its_platform.stores import Stores
from its_platform.stores.audit import Action
from its_platform.stores.registry import MODEL_NAME, STAGE_TAG, ModelVersion
from its_platform.telemetry import get_log

LOG = get_log(__name__)
# A version that failed this often in a row is not tried again by itself: each try disturbs what is serving.
MOST_FAILURES = 3
_BEGUN: dict[str, Action] = {
    "staging": "release.staged",
    "canary": "canary.started",
    "production": "release.promoted",
}


def reconcile(stores: Stores, by: str, wait_s: float = 0.0, outside: Outside | None = None) -> list[ReleaseChange]:
    """Make true what the aliases ask for, as far as the gates allow; the changes, empty when there was nothing to do.

    Raises `LeaseHeld` when somebody else is at it, `ServerUnavailable` when the registry or Triton is away (and then
    nothing has changed). A refusal is told once, when it is new.
    """
    outside = outside or real_outside(stores)
    with truth.lease(stores, wait_s) as held:
        return reconcile_held(held, outside, by)


def reconcile_held(held: Lease, outside: Outside, by: str, why: str = "", only_new: bool = True) -> list[ReleaseChange]:
    changes = restore_held(held, outside)
    for name in SERVED:
        change = _settle(held, outside, name, by, why, only_new)
        if change is not None:
            changes.append(change)
            if change.kind == "rolled_back":
                facts = {"version": change.version, "previous": change.previous, "stage": change.stage}
                tell(held.stores, Event("rollback", f"Version {change.version} is back: {change.reason}", facts))
    changes += settle_experiment(held, outside, by)
    changes += _end_spent_canary(held, outside, by)
    # A registry that went away after all was done leaves files and tags behind, which the next reconcile mends.
    with suppress(TransientError):
        retire(held, outside)
        tag_stages(held.stores, outside, changes)
    _tell_hosts(held)
    return changes


def _tell_hosts(held: Lease) -> None:
    """A release stands though the store of published versions is away: the supervisor tells hosts later."""
    try:
        publish(held)
    except ItsError as error:
        LOG.warning("hosts were not told of what is served", reason=str(error))


def tag_stages(stores: Stores, outside: Outside, changes: Sequence[ReleaseChange]) -> None:
    """Have what is served, was served last, or was changed carry its stage as a tag, for who looks at MLflow's page."""
    numbers = {one for change in changes for one in (change.version, change.previous) if one}
    numbers |= {row.version for row in truth.served_everywhere(stores).values()}
    for number in sorted(numbers | set(truth.former_versions(stores)[:1])):
        with suppress(NotFound):
            version = outside.registry.get(MODEL_NAME, number)
            is_rejected = verdicts.is_rejected(version, verdicts.waivers(stores, number))
            stage = truth.stage_now(stores, number, is_rejected)
            if version.tags.get(STAGE_TAG) != stage:
                outside.registry.set_tag(MODEL_NAME, number, STAGE_TAG, stage)


def route_at(stage: str, version: ModelVersion, percent: float, settings: CanarySettings) -> Route:
    """The route of a version at a stage; a canary's says which share of the live traffic it gets."""
    route = route_of(version)
    return replace(route, percent=percent, pairs_percent=settings.pairs_percent) if stage == "canary" else route


def _end_spent_canary(held: Lease, outside: Outside, by: str) -> list[ReleaseChange]:
    why = why_canary_is_spent(held.stores, outside)
    return [end_canary(held, outside, by, why)] if why is not None else []


def why_canary_is_spent(stores: Stores, outside: Outside) -> str | None:
    """Why what answers as canary is one no more, whoever did that; None where it is one, or an experiment's."""
    canary, production = truth.served(stores, "canary"), truth.served(stores, "production")
    if canary is None or experiment_at(canary) is not None:
        return None
    if production is not None and canary.version == production.version:
        return "it is in production"
    if (mark := _rejection(stores, outside, canary)) is not None:
        return f"it was rejected ({mark})"
    if production is not None and production.id > truth.first_row(stores, canary).id:
        # Its gates and its pairs are about another version than the one that it would replace now.
        return f"version {production.version} came into production, and it was compared with what was there before"
    return None


def end_canary(held: Lease, outside: Outside, by: str, reason: str) -> ReleaseChange:
    """Have the canary answer nobody any more. The alias goes first: what is left of the rest is ended again by it."""
    outside.registry.delete_alias(MODEL_NAME, "canary")
    row = truth.end_release(held, "canary", by, reason)
    outside.server.route(true_routes(held.stores))
    return change_now("canary", "ended", row.version if row is not None else 0, None, reason, row)


@dataclass(frozen=True, slots=True)
class Intention:
    """What a reconcile would do at a stage. With neither `target` nor `refusal` there is nothing to do.

    wished: the number that the alias names. mark: the tag with which the served version was rejected, if it was.
    """

    stage: str
    current: Release | None
    wished: int | None = None
    target: ModelVersion | None = None
    refusal: str | None = None
    mark: str | None = None


def intend(stores: Stores, outside: Outside, stage: str) -> Intention:
    """Compare wish and truth at a stage; only reads. Raises `ServerUnavailable` when a read fails."""
    current = truth.served(stores, stage)
    try:
        wish = outside.registry.by_alias(MODEL_NAME, stage)
    except NotFound as error:
        return Intention(stage, current, wished=0, refusal=error.message)
    if wish is None:
        return Intention(stage, current)
    if stage == "canary" and current is not None and (number := experiment_at(current)) is not None:
        return Intention(stage, current, wish.version, refusal=_is_running(number))
    is_served = current is not None and wish.version == current.version
    mark = _rejection(stores, outside, current) if stage == "production" and current is not None else None
    if stage == "canary" and is_served and current is not None and (rejection := _rejection(stores, outside, current)):
        return Intention(stage, current, wish.version, refusal=f"it was rejected ({rejection})")
    if is_served and mark is None:
        return Intention(stage, current, wish.version)
    target = wish
    refusal = f"it was rejected ({mark})" if is_served else objection_at(stores, wish, stage)
    if refusal is not None and mark is not None:
        # What is served was rejected, and what is asked for may not be served: the last good version takes over.
        back = last_good(stores, outside)
        if back is None:
            refusal = f"{refusal}, and there is no good version to go back to"
        else:
            target, refusal = back, objection_at(stores, back, stage)
    if refusal is None and mark is None and stage != "staging" and (frozen := verdicts.freeze_in_force(stores)):
        refusal = f"releases are frozen {frozen}"
    if refusal is None and verdicts.failures_in_a_row(stores, stage, target.version) >= MOST_FAILURES:
        refusal = f"it failed {MOST_FAILURES} times; `its release promote` or `its release stage` tries it again"
    if refusal is not None:
        return Intention(stage, current, wish.version, refusal=refusal, mark=mark)
    return Intention(stage, current, wish.version, target, mark=mark)


def _settle(held: Lease, outside: Outside, stage: str, by: str, why: str, only_new: bool) -> ReleaseChange | None:
    plan = intend(held.stores, outside, stage)
    if plan.refusal is not None:
        return _refuse(held, outside, plan, plan.refusal, by, only_new)
    if plan.target is None:
        return None
    if plan.target.version != plan.wished:
        outside.registry.set_alias(MODEL_NAME, stage, plan.target.version)
    kind: ChangeKind = "released"
    if plan.mark is not None and plan.target.version in truth.former_versions(held.stores, stage):
        kind = "rolled_back"
    if not why:
        why = f"the alias {stage} names version {plan.target.version}"
        if kind == "rolled_back" and plan.current is not None:
            why = f"version {plan.current.version} was rejected ({plan.mark})"
    return _move(held, outside, plan, plan.target, kind, by, why)


def _move(
    held: Lease, outside: Outside, plan: Intention, version: ModelVersion, kind: ChangeKind, by: str, why: str
) -> ReleaseChange:
    canary = held.stores.settings.canary
    first_step = canary.steps[0] if canary.steps else 0.0
    route = route_at(plan.stage, version, first_step, canary)
    return move(held, outside, plan, version, route, kind, by, why)


def move(
    held: Lease,
    outside: Outside,
    plan: Intention,
    version: ModelVersion,
    route: Route,
    kind: ChangeKind,
    by: str,
    why: str,
    evidence: Mapping[str, Any] = MappingProxyType({}),
) -> ReleaseChange:
    """Have a version answer by a route at the stage of a plan, and write it down; or leave all as it was (`failed`).

    evidence: what the row is to hold besides the route. Raises what is no fault of the version.
    """
    stores, settings, stage = held.stores, held.stores.settings, plan.stage
    routes = true_routes(stores)
    in_use = version.version in {kept.version for kept in routes.values()}
    previous = plan.current.version if plan.current is not None else None
    try:
        held.renew()
        bring_up(outside, version, route, fetch_onnx(settings, outside, version), in_use)
        held.renew()
        lead_traffic(outside, version, stage, route, routes, in_use)
    except PermanentError as error:
        verdicts.record_event(stores, verdicts.FAILED, stage, version.version, str(error), {"by": by})
        return change_now(stage, "failed", version.version, previous, str(error))
    release = truth.record_release(
        held,
        stage=stage,
        version=version.version,
        model=route.model,
        digest=version.onnx_digest,
        endpoint=settings.triton_grpc,
        by=by,
        why=why,
        evidence={
            "route": route_as_json(route),
            "run_id": version.run_id,
            "dataset": version.dataset_version,
            "judgement": verdicts.judgement_evidence(stores, version.version),
            **evidence,
        },
        action="release.rolled_back" if kind == "rolled_back" else _BEGUN[stage],
    )
    if version.tags.get(verdicts.REFUSED_TAG):
        # What it was once refused for no longer holds; the event stays on record.
        with suppress(TransientError):
            outside.registry.set_tag(MODEL_NAME, version.version, verdicts.REFUSED_TAG, "")
    return change_now(stage, kind, version.version, previous, why, release)


def _refuse(
    held: Lease, outside: Outside, plan: Intention, reason: str, by: str, only_new: bool
) -> ReleaseChange | None:
    stage, number = plan.stage, plan.wished or 0
    previous = plan.current.version if plan.current is not None else None
    is_new = verdicts.last_event(held.stores, stage) != (verdicts.REFUSED, number, reason)
    if is_new:
        with suppress(NotFound):
            outside.registry.set_tag(MODEL_NAME, number, verdicts.REFUSED_TAG, f"{stage}: {reason}"[:4000])
        verdicts.record_event(held.stores, verdicts.REFUSED, stage, number, reason, {"by": by})
    return change_now(stage, "refused", number, previous, reason) if is_new or not only_new else None


def _rejection(stores: Stores, outside: Outside, current: Release) -> str | None:
    """The mark with which the version in production was rejected, unless it was waived or the version is gone."""
    try:
        version = outside.registry.get(MODEL_NAME, current.version)
    except NotFound:
        return None
    is_rejected = verdicts.is_rejected(version, verdicts.waivers(stores, version.version))
    return version.tags[verdicts.REJECTED] if is_rejected else None


def objection_at(stores: Stores, version: ModelVersion, stage: str) -> str | None:
    is_rejected = verdicts.is_rejected(version, verdicts.waivers(stores, version.version))
    present = truth.stage_now(stores, version.version, is_rejected)
    if not has_step(present, stage):
        return f"it is in {present}, from where there is no way to {stage}"
    if stage == "staging":
        return f"it was rejected ({version.tags[verdicts.REJECTED]})" if is_rejected else None
    current = truth.served(stores, "production")
    if stage == "canary" and current is None:
        return "nothing is in production that it could be compared with"
    if stage == "canary" and (running := running_experiment(stores)) is not None:
        return _is_running(running.id)
    return verdicts.objection(
        stores,
        version,
        served=current.version if current is not None else None,
        was_served=version.version in truth.former_versions(stores, "production"),
    )


def _is_running(number: int) -> str:
    return f"experiment {number} is running; `its experiment stop` ends it"
