"""Wish and truth: what the aliases ask for, made true on Triton one step at a time.

The registry's aliases `staging` and `production` enter as the wish; `releases` rows and the `ReleaseChange`s that led
to them leave. A version is placed, loaded, checked, routed, seen answering through the front, and only then written
down. Each step can be done twice, so that the next reconcile finishes what a crash left. A failed read and a deleted
alias change nothing. How a version is measured does not belong here.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from its_platform.errors import GateNotPassed, ItsError, NotFound, PermanentError, TransientError
from its_platform.release import truth, verdicts
from its_platform.release.outside import Outside, Routes, real_outside
from its_platform.release.placing import (
    VersionDoesNotServe,
    bring_up,
    fetch_onnx,
    routes_with,
    take_down,
    wait_for_version,
)
from its_platform.release.truth import STAGES, Lease, Release
from its_platform.serving.repository import Route, route_of
from its_platform.stores import Stores
from its_platform.stores.registry import MODEL_NAME, ModelVersion

ChangeKind = Literal["released", "rolled_back", "restored", "refused", "failed", "unchanged"]
# A version that failed this often in a row is not tried again by itself: each try disturbs what is serving.
MOST_FAILURES = 3


@dataclass(frozen=True, slots=True)
class ReleaseChange:
    """One thing that happened, or was kept from happening, at a stage.

    `version` is the one it is about, `previous` the one served before; `release` is the new row, if there is one.
    """

    stage: str
    kind: ChangeKind
    version: int
    previous: int | None
    reason: str
    at: datetime
    release: Release | None = None


def reconcile(stores: Stores, by: str, wait_s: float = 0.0, outside: Outside | None = None) -> list[ReleaseChange]:
    """Make true what the aliases ask for, as far as the gates allow; the changes, empty when there was nothing to do.

    Raises `LeaseHeld` when somebody else is at it, `ServerUnavailable` when the registry or Triton is away (and then
    nothing has changed). A refusal is told once, when it is new.
    """
    outside = outside or real_outside(stores)
    with truth.lease(stores, wait_s) as held:
        return _reconcile(held, outside, by)


def restore(stores: Stores, outside: Outside | None = None, wait_s: float = 0.0) -> list[ReleaseChange]:
    """Have a Triton that started with an empty memory serve what the truth says, and nothing else.

    The registry is asked only for versions whose files are gone.
    """
    outside = outside or real_outside(stores)
    with truth.lease(stores, wait_s) as held:
        return _restore(held, outside)


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
    outside = outside or real_outside(stores)
    with truth.lease(stores, wait_s) as held:
        target = outside.registry.get(MODEL_NAME, version)
        if (reason := _objection(stores, target, stage)) is not None:
            raise GateNotPassed(
                f"Version {version} does not go to {stage}: {reason}.",
                "`its release judge` measures it again; `its release waive` lets a gate go by name.",
            )
        verdicts.record_event(stores, verdicts.ASKED, stage, version, why, {"by": by})
        before = outside.registry.by_alias(MODEL_NAME, stage)
        outside.registry.set_alias(MODEL_NAME, stage, version)
        changes = _reconcile(held, outside, by, why, only_new=False)
        mine = [change for change in changes if change.stage == stage and change.version == version]
        failed = next((change for change in mine if change.kind in {"failed", "refused"}), None)
        if failed is not None:
            _put_alias_back(outside, stage, before)
            raise VersionDoesNotServe(
                f"Version {version} did not reach {stage}: {failed.reason}", "What was served before goes on serving."
            )
        done = next((change for change in mine if change.kind in {"released", "rolled_back"}), None)
        return done or _unchanged(truth.served(stores, stage), stage, version)


def stage(
    stores: Stores, version: int, by: str, why: str, wait_s: float = 0.0, outside: Outside | None = None
) -> ReleaseChange:
    """Serve a version at `staging`, where nobody is routed by default and its last gate, latency, is measured.

    The gates are asked for production; here the version has to load and to answer what its file answers, and must not
    have been rejected. Raises as `promote` does.
    """
    return promote(stores, version, "staging", by, why, wait_s, outside)


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
        changes = _reconcile(held, outside, by, why, only_new=False)
        for change in changes:
            if change.stage == "production" and change.kind == "rolled_back":
                return change
        failed = next((change.reason for change in changes if change.stage == "production"), "nothing changed")
        raise VersionDoesNotServe(f"The rollback did not happen: {failed}", "`its release reconcile` tries again.")


def last_good(stores: Stores, outside: Outside) -> ModelVersion | None:
    """The version that was in production last before the present one, and was not rejected."""
    for number in truth.former_versions(stores, "production"):
        try:
            version = outside.registry.get(MODEL_NAME, number)
        except NotFound:
            continue
        if not verdicts.is_rejected(version, verdicts.waivers(stores, number)):
            return version
    return None


def _reconcile(held: Lease, outside: Outside, by: str, why: str = "", only_new: bool = True) -> list[ReleaseChange]:
    changes = _restore(held, outside)
    for name in STAGES:
        change = _settle(held, outside, name, by, why, only_new)
        if change is not None:
            changes.append(change)
    # A registry that went away after all was done leaves files behind, which the next reconcile removes.
    with suppress(TransientError):
        _retire(held, outside)
    return changes


def _settle(held: Lease, outside: Outside, stage: str, by: str, why: str, only_new: bool) -> ReleaseChange | None:
    stores, registry = held.stores, outside.registry
    current = truth.served(stores, stage)
    try:
        wish = registry.by_alias(MODEL_NAME, stage)
    except NotFound as error:
        return _refuse(held, outside, stage, None, current, error.message, only_new)
    if wish is None:
        return None
    is_wished = current is not None and wish.version == current.version
    mark = _rejection(stores, outside, current) if stage == "production" and current is not None else None
    if is_wished and mark is None:
        return None
    reason = f"it was rejected ({mark})" if is_wished else _objection(stores, wish, stage)
    if reason is not None and mark is not None:
        back = last_good(stores, outside)
        if back is None:
            return _refuse(held, outside, stage, wish, current, f"{reason}, and none is left to go back to", only_new)
        registry.set_alias(MODEL_NAME, stage, back.version)
        wish, reason = back, _objection(stores, back, stage)
    if reason is None and verdicts.failures_in_a_row(stores, stage, wish.version) >= MOST_FAILURES:
        reason = f"it failed {MOST_FAILURES} times; `its release promote` or `its release stage` tries it again"
    if reason is not None:
        return _refuse(held, outside, stage, wish, current, reason, only_new)
    if not why:
        named = f"the alias {stage} names version {wish.version}"
        why = f"version {current.version} was rejected ({mark})" if mark and current is not None else named
    return _move(held, outside, stage, wish, current, "rolled_back" if mark else "released", by, why)


def _move(
    held: Lease,
    outside: Outside,
    stage: str,
    version: ModelVersion,
    current: Release | None,
    kind: ChangeKind,
    by: str,
    why: str,
) -> ReleaseChange:
    stores, settings = held.stores, held.stores.settings
    route, routes = route_of(version), _true_routes(stores)
    in_use = version.version in {kept.version for kept in routes.values()}
    previous = current.version if current is not None else None
    try:
        held.renew()
        bring_up(settings, outside, version, route, in_use)
        held.renew()
        picture = outside.picture(version)
        try:
            outside.server.route(routes_with(routes, stage, route))
            wait_for_version(outside, picture, stage, version.version)
        except ItsError:
            outside.server.route(routes)
            if not in_use:
                take_down(outside, route.model, version.version)
            raise
    except PermanentError as error:
        verdicts.record_event(stores, verdicts.FAILED, stage, version.version, str(error), {"by": by})
        return _change(stage, "failed", version.version, previous, str(error))
    release = truth.record_release(
        held,
        stage=stage,
        version=version.version,
        model=route.model,
        digest=version.onnx_digest,
        endpoint=settings.triton_grpc,
        by=by,
        why=why,
        evidence={"route": _route_as_json(route), "run_id": version.run_id, "dataset": version.dataset_version},
    )
    if version.tags.get(verdicts.REFUSED_TAG):
        # What it was once refused for no longer holds; the event stays on record.
        with suppress(TransientError):
            outside.registry.set_tag(MODEL_NAME, version.version, verdicts.REFUSED_TAG, "")
    return _change(stage, kind, version.version, previous, why, release)


def _restore(held: Lease, outside: Outside) -> list[ReleaseChange]:
    stores, server = held.stores, outside.server
    rows = {name: row for name in STAGES if (row := truth.served(stores, name)) is not None}
    routes = _true_routes(stores)
    changes: list[ReleaseChange] = []
    ready = server.ready() if rows else {}
    for name, row in rows.items():
        if row.version in ready.get(row.model, set()):
            continue
        held.renew()
        _bring_back(stores, outside, row, keep={kept.version for kept in rows.values()})
        ready = server.ready()
        changes.append(_change(name, "restored", row.version, row.version, "Triton did not hold it any more", row))
    if server.routed() != routes:
        server.route(routes)
    return changes


def _bring_back(stores: Stores, outside: Outside, row: Release, keep: set[int]) -> None:
    """Load what the truth names, whatever else lies in the model's folder, and from the registry if its file is bad."""
    server, registry = outside.server, outside.registry

    def place() -> None:
        version = registry.get(MODEL_NAME, row.version)
        server.place(version, fetch_onnx(stores.settings, outside, version))

    if row.version not in server.placed().get(row.model, set()):
        place()
    try:
        server.load(row.model)
    except PermanentError:
        # One bad version keeps Triton from loading the whole model. First suspected: one that a crash left unchecked.
        for version in server.placed().get(row.model, set()) - keep:
            server.remove(row.model, version)
        try:
            server.load(row.model)
        except PermanentError:
            server.route({name: route for name, route in (server.routed() or {}).items() if route.version not in keep})
            for version in sorted(server.placed().get(row.model, set())):
                server.remove(row.model, version)
            place()
            server.load(row.model)


