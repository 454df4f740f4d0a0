"""An experiment's way into live traffic and out of it, under the release lease.

Two versions, a hypothesis and a plan enter; a challenger that answers its share of the blocks beside production leaves,
or nothing has changed. Both versions have to have passed their gates. No alias is ever set or deleted here.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from its_platform.errors import BadInput, GateNotPassed, LeaseHeld, NotFound
from its_platform.notifications import Event, tell
from its_platform.release import truth, verdicts
from its_platform.release.experiment import (
    EVIDENCE,
    Decision,
    Experiment,
    end_experiment,
    experiment_at,
    read_experiment,
    record_experiment,
    running_experiment,
)
from its_platform.release.outside import Outside, real_outside
from its_platform.release.placing import VersionDoesNotServe
from its_platform.release.reconciling import Intention, move, reconcile_held
from its_platform.release.stages import check_step
from its_platform.release.truth import Lease
from its_platform.serving.repository import route_of
from its_platform.stores import Stores
from its_platform.stores.registry import MODEL_NAME, ModelVersion

FREEZE_WAIT_S = 10.0


def begin_experiment(
    held: Lease,
    outside: Outside,
    control: int,
    challenger: int,
    hypothesis: str,
    plan: Mapping[str, Any],
    by: str,
    percent: float,
    pairs_percent: float,
) -> Experiment:
    """Have a challenger answer a share of the live blocks, and record the experiment.

    percent: of the blocks, those that the challenger answers; pairs_percent: those of which both are asked. Raises
    what `check_experiment` does, and `VersionDoesNotServe` where the challenger fails on Triton; then all is as it was.
    """
    version = check_experiment(held.stores, outside, control, challenger)
    started = record_experiment(held, control, challenger, hypothesis, plan, by)
    route = replace(route_of(version), percent=percent, pairs_percent=pairs_percent)
    why = f"experiment {started.id}: {hypothesis}"
    change = move(held, outside, Intention("canary", None), version, route, "released", by, why, {EVIDENCE: started.id})
    if change.release is None:
        end_experiment(held, outside, started, "cut_short", change.reason, by)
        raise VersionDoesNotServe(
            f"Version {challenger} does not serve: {change.reason}", "What was served goes on being served."
        )
    return started


def check_experiment(stores: Stores, outside: Outside, control: int, challenger: int) -> ModelVersion:
    """The challenger's version, where an experiment may begin now.

    Raises `BadInput` where something else is under way or the control is not in production, `GateNotPassed` where one
    of the versions has not passed its gates.
    """
    production, canary = truth.served(stores, "production"), truth.served(stores, "canary")
    if (running := running_experiment(stores)) is not None:
        raise BadInput(f"Experiment {running.id} is running.", "`its experiment stop` ends it.")
    if canary is not None and experiment_at(canary) is None:
        raise BadInput(f"Version {canary.version} is a canary.", "`its release stop` ends it, or wait for its verdict.")
    if (frozen := verdicts.freeze_in_force(stores)) is not None:
        raise BadInput(f"Releases are frozen {frozen}.", "`its release thaw` ends that.")
    if production is None or production.version != control:
        there = f"version {production.version} is" if production is not None else "nothing is"
        raise BadInput(
            f"Version {control} is not in production, {there}.",
            "Live traffic is shared between what is in production and a challenger: `start production N`.",
        )
    if challenger == control:
        raise BadInput(f"Version {control} cannot be compared with itself.", "Name another version.")
    for number in (control, challenger):
        version = outside.registry.get(MODEL_NAME, number)
        reason = verdicts.objection(stores, version, served=control, was_served=number == control)
        if reason is not None:
            raise GateNotPassed(
                f"Version {number} takes no part in an experiment: {reason}.",
                "`its release judge` measures it again; `its release waive` lets a gate go by name.",
            )
    check_step(challenger, truth.stage_now(stores, challenger), "canary")
    return version


def conclude_experiment(
    held: Lease, outside: Outside, running: Experiment, decision: Decision, why: str, by: str
) -> Experiment:
    """End an experiment with its decision; production answers all of the live traffic again. Raises `LeaseHeld`."""
    end_experiment(held, outside, running, decision, why, by)
    reconcile_held(held, outside, by, why)
    if decision == "unsafe":
        facts = {"version": running.challenger, "against": running.control, "experiment": running.id}
        tell(held.stores, Event("rollback", f"Experiment {running.id} has ended: {why}", facts))
    return read_experiment(held.stores, running.id)


def running_or_not_found(stores: Stores) -> Experiment:
    """The experiment that goes on now. Raises `NotFound`."""
    running = running_experiment(stores)
    if running is None:
        raise NotFound("No experiment is running.", "`its experiment status` lists those that were.")
    return running


def stop_for_freeze(stores: Stores, by: str, why: str, outside: Outside | None = None) -> None:
    """End an experiment, if one runs, since releases are frozen; where another is at work the next reconcile does."""
    if running_experiment(stores) is None:
        return
    outside = outside or real_outside(stores)
    with suppress(LeaseHeld), truth.lease(stores, FREEZE_WAIT_S) as held:
        if (running := running_experiment(stores)) is not None:
            conclude_experiment(held, outside, running, "cut_short", f"releases are frozen by {by}: {why}", by)
