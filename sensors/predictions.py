"""Watches the front's log: enough new predictions start the job `watch`."""

import time
from contextlib import suppress
from pathlib import Path

import dagster as dg

from assets.jobs import watch
from its_platform.resources import StoresResource
from sensors.runs import ONE_AT_A_TIME, is_active


def is_worth_collecting(waiting: int, needed: int, oldest_s: float, patience_s: float) -> bool:
    """Enough rows wait, or the few that wait have done so for long: nothing lies in the spool for ever."""
    return waiting >= needed or (waiting > 0 and oldest_s >= patience_s)


def oldest_file_s(spool: Path) -> float:
    """Age in seconds of the oldest finished file of the spool; 0 where there is none.

    A file of the future was written before the clock was set back, and is as old as it is ahead.
    """
    ages = [0.0]
    for file in spool.glob("*.jsonl"):
        # One that is collected meanwhile waits no more.
        with suppress(FileNotFoundError):
            ages.append(abs(time.time() - file.stat().st_mtime))
    return max(ages)


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
        with ONE_AT_A_TIME:
            from its_platform.monitoring.predictions import waiting_rows

            if is_active(context.instance, watch.name):
                return dg.SensorResult(skip_reason="Predictions are being collected.")
            settings = stores.open().settings
            waiting, needed = waiting_rows(settings), settings.drift.minimum_rows
            if not is_worth_collecting(
                waiting, needed, oldest_file_s(settings.spool), 4.0 * settings.sensors.interval_s
            ):
                return dg.SensorResult(skip_reason=f"{waiting} predictions wait; {needed} are needed.")
            return dg.SensorResult(
                run_requests=[dg.RunRequest(tags={"its/trigger": "predictions", "its/waiting-rows": str(waiting)})]
            )

    return watch_predictions