def _retire(held: Lease, outside: Outside) -> None:
    """Keep the served, the staged and the last good version in the repository, and nothing else."""
    placed = outside.server.placed()
    serving = {row.version for name in STAGES if (row := truth.served(held.stores, name)) is not None}
    if not any(versions - serving for versions in placed.values()):
        return
    good = last_good(held.stores, outside)
    keep = serving | ({good.version} if good is not None else set())
    for model, versions in placed.items():
        for version in sorted(versions - keep):
            take_down(outside, model, version)


def _refuse(
    held: Lease,
    outside: Outside,
    stage: str,
    wish: ModelVersion | None,
    current: Release | None,
    reason: str,
    only_new: bool,
) -> ReleaseChange | None:
    number = wish.version if wish is not None else 0
    previous = current.version if current is not None else None
    is_new = verdicts.last_event(held.stores, stage) != (verdicts.REFUSED, number, reason)
    if is_new:
        if wish is not None:
            outside.registry.set_tag(MODEL_NAME, number, verdicts.REFUSED_TAG, f"{stage}: {reason}"[:4000])
        verdicts.record_event(held.stores, verdicts.REFUSED, stage, number, reason)
    return _change(stage, "refused", number, previous, reason) if is_new or not only_new else None


def _rejection(stores: Stores, outside: Outside, current: Release) -> str | None:
    """The mark with which the version in production was rejected, unless it was waived or the version is gone."""
    try:
        version = outside.registry.get(MODEL_NAME, current.version)
    except NotFound:
        return None
    is_rejected = verdicts.is_rejected(version, verdicts.waivers(stores, version.version))
    return version.tags[verdicts.REJECTED] if is_rejected else None


