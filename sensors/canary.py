"""Watches the canary: while one answers live traffic, what it and production saw is judged again and again."""

import dagster as dg

from assets.jobs import canary, learn, reconcile
from its_platform.resources import StoresResource
from sensors.runs import ONE_AT_A_TIME, is_active


def canary_sensor(interval_s: int, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """The sensor, looking every `interval_s` seconds."""

    @dg.sensor(
        name="canary_sensor",
        job=canary,
        minimum_interval_seconds=interval_s,
        default_status=status,
        description="Starts a look at the canary when new pairs of answers have come in, or its share is to be proved.",
    )
    def watch_canary(context: dg.SensorEvaluationContext, stores: StoresResource) -> dg.SensorResult:
        with ONE_AT_A_TIME:
            from its_platform.release import canary_state
            from its_platform.serving.pairs import waiting_pairs

            if any(is_active(context.instance, job.name) for job in (canary, reconcile, learn)):
                return dg.SensorResult(skip_reason="A release or a look at the canary is under way.")
            opened = stores.open()
            state = canary_state(opened)
            if state is None:
                return dg.SensorResult(skip_reason="There is no canary.", cursor="")
            waiting = waiting_pairs(opened.settings)
            key = f"{state.version} at {state.percent:g} % against {state.against}, held {state.held}"
            if not waiting and key == context.cursor:
                return dg.SensorResult(skip_reason=f"Version {key}: no new pairs of answers.")
            request = dg.RunRequest(tags={"its/trigger": "canary", "its/canary": f"{key}: {waiting} new pairs"})
            return dg.SensorResult(run_requests=[request], cursor=key)

    return watch_canary
