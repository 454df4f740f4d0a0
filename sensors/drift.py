"""Watches the drift reports: a decision to train starts the job `learn`."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.jobs import learn
from its_platform.resources import StoresResource
from sensors.runs import ONE_AT_A_TIME, is_active

if TYPE_CHECKING:
    from its_platform.retraining import Decision


def learn_config(decision: "Decision", previous: str | None, served_version: int | None) -> dict[str, Any]:
    """The run configuration of `learn` that carries a decision out.

    A first model learns from everything reviewed; a retraining extends the served model's dataset by the drifted
    window and trains on from the served model.
    """
    window: dict[str, str] = {}
    if decision.window:
        window = {"window_since": decision.window[0].isoformat(), "window_until": decision.window[1].isoformat()}
    content: dict[str, Any] = dict(window)
    if previous:
        content["previous"] = previous
    training = {"base_version": served_version} if served_version is not None else {}
    return {
        "ops": {
            "reviewed_labels": {"config": window},
            "dataset_version": {"config": content},
            "candidate_model": {"config": training},
        }
    }


def drift_sensor(interval_s: int, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """The sensor, looking every `interval_s` seconds."""

    @dg.sensor(
        name="drift_sensor",
        job=learn,
        minimum_interval_seconds=interval_s,
        default_status=status,
        description="Starts the training that a drift report, or the lack of any model, calls for.",
    )
    def watch_drift(context: dg.SensorEvaluationContext, stores: StoresResource) -> dg.SensorResult:
        with ONE_AT_A_TIME:
            from its_platform.release import served
            from its_platform.retraining import decide, read_history, record_decision
            from its_platform.stores.registry import Registry

            if is_active(context.instance, learn.name):
                return dg.SensorResult(skip_reason="A training is under way.")
            opened = stores.open()
            decision = decide(read_history(opened), opened.settings.retraining, datetime.now(UTC))
            record_decision(opened, decision)
            said = f"{decision.action}: {'; '.join(decision.reasons)}"
            if decision.action not in ("retrain", "train_first"):
                return dg.SensorResult(skip_reason=said)
            release = served(opened, "production")
            previous = None
            if release is not None:
                previous = Registry(opened.settings).get(release.model_name, release.version).dataset_version
            request = dg.RunRequest(
                run_key=decision.key,
                run_config=learn_config(decision, previous, release.version if release else None),
                tags={"its/trigger": decision.action, "its/reasons": "; ".join(decision.reasons)[:250]},
            )
            return dg.SensorResult(run_requests=[request])

    return watch_drift
