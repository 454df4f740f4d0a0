"""Watches the drift reports: a decision to train starts the job `learn`."""

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.jobs import ingest, learn
from its_platform.resources import StoresResource
from sensors.footage import look_at_cameras
from sensors.runs import ONE_AT_A_TIME, is_active

if TYPE_CHECKING:
    from its_platform.retraining import Decision


def learn_config(
    decision: "Decision", previous: str | None, served_version: int | None, retraining_epochs: int | None = None
) -> dict[str, Any]:
    """The run configuration of `learn` that carries a decision out.

    A first model learns from everything reviewed; a retraining extends the served model's dataset by the drifted
    window and trains on from the served model, for epochs of its own where the settings say so.
    """
    window: dict[str, str] = {}
    if decision.window:
        window = {"window_since": decision.window[0].isoformat(), "window_until": decision.window[1].isoformat()}
    content: dict[str, Any] = dict(window)
    if previous:
        content["previous"] = previous
    training: dict[str, Any] = {}
    if served_version is not None:
        training = {"base_version": served_version}
        if retraining_epochs is not None:
            training["epochs"] = retraining_epochs
    return {
        "ops": {
            "reviewed_labels": {"config": window},
            "dataset_version": {"config": content},
            "candidate_model": {"config": training},
        }
    }


PATIENCE = timedelta(minutes=10)
NOT_WAITING = "{}"


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
            from its_platform.release import served
            from its_platform.retraining import TRAININGS, decide, read_history, record_decision
            from its_platform.stores.registry import Registry
            from its_platform.stores.runs import DECISION_TAG

            if is_active(context.instance, learn.name):
                return dg.SensorResult(skip_reason="A training is under way.")
            opened = stores.open()
            decision = decide(read_history(opened), opened.settings.retraining, datetime.now(UTC))
            said = f"{decision.action}: {'; '.join(decision.reasons)}"
            if decision.action not in TRAININGS:
                record_decision(opened, decision)
                return dg.SensorResult(skip_reason=said, cursor=NOT_WAITING)
            now = datetime.now(UTC)
            release = served(opened, "production")
            # Not the decision's key, which another report changes: the wait would begin anew with each.
            waits_for = f"{decision.action}-v{release.version if release else 0}"
            before = json.loads(context.cursor or NOT_WAITING)
            first_seen = datetime.fromisoformat(before["at"]) if before.get("key") == waits_for else now
            cursor = json.dumps({"key": waits_for, "at": first_seen.isoformat()})
            # A camera that cannot be read brings nothing; of what is wrong with it the footage sensor tells.
            incoming = is_active(context.instance, ingest.name) or bool(look_at_cameras(opened)[1])
            if is_to_wait(incoming, first_seen, now):
                return dg.SensorResult(skip_reason=f"{said}; first the footage that is coming in.", cursor=cursor)
            # Only now: a training that is recorded counts as started, and one that waits would use up its attempts.
            record_decision(opened, decision)
            previous = None
            if release is not None:
                previous = Registry(opened.settings).get(release.model_name, release.version).dataset_version
            version = release.version if release else None
            request = dg.RunRequest(
                run_key=decision.key,
                run_config=learn_config(decision, previous, version, opened.settings.retraining.epochs),
                tags={
                    "its/trigger": decision.action,
                    DECISION_TAG: decision.key,
                    "its/reasons": "; ".join(decision.reasons)[:250],
                },
            )
            return dg.SensorResult(run_requests=[request], cursor=NOT_WAITING)

    return watch_drift
