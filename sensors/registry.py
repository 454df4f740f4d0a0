"""Watches the registry: where an alias asks for another version than the one that is served, `reconcile` starts."""

import time

import dagster as dg

from assets.jobs import learn, reconcile, release
from its_platform.resources import StoresResource
from sensors.runs import ONE_AT_A_TIME, is_active

# A run tries a few times by itself. What it could not do then, with Triton or the registry away, is tried again as long
# as it is wanted; a version that is at fault is refused after a few failures and then wanted no more.
AGAIN_S = 60.0


def registry_sensor(interval_s: int, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """The sensor, looking every `interval_s` seconds."""

    @dg.sensor(
        name="registry_sensor",
        job=reconcile,
        minimum_interval_seconds=interval_s,
        default_status=status,
        description="Starts the reconciler until what MLflow's aliases ask for is served, or was refused.",
    )
    def watch_registry(context: dg.SensorEvaluationContext, stores: StoresResource) -> dg.SensorResult:
        with ONE_AT_A_TIME:
            from its_platform.release import pending

            if any(is_active(context.instance, job.name) for job in (reconcile, learn, release)):
                return dg.SensorResult(skip_reason="A release is under way.")
            wanted = "; ".join(pending(stores.open()))
            if not wanted:
                return dg.SensorResult(skip_reason="What the aliases ask for is served, or was refused.", cursor="")
            tried, _, at = (context.cursor or "").rpartition(" tried at ")
            now = time.time()
            # A clock that was set back must not keep it waiting.
            if tried == wanted and 0 <= now - float(at) < AGAIN_S:
                return dg.SensorResult(skip_reason=f"Tried {now - float(at):.0f} s ago, and not done: {wanted}.")
            request = dg.RunRequest(tags={"its/trigger": "registry", "its/changes": wanted[:250]})
            return dg.SensorResult(run_requests=[request], cursor=f"{wanted} tried at {now:.0f}")

    return watch_registry
