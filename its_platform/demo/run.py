"""The loop, run through Dagster itself, from a day world to a model that has learnt the night.

The demo plays the world outside the platform: it lets time pass in the simulated world, lets live cameras query
Triton, and watches. Everything between is started by Dagster's sensors. Each step looks at what is there already,
so that a demo that was killed goes on where it stopped and nothing is there twice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from its_platform.demo.scales import Scale
from its_platform.loop.play import Play, PlayFailed, asked_before, has_ended, report_between, wait_for, wait_for_report

if TYPE_CHECKING:
    from its_platform.monitoring.reports import DriftReport


@dataclass(kw_only=True)
class Demo(Play):
    """A play on the simulated world at a scale."""

    scale: Scale


def segment_times(demo: Demo, purpose: str) -> tuple[datetime, datetime]:
    """First and last moment of the segment of this purpose, letting the world's time go on to its end if needed."""
    from its_platform.simulation import append_segment, read_timeline

    position = [segment.purpose for segment in demo.scale.segments].index(purpose)
    timeline = read_timeline(demo.settings)
    for segment in demo.scale.segments[len(timeline.segments) : position + 1]:
        append_segment(demo.settings, segment.light, segment.weather, segment.seconds)
    timeline = read_timeline(demo.settings)
    return timeline.moment(timeline.segments[position].from_s), timeline.moment(timeline.segments[position].to_s)


def add_cameras(demo: Demo) -> None:
    """Register the simulated cameras and let the first stretch of time pass."""
    from its_platform.cameras import Camera, add_camera, list_cameras

    known = {camera.camera_id for camera in list_cameras(demo.stores)}
    for view in demo.scale.views:
        if view not in known:
            camera = Camera(
                camera_id=view,
                source=f"sim://{view}",
                site="simulated town",
                privacy="none",
                sample_interval_s=demo.scale.sample_interval_s,
            )
            add_camera(demo.stores, camera)
    segment_times(demo, "first dataset")


def wait_for_frames(demo: Demo, purpose: str) -> None:
    """Wait until the footage sensor's runs have taken in the whole segment."""
    from its_platform.frames.index import FrameIndex

    since, until = segment_times(demo, purpose)
    began = time.time()
    expected = len(demo.scale.views) * round((until - since).total_seconds() / demo.scale.sample_interval_s)

    def is_there() -> bool:
        rows = FrameIndex(demo.stores).query(since=since, until=until, columns=["camera_id", "captured_at"])
        demo.progress(f"frames of {purpose}", len(rows), expected)
        # A still scene may leave out a frame or two as duplicates of the one before.
        last = rows.groupby("camera_id")["captured_at"].max() if len(rows) else []
        reached = [at for at in last if (until - at).total_seconds() <= 3 * demo.scale.sample_interval_s]
        return len(reached) == len(demo.scale.views) and has_ended(demo, "ingest")

    wait_for(demo, f"frames of the {purpose}", is_there, "ingest", began)


def feed_live(demo: Demo, purpose: str) -> DriftReport:
    """Let the live cameras query Triton for the segment, then wait for the report on that window."""
    since, until = segment_times(demo, purpose)
    if report_between(demo, since, until) is None:
        _ask_live(demo, since, until)
    return wait_for_report(demo, purpose, since, until)


def wait_for_canary(demo: Demo, newer_than: int) -> None:
    """Wait until a version above `newer_than` passed its gates and answers a share of the live traffic."""
    from its_platform.release import canary_state

    def is_there() -> bool:
        state = canary_state(demo.stores)
        on_trial = state is not None and state.version > newer_than
        return (on_trial or in_production(demo) > newer_than) and has_ended(demo, "learn")

    wait_for(demo, f"canary newer than version {newer_than}", is_there, "learn", since=0.0)


def prove_canary(demo: Demo, purpose: str, newer_than: int) -> None:
    """Let the live cameras query Triton for the segment, until the canary is in production; taken back is a failure."""
    from its_platform.release import canary_state

    began = time.time()
    since, until = segment_times(demo, purpose)
    if in_production(demo) <= newer_than:
        _ask_live(demo, since, until)

    def is_decided() -> bool:
        return canary_state(demo.stores) is None and has_ended(demo, "canary")

    wait_for(demo, "end of the canary", is_decided, "canary", began)
    if in_production(demo) <= newer_than:
        raise PlayFailed("The canary was taken back.", "`its release history --stage canary` says why.")


def in_production(demo: Demo) -> int:
    """The version that is served in production, 0 where none is."""
    from its_platform.release import served

    release = served(demo.stores, "production")
    return release.version if release is not None else 0


def _ask_live(demo: Demo, since: datetime, until: datetime) -> None:
    from its_platform.live.feed import watch_cameras

    result = watch_cameras(
        demo.stores,
        list(demo.scale.views),
        since,
        until,
        skip=asked_before(demo, since, until),
        progress=demo.progress,
    )
    if result.failed:
        raise PlayFailed(f"{result.failed} of {result.frames} live frames got no answer.", "See `its doctor`.")
