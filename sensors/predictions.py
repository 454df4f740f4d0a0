"""Watches the front's log: enough new predictions start the job `watch`."""

import dagster as dg

from assets.jobs import watch
from its_platform.resources import StoresResource
from sensors.runs import is_active


def predictions_sensor(interval_s: int, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """The sensor, looking every `interval_s` seconds."""

    @dg.sensor(
        name="predictions_sensor",
        job=watch,
        minimum_interval_seconds=interval_s,
        default_status=status,
        description="Starts the collection of predictions and the drift report when enough have been logged.",
    )
    def watch_predictions(context: dg.SensorEvaluationContext, stores: StoresResource) -> dg.SensorResult:
        from its_platform.monitoring.predictions import waiting_rows

        if is_active(context.instance, watch.name):
            return dg.SensorResult(skip_reason="Predictions are being collected.")
        settings = stores.open().settings
        waiting, needed = waiting_rows(settings), settings.drift.minimum_rows
        if waiting < needed:
            return dg.SensorResult(skip_reason=f"{waiting} predictions wait; {needed} are needed.")
        return dg.SensorResult(
            run_requests=[dg.RunRequest(tags={"its/trigger": "predictions", "its/waiting-rows": str(waiting)})]
        )

    return watch_predictions
