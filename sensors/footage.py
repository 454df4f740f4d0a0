"""Watches the cameras: new footage of any of them starts the job `ingest`."""

import hashlib
import json

import dagster as dg

from assets.jobs import ingest
from its_platform.resources import StoresResource
from sensors.runs import is_active


def cameras_with_new_footage(available: dict[str, str], seen: dict[str, str]) -> list[str]:
    """The cameras whose footage reaches further than when it was last taken in.

    `available` and `seen` map a camera to the token of what it has; a camera without footage is not in `available`.
    """
    return sorted(camera for camera, token in available.items() if seen.get(camera) != token)


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
        from its_platform.frames.sources import available_until

        from its_platform.cameras import list_cameras

        if is_active(context.instance, ingest.name):
            return dg.SensorResult(skip_reason="An ingest is under way.")
        opened = stores.open()
        seen: dict[str, str] = json.loads(context.cursor or "{}")
        tokens = {
            camera.camera_id: available_until(camera, opened.settings)
            for camera in list_cameras(opened)
            if camera.enabled
        }
        available = {camera: str(token) for camera, token in tokens.items() if token is not None}
        new = cameras_with_new_footage(available, seen)
        if not new:
            return dg.SensorResult(skip_reason=f"No new footage of {len(available)} cameras.")
        cursor = json.dumps({**seen, **available}, sort_keys=True)
        request = dg.RunRequest(
            run_key=hashlib.sha256(cursor.encode()).hexdigest()[:16],
            run_config={"ops": {"raw_frames": {"config": {"cameras": new}}}},
            tags={"its/trigger": "footage", "its/cameras": ",".join(new)[:250]},
        )
        return dg.SensorResult(run_requests=[request], cursor=cursor)

    return watch_footage
