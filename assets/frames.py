"""Footage becomes frames: the asset `raw_frames` and the check that keeps unsound frames out of what follows."""

import dagster as dg

from assets.shown import check_result
from its_platform.errors import PermanentError, TransientError
from its_platform.resources import StoresResource, picture, progress_to, told_to_dagster


class Footage(dg.Config):
    """Which cameras to read; none named means every enabled one. Times are ISO 8601."""

    cameras: list[str] = []
    since: str | None = None
    until: str | None = None


@dg.asset(
    group_name="frames",
    owners=["team:data"],
    kinds={"delta", "opencv"},
    description="Frames of every camera: JPEG objects named by content, and their quality figures in the index.",
)
def raw_frames(context: dg.AssetExecutionContext, config: Footage, stores: StoresResource) -> dg.MaterializeResult:
    from its_platform.cameras import get_camera, list_cameras
    from its_platform.frames.ingest import ingest
    from its_platform.frames.pictures import latest_frames_sheet
    from its_platform.frames.sources import watched_until
    from its_platform.telemetry import parse_time

    with told_to_dagster():
        opened = stores.open()
        names = config.cameras or [camera.camera_id for camera in list_cameras(opened, enabled_only=True)]
        since, until = parse_time(config.since), parse_time(config.until)
        results, refused, away = [], [], []
        # One broken camera, or a stream that is down, must not keep the others' footage out; the run fails, or is tried
        # again, once they are in.
        for name in names:
            try:
                ends = watched_until(get_camera(opened, name), until)
                results.append(ingest(opened, name, since, ends, progress=progress_to(context.log)))
            except PermanentError as error:
                refused.append(f"{name}: {error}")
            except TransientError as error:
                if get_camera(opened, name).address.kind != "rtsp":
                    raise
                away.append(error)
        if away and not refused:
            raise away[0]
        rows = "\n".join(f"| {r.camera_id} | {r.added} | {r.duplicates} | {r.rejected} |" for r in results)
        sheet = latest_frames_sheet(opened, names)
    if refused:
        raise dg.Failure(f"Not taken in: {' '.join([*refused, *map(str, away)])}", allow_retries=False)
    metadata: dict[str, dg.MetadataValue] = {
        "added": dg.MetadataValue.int(sum(r.added for r in results)),
        "duplicates": dg.MetadataValue.int(sum(r.duplicates for r in results)),
        "cameras": dg.MetadataValue.md(f"| camera | added | duplicates | rejected |\n|---|---|---|---|\n{rows}"),
    }
    if sheet:
        metadata["latest frames"] = picture(sheet, "the latest frame of each camera")
    return dg.MaterializeResult(metadata=metadata)


@dg.asset_check(
    asset=raw_frames, blocking=True, description="Great Expectations: keys, figures and objects of the frames."
)
def frames_are_sound(stores: StoresResource) -> dg.AssetCheckResult:
    from its_platform.frames.expectations import check_frames

    with told_to_dagster():
        return check_result(check_frames(stores.open()))


ASSETS = [raw_frames]
CHECKS = [frames_are_sound]
