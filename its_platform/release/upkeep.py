"""Triton as the truth says: what it forgot is loaded again, what no stage needs is removed.

The open rows of `releases` enter; loaded versions, the routes of exactly those rows, and a repository with the
versions of all stages and the last good one leave. Nothing new is served here (`reconciling.py`).
"""

from __future__ import annotations

from typing import Any

from its_platform.contract import read_size
from its_platform.errors import NotFound, PermanentError
from its_platform.release import truth, verdicts
from its_platform.release.outside import Outside, Routes, real_outside
from its_platform.release.placing import fetch_onnx, take_down
from its_platform.release.truth import Lease, Release, ReleaseChange, change_now, served_everywhere
from its_platform.serving.repository import Route
from its_platform.stores import Stores
from its_platform.stores.registry import MODEL_NAME, ModelVersion


def restore(stores: Stores, outside: Outside | None = None, wait_s: float = 0.0) -> list[ReleaseChange]:
    """Have a Triton that started with an empty memory serve what the truth says, and nothing else.

    The registry is asked only for versions whose files are gone.
    """
    outside = outside or real_outside(stores)
    with truth.lease(stores, wait_s) as held:
        return restore_held(held, outside)


def restore_held(held: Lease, outside: Outside) -> list[ReleaseChange]:
    """`restore` under a lease that is held already."""
    stores, server = held.stores, outside.server
    rows = served_everywhere(stores)
    routes = true_routes(stores)
    changes: list[ReleaseChange] = []
    _mend(stores, outside, list(rows.values()))
    ready = server.ready() if rows else {}
    for name, row in rows.items():
        if row.version in ready.get(row.model, set()):
            continue
        held.renew()
        _bring_back(stores, outside, row.model, [kept for kept in rows.values() if kept.model == row.model])
        ready = server.ready()
        changes.append(change_now(name, "restored", row.version, row.version, "Triton did not hold it any more", row))
    if server.routed() != routes:
        server.route(routes)
    return changes


def mend(stores: Stores, outside: Outside | None = None) -> None:
    """Have the model repository whole, before a Triton that starts reads it; Triton itself is not asked.

    Raises `LeaseHeld` when somebody is changing what is served, and what a failed read of the registry raises.
    """
    outside = outside or real_outside(stores)
    if outside.server.broken():
        with truth.lease(stores):
            _mend(stores, outside, list(served_everywhere(stores).values()))


def _mend(stores: Stores, outside: Outside, rows: list[Release]) -> None:
    """Replace files of served versions that are not whole, and remove other such versions, before Triton needs them.

    What is loaded is not touched. Where the registry is away a broken file stays until it can be replaced.
    """
    server = outside.server
    for model, versions in server.broken().items():
        for number in sorted(versions):
            wanted = any((row.model, row.version) == (model, number) for row in rows)
            if not wanted:
                server.remove(model, number)
                continue
            version = outside.registry.get(MODEL_NAME, number)
            onnx = fetch_onnx(stores.settings, outside, version)
            server.remove(model, number)
            server.place(version, onnx)


def _bring_back(stores: Stores, outside: Outside, model: str, rows: list[Release]) -> None:
    """Load what the truth names of a model, whatever else lies there, and from the registry if a file is bad."""
    server = outside.server
    _place_missing(stores, outside, rows)
    try:
        server.load(model)
    except PermanentError:
        # One bad version keeps Triton from loading the model. First suspected: one that a crash left unchecked.
        keep = {row.version for row in rows}
        for version in server.placed().get(model, set()) - keep:
            server.remove(model, version)
        try:
            server.load(model)
        except PermanentError:
            server.route({name: route for name, route in (server.routed() or {}).items() if route.model != model})
            for version in keep:
                server.remove(model, version)
            _place_missing(stores, outside, rows)
            server.load(model)


def _place_missing(stores: Stores, outside: Outside, rows: list[Release]) -> None:
    for row in rows:
        if row.version not in outside.server.placed().get(row.model, set()):
            version = outside.registry.get(MODEL_NAME, row.version)
            outside.server.place(version, fetch_onnx(stores.settings, outside, version))


def retire(held: Lease, outside: Outside) -> None:
    """Keep the versions of all stages and the last good one in the repository, and nothing else."""
    placed = outside.server.placed()
    serving = {row.version for row in served_everywhere(held.stores).values()}
    if not any(versions - serving for versions in placed.values()):
        return
    good = last_good(held.stores, outside)
    keep = serving | ({good.version} if good is not None else set())
    for model, versions in placed.items():
        for version in sorted(versions - keep):
            take_down(outside.server, model, version)


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


def true_routes(stores: Stores) -> Routes:
    """The routes as the truth has them; each row carries its own, so that restoring needs no registry."""
    return {name: route_from_json(row.evidence["route"]) for name, row in served_everywhere(stores).items()}


def route_as_json(route: Route) -> dict[str, Any]:
    return {
        "model": route.model,
        "version": route.version,
        "image_size": route.image_size,
        "classes": list(route.classes),
        "thresholds": dict(route.thresholds),
        "percent": route.percent,
        "pairs_percent": route.pairs_percent,
    }


def route_from_json(content: dict[str, Any]) -> Route:
    return Route(**{**content, "classes": tuple(content["classes"]), "image_size": read_size(content["image_size"])})
