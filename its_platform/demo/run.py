"""The loop, run through Dagster itself, from a day world to a model that has learnt the night.

The demo plays the world outside the platform: it lets time pass in the simulated world, lets live cameras query
Triton, and watches. Everything between is started by Dagster's sensors. Each step looks at what is there already,
so that a demo that was killed goes on where it stopped and nothing is there twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from its_platform.demo.dagster_page import Run, runs_of, why_failed
from its_platform.demo.scales import Scale
from its_platform.errors import PermanentError, TransientError
from its_platform.settings import Settings
from its_platform.telemetry import Progress

if TYPE_CHECKING:
    from its_platform.monitoring.reports import DriftReport
    from its_platform.release import Release
    from its_platform.stores import Stores

POLL_S = 0.5
PATIENCE_S = 1200.0


class DemoFailed(PermanentError):
    """A step of the demo did not come to its end."""


@dataclass
class Demo:
    """What the steps share. `seconds` holds what each step took, over all starts of a demo that was stopped."""

    settings: Settings
    scale: Scale
    stores: Stores
    progress: Progress
    on_step: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self._kept.exists():
            self.seconds.update(json.loads(self._kept.read_text("utf-8")))

    @property
    def _kept(self) -> Path:
        return self.settings.home / "demo" / "seconds.json"

    def step(self, name: str, work: Callable[[], None]) -> None:
        """Do a step, tell that it began, and add what it took to what earlier starts spent on it."""
        self.on_step(name)
        began = time.monotonic()
        self.progress(name, 0, None, "")
        work()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        self._kept.write_text(json.dumps(self.seconds), "utf-8")
        self.progress(name, 1, 1, f"{self.seconds[name]:.1f} s")


def segment_times(demo: Demo, purpose: str) -> tuple[datetime, datetime]:
    """First and last moment of the segment of this purpose, letting the world's time go on to its end if needed."""
    from its_platform.simulation import append_segment, read_timeline

    position = [segment.purpose for segment in demo.scale.segments].index(purpose)
    timeline = read_timeline(demo.settings)
    for segment in demo.scale.segments[len(timeline.segments) : position + 1]:
        append_segment(demo.settings, segment.light, segment.weather, segment.seconds)
    timeline = read_timeline(demo.settings)
    return timeline.moment(timeline.segments[position].from_s), timeline.moment(timeline.segments[position].to_s)


def wait_for(demo: Demo, what: str, is_there: Callable[[], bool], job: str, since: float) -> None:
    """Wait until `is_there()`; a failed run of `job` that began after `since` ends the wait with its reasons."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_there():
        runs = _runs(demo, job)
        last = runs[-1] if runs else None
        if last is not None and last.status in ("FAILURE", "CANCELED") and (last.ended or 0) >= since:
            reasons = "; ".join(why_failed(demo.settings, last.run_id)[:3])
            raise DemoFailed(
                f"The run {last.run_id} of {job} failed while the demo waited for {what}: {reasons}.",
                f"Its log is on Dagster's page, http://{demo.settings.host}:{demo.settings.ports.dagster}.",
            )
        if time.monotonic() > deadline:
            raise DemoFailed(f"After {PATIENCE_S:.0f} s there is still no {what}.", "`its doctor` says what is wrong.")
        time.sleep(POLL_S)


def _runs(demo: Demo, job: str) -> list[Run]:
    try:
        return runs_of(demo.settings, job)
    except TransientError:
        return []  # the page is busy; it is asked again half a second later


def has_ended(demo: Demo, job: str) -> bool:
    """Whether no run of `job` waits or works."""
    return all(run.is_finished for run in _runs(demo, job))


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


def wait_for_release(demo: Demo, newer_than: int) -> Release:
    """Wait until a version above `newer_than` is served, with its reference recorded and the run at its end."""
    from its_platform.release import served

    def is_there() -> bool:
        release = served(demo.stores, "production")
        return release is not None and release.version > newer_than and has_ended(demo, "learn")

    # A decision to train starts one run: if that has failed, also before this start of the demo, no other will come.
    wait_for(demo, f"served model newer than version {newer_than}", is_there, "learn", since=0.0)
    release = served(demo.stores, "production")
    if release is None:
        raise DemoFailed("The served model was taken away while the demo ran.", "`its release history` says by whom.")
    return release


def first_release(demo: Demo) -> Release:
    """The first version that was ever served; waited for while there is none. Stays the same after later releases."""
    from its_platform.release import history

    wait_for_release(demo, newer_than=0)
    return min((r for r in history(demo.stores) if r.stage == "production"), key=lambda release: release.since)


def feed_live(demo: Demo, purpose: str, version: int) -> DriftReport:
    """Let the live cameras query Triton for the segment, then wait for the report on that window."""
    from its_platform.live.feed import watch_cameras
    from its_platform.monitoring.predictions import query

    since, until = segment_times(demo, purpose)
    done = demo_report(demo, since, until)
    if done is None:
        # The spool is read before the table: a row that is moved in between is then seen twice, never missed.
        waiting = spooled(demo.settings)
        logged = query(demo.stores, since=since, until=until, purpose="live", columns=["camera_id", "at"])
        seen = {(row.camera_id, row.at.to_pydatetime()) for row in logged.itertuples()}
        result = watch_cameras(
            demo.stores,
            list(demo.scale.views),
            since,
            until,
            skip=seen | waiting,
            progress=demo.progress,
        )
        if result.failed:
            raise DemoFailed(f"{result.failed} of {result.frames} live frames got no answer.", "See `its doctor`.")
    began = time.time()
    wait_for(
        demo, f"drift report on the {purpose}", lambda: demo_report(demo, since, until) is not None, "watch", began
    )
    report = demo_report(demo, since, until)
    if report is None:
        raise DemoFailed(f"The drift report on the {purpose} went away.", "`its monitor list` shows those there are.")
    return report


def spooled(settings: Settings) -> set[tuple[str, datetime]]:
    """Camera and capture time of the live rows that still lie in the front's spool."""
    rows: set[tuple[str, datetime]] = set()
    for file in settings.spool.glob("*.jsonl"):
        for line in file.read_text("utf-8").splitlines():
            row = json.loads(line)
            if row["purpose"] == "live":
                rows.add((row["camera_id"], datetime.fromisoformat(row["at"])))
    return rows


def demo_report(demo: Demo, since: datetime, until: datetime) -> DriftReport | None:
    """The report whose window is this segment, if there is one yet."""
    from its_platform.monitoring.reports import list_reports

    for report in list_reports(demo.stores):
        if report.since >= since and report.until <= until:
            return report
    return None
