"""Watches the drift reports: a decision to train starts the job `learn`."""

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.jobs import ingest, learn
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


PATIENCE = timedelta(minutes=10)


def is_to_wait(incoming: bool, first_seen: datetime, now: datetime) -> bool:
    """Whether a training waits for footage that is being taken in.

    One that began in the middle of an ingest would learn from the cameras that happened to come first. On a busy
    platform there is always something coming in, so that the wait has an end.
    """
    # By either sign: one that was first seen in the future was seen before the clock was set back.
    return incoming and abs(now - first_seen) < PATIENCE


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
            from its_platform.cameras import list_cameras
            from its_platform.frames.ingest import has_new_footage
            from its_platform.release import served
            from its_platform.retraining import TRAININGS, decide, read_history, record_decision
            from its_platform.stores.registry import Registry

            if is_active(context.instance, learn.name):
                return dg.SensorResult(skip_reason="A training is under way.")
            opened = stores.open()
            decision = decide(read_history(opened), opened.settings.retraining, datetime.now(UTC))
            said = f"{decision.action}: {'; '.join(decision.reasons)}"
            if decision.action not in TRAININGS:
                record_decision(opened, decision)
                return dg.SensorResult(skip_reason=said)
            now = datetime.now(UTC)
            before = json.loads(context.cursor or "{}")
            first_seen = datetime.fromisoformat(before["at"]) if before.get("key") == decision.key else now
            cursor = json.dumps({"key": decision.key, "at": first_seen.isoformat()})
            incoming = is_active(context.instance, ingest.name) or any(
                camera.enabled and has_new_footage(opened, camera.camera_id) for camera in list_cameras(opened)
            )
            if is_to_wait(incoming, first_seen, now):
                return dg.SensorResult(skip_reason=f"{said}; first the footage that is coming in.", cursor=cursor)
            # Only now: a training that waits has not been tried, and counts as no attempt.
            record_decision(opened, decision)
            release = served(opened, "production")
            previous = None
            if release is not None:
                previous = Registry(opened.settings).get(release.model_name, release.version).dataset_version
            request = dg.RunRequest(
                run_key=decision.key,
                run_config=learn_config(decision, previous, release.version if release else None),
                tags={"its/trigger": decision.action, "its/reasons": "; ".join(decision.reasons)[:250]},
            )
            return dg.SensorResult(run_requests=[request], cursor=cursor)

    return watch_drift