def _objection(stores: Stores, version: ModelVersion, stage: str) -> str | None:
    if stage != "production":
        is_rejected = verdicts.is_rejected(version, verdicts.waivers(stores, version.version))
        return f"it was rejected ({version.tags[verdicts.REJECTED]})" if is_rejected else None
    current = truth.served(stores, "production")
    return verdicts.objection(
        stores,
        version,
        served=current.version if current is not None else None,
        was_served=version.version in truth.former_versions(stores, "production"),
    )


def _put_alias_back(outside: Outside, stage: str, before: ModelVersion | None) -> None:
    if before is None:
        outside.registry.delete_alias(MODEL_NAME, stage)
    else:
        outside.registry.set_alias(MODEL_NAME, stage, before.version)


def _true_routes(stores: Stores) -> Routes:
    """The routes as the truth has them; each row carries its own, so that restoring needs no registry."""
    rows = [(name, truth.served(stores, name)) for name in STAGES]
    return {name: _route_from_json(row.evidence["route"]) for name, row in rows if row is not None}


def _route_as_json(route: Route) -> dict[str, Any]:
    return {
        "model": route.model,
        "version": route.version,
        "image_size": route.image_size,
        "classes": list(route.classes),
        "thresholds": dict(route.thresholds),
    }


def _route_from_json(content: dict[str, Any]) -> Route:
    return Route(**{**content, "classes": tuple(content["classes"])})


def _unchanged(row: Release | None, stage: str, version: int) -> ReleaseChange:
    return _change(stage, "unchanged", version, row.version if row is not None else None, "it is served already", row)


def _change(
    stage: str, kind: ChangeKind, version: int, previous: int | None, reason: str, release: Release | None = None
) -> ReleaseChange:
    return ReleaseChange(stage, kind, version, previous, reason, datetime.now(UTC), release)
