"""Watches the registry: where an alias asks for another version than the one that is served, `reconcile` starts."""

import hashlib

import dagster as dg

from assets.jobs import learn, reconcile, release
from its_platform.resources import StoresResource
from sensors.runs import ONE_AT_A_TIME, is_active


def registry_sensor(interval_s: int, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """The sensor, looking every `interval_s` seconds."""

    @dg.sensor(
        name="registry_sensor",
        job=reconcile,
        minimum_interval_seconds=interval_s,
        default_status=status,
        description="Starts the reconciler when MLflow's aliases and what is served differ.",
    )
    def watch_registry(context: dg.SensorEvaluationContext, stores: StoresResource) -> dg.SensorResult:
        with ONE_AT_A_TIME:
            from its_platform.release import freeze_in_force
            from its_platform.release import status as stages_now

            if any(is_active(context.instance, job.name) for job in (reconcile, learn, release)):
                return dg.SensorResult(skip_reason="A release is under way.")
            opened = stores.open()
            changes = [
                f"{stage.stage}: version {stage.wished} is asked for, {stage.served or 'none'} is served"
                for stage in stages_now(opened)
                if stage.in_the_way is not None
            ]
            if not changes:
                return dg.SensorResult(skip_reason="What is served is what the aliases ask for.", cursor="")
            # What was refused while releases were frozen is tried again after the thaw.
            state = [*changes, freeze_in_force(opened) or ""]
            key = hashlib.sha256("\n".join(state).encode()).hexdigest()[:16]
            if key == context.cursor:
                return dg.SensorResult(skip_reason=f"Tried already, and not served: {'; '.join(changes)}.")
            request = dg.RunRequest(tags={"its/trigger": "registry", "its/changes": "; ".join(changes)[:250]})
            return dg.SensorResult(run_requests=[request], cursor=key)

    return watch_registry
