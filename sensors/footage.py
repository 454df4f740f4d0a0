"""Watches the cameras: new footage of any of them starts the job `ingest`."""

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from assets.jobs import ingest
from its_platform.errors import PermanentError
from its_platform.resources import StoresResource
from sensors.runs import ONE_AT_A_TIME, has_succeeded, is_active

if TYPE_CHECKING:
    from its_platform.stores import Stores

LONGEST_PAUSE_S = 600.0


def next_try(new: list[str], tried: list[str], tries: int, last: datetime, interval_s: float) -> datetime:
    """When to take in the cameras `new`: at once, or later when the same ones have just been tried in vain.

    What is new is asked of the stores, so that footage whose ingest failed is still new; the pause doubles with each
    of the `tries` that did not help.
    """
    if new != tried:
        return last
    return last + timedelta(seconds=min(LONGEST_PAUSE_S, interval_s * 2.0**tries))


def look_at_cameras(opened: "Stores") -> tuple[int, list[str], list[str]]:
    """How many cameras are enabled, those with new footage, and what is wrong with those that cannot be read."""
    from its_platform.cameras import list_cameras
    from its_platform.frames.ingest import has_new_footage

    cameras = [camera.camera_id for camera in list_cameras(opened) if camera.enabled]
    new, troubled = [], []
    for camera in cameras:
        try:
            if has_new_footage(opened, camera):
                new.append(camera)
        except PermanentError as error:
            troubled.append(f"{camera}: {error.message}")
    return len(cameras), new, troubled


def footage_sensor(interval_s: int, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """The sensor, looking every `interval_s` seconds."""

    @dg.sensor(
        name="footage_sensor",
        job=ingest,
        minimum_interval_seconds=interval_s,
        default_status=status,
        description="Starts the ingest of cameras that have new footage.",
    )
    def watch_footage(context: dg.SensorEvaluationContext, stores: StoresResource) -> dg.SensorResult:
        with ONE_AT_A_TIME:
            if is_active(context.instance, ingest.name):
                return dg.SensorResult(skip_reason="An ingest is under way.")
            opened, now = stores.open(), datetime.now(UTC)
            cameras, new, troubled = look_at_cameras(opened)
            if not new:
                said = f"No new footage of {cameras} cameras. {' '.join(troubled)}".strip()
                return dg.SensorResult(skip_reason=said, cursor="")
            # After an ingest that went well, what is new came in since: a camera that films on is never left to wait.
            is_in_vain = not has_succeeded(context.instance, ingest.name)
            before = json.loads(context.cursor or "{}") if is_in_vain else {}
            if before and datetime.fromisoformat(before["at"]) > now:
                # That try was made before the clock was set back; its time may be years away.
                before = {}
            last = datetime.fromisoformat(before["at"]) if before else now
            tries = int(before.get("tries", 0)) if before.get("cameras") == new else 0
            due = next_try(new, before.get("cameras", []), tries, last, interval_s)
            if now < due:
                return dg.SensorResult(skip_reason=f"Tried {tries} times: {', '.join(new)}. Again at {due:%H:%M:%S}.")
            cursor = json.dumps({"cameras": new, "tries": tries + 1, "at": now.isoformat()})
            request = dg.RunRequest(
                run_config={"ops": {"raw_frames": {"config": {"cameras": new}}}},
                tags={"its/trigger": "footage", "its/cameras": ",".join(new)[:250]},
            )
            return dg.SensorResult(run_requests=[request], cursor=cursor)

    return watch_footage
