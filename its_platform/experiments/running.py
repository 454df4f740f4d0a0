"""An experiment from its plan to its result: begun, looked at again and again, ended.

Enters: what somebody wants to know of two versions. Leaves: a row of `experiments` with its looks and its result. The
share of the traffic and the alias-free place of the challenger belong to `release/experimenting.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from its_platform.errors import BadInput
from its_platform.experiments.blocks import observe, pilot
from its_platform.experiments.judging import Finding, judge_experiment
from its_platform.experiments.planning import MEASURES, USUAL_DAYS, Plan, measure_named, plan_experiment
from its_platform.release import served, truth
from its_platform.release.experiment import (
    Experiment,
    note_look,
    note_result,
    read_experiment,
    running_experiment,
    settle_experiment,
    unfinished_experiment,
)
from its_platform.release.experimenting import (
    begin_experiment,
    check_experiment,
    conclude_experiment,
    running_or_not_found,
)
from its_platform.release.outside import Outside, real_outside
from its_platform.release.stages import SERVED
from its_platform.release.truth import Lease
from its_platform.stores import Stores

PILOT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be found out. effect, deviation: in the measure's unit; deviation None: as the log has it.

    days: how long it may last.
    """

    control: int
    challenger: int
    hypothesis: str
    measure: str = "boxes"
    effect: float = 0.0
    deviation: float | None = None
    percent: float = 50.0
    alpha: float = 0.05
    power: float = 0.8
    days: float = USUAL_DAYS


@dataclass(frozen=True)
class ExperimentLook:
    """An experiment after a look at it, and what the look found."""

    experiment: Experiment
    finding: Finding


def version_at(stores: Stores, named: str) -> int:
    """The number of a version that is named by its number or by the stage at which it is served."""
    if named.isdecimal():
        return int(named)
    row = served(stores, named) if named in SERVED else None
    if row is None:
        raise BadInput(f"Nothing is served at {named}.", f"Name a version's number, or one of {', '.join(SERVED)}.")
    return row.version


def plan_for(stores: Stores, asked: Question) -> Plan:
    """The plan for a question, by how the blocks of the control scattered lately. Raises `BadInput`."""
    measure = measure_named(asked.measure)
    baseline, found = pilot(stores, asked.control, measure.name, datetime.now(UTC) - PILOT)
    deviation = asked.deviation if asked.deviation is not None else found
    if deviation is None:
        raise BadInput(
            f"The log does not say how much {measure.said} of version {asked.control} scatter.",
            "Give --deviation: the standard deviation of a block of one camera and one minute.",
        )
    return plan_experiment(
        measure.name, asked.effect, deviation, baseline, asked.percent, asked.alpha, asked.power, asked.days
    )


def start_experiment(
    stores: Stores, asked: Question, by: str, wait_s: float = 0.0, outside: Outside | None = None
) -> Experiment:
    """Begin an experiment. Raises as `plan_for` and `begin_experiment` do; then nothing has changed."""
    if not asked.hypothesis.strip():
        raise BadInput("An experiment needs a hypothesis.", "Give --hypothesis, what you expect and why.")
    outside = outside or real_outside(stores)
    with truth.lease(stores, wait_s) as held:
        # First what costs nothing: the log is read only for an experiment that may begin.
        check_experiment(stores, outside, asked.control, asked.challenger)
        plan = plan_for(stores, asked)
        # Each picture of a paired measure is asked of both, and its blocks are what the experiment counts.
        pairs_percent = 100.0 if MEASURES[plan.measure].is_paired else 0.0
        return begin_experiment(
            held,
            outside,
            asked.control,
            asked.challenger,
            asked.hypothesis,
            plan.as_dict(),
            by,
            plan.percent,
            pairs_percent,
        )


def look_at_experiment(
    stores: Stores, by: str, wait_s: float = 0.0, outside: Outside | None = None
) -> ExperimentLook | None:
    """Judge the experiment by all that came in and end it where that is due; None where there is none.

    One that was ended by something else, a rollback or a freeze, gets its result by the next look. Raises
    `LogUnreadable` where the logs cannot be read: then nothing is concluded.
    """
    outside = outside or real_outside(stores)
    with truth.lease(stores, wait_s) as held:
        settle_experiment(held, outside, by)
        looked_at = running_experiment(stores) or unfinished_experiment(stores)
        if looked_at is None:
            return None
        finding = _find(stores, looked_at)
        if looked_at.until is not None:
            note_result(held, looked_at.id, finding.as_dict())
        else:
            note_look(held, looked_at.id, _as_look(finding))
            if finding.decision is not None:
                _end(held, outside, looked_at, finding, by)
        return ExperimentLook(read_experiment(stores, looked_at.id), finding)


def stop_experiment(
    stores: Stores, by: str, why: str, wait_s: float = 0.0, outside: Outside | None = None
) -> ExperimentLook:
    """End the experiment now, with what it has found so far. Raises `NotFound` where none is running."""
    if not why.strip():
        raise BadInput("To stop an experiment takes a reason.", "Give --why.")
    outside = outside or real_outside(stores)
    with truth.lease(stores, wait_s) as held:
        running = running_or_not_found(stores)
        conclude_experiment(held, outside, running, "stopped", why, by)
        # First the traffic: a log that cannot be read keeps nobody from stopping.
        finding = _find(stores, read_experiment(stores, running.id))
        note_result(held, running.id, finding.as_dict())
        return ExperimentLook(read_experiment(stores, running.id), finding)


def _find(stores: Stores, looked_at: Experiment) -> Finding:
    settings = stores.settings
    plan = Plan(**looked_at.plan)
    observed = observe(stores, looked_at, plan)
    is_over = datetime.now(UTC) - looked_at.since >= timedelta(days=plan.days)
    return judge_experiment(observed, plan, settings.canary, settings.gates.latency_ratio, is_over)


def _end(held: Lease, outside: Outside, running: Experiment, finding: Finding, by: str) -> None:
    assert finding.decision is not None
    note_result(held, running.id, finding.as_dict())
    conclude_experiment(held, outside, running, finding.decision, "; ".join(finding.reasons), by)


def _as_look(finding: Finding) -> dict[str, Any]:
    overall = finding.overall
    ends = {"blocks": overall.blocks, "effect": overall.effect, "low": overall.low, "high": overall.high}
    return {"at": datetime.now(UTC).isoformat(timespec="seconds"), **ends, "finding": finding.as_dict()}
