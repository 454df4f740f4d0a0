"""Watches the canary, or the experiment: while one answers live traffic it is judged again and again."""

import time

import dagster as dg

from assets.jobs import canary, experiment, learn, reconcile, release
from its_platform.resources import StoresResource
from sensors.runs import ONE_AT_A_TIME, is_active

# Its blocks are minutes: who looks more often sees little that is new.
EXPERIMENT_EVERY_S = 60.0


def canary_sensor(interval_s: int, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """The sensor, looking every `interval_s` seconds."""

    @dg.sensor(
        name="canary_sensor",
        jobs=[canary, experiment],
        minimum_interval_seconds=interval_s,
        default_status=status,
        description="Starts a look at the canary when new pairs of answers have come in, or its share is to be proved, "
        "and a look at the experiment every minute.",
    )
    def watch_canary(context: dg.SensorEvaluationContext, stores: StoresResource) -> dg.SensorResult:
        with ONE_AT_A_TIME:
            from its_platform.release import canary_state, is_past_patience, running_experiment, unfinished_experiment
            from its_platform.serving.pairs import waiting_pairs

            if any(is_active(context.instance, job.name) for job in (canary, experiment, reconcile, learn, release)):
                return dg.SensorResult(skip_reason="A release or a look at the canary is under way.")
            opened = stores.open()
            state = canary_state(opened)
            if state is None:
                compared = running_experiment(opened) or unfinished_experiment(opened)
                if compared is None:
                    return dg.SensorResult(skip_reason="There is no canary and no experiment.", cursor="")
                return _looked_at(compared.id, context.cursor, time.time())
            waiting = waiting_pairs(opened.settings)
            key = f"{state.version} at {state.percent:g} % against {state.against}, held {state.held}"
            # Without any pair nobody would look, and be told, that it waits in vain.
            key += ", for long" if is_past_patience(state, opened.settings.canary) else ""
            if not waiting and key == context.cursor:
                return dg.SensorResult(skip_reason=f"Version {key}: no new pairs of answers.")
            tags = {"its/trigger": "canary", "its/canary": f"{key}: {waiting} new pairs"}
            return dg.SensorResult(run_requests=[dg.RunRequest(job_name=canary.name, tags=tags)], cursor=key)

    return watch_canary


def _looked_at(number: int, cursor: str | None, now: float) -> dg.SensorResult:
    """A look at an experiment, unless the last one was short ago. now: seconds of the clock."""
    about, _, at = (cursor or "").partition(" looked at ")
    # A clock that was set back must not keep it waiting.
    if about == f"experiment {number}" and 0 <= now - float(at) < EXPERIMENT_EVERY_S:
        return dg.SensorResult(skip_reason=f"Experiment {number} was looked at {now - float(at):.0f} s ago.")
    tags = {"its/trigger": "experiment", "its/experiment": str(number)}
    request = dg.RunRequest(job_name=experiment.name, tags=tags)
    return dg.SensorResult(run_requests=[request], cursor=f"experiment {number} looked at {int(now)}")
