"""What every play of the loop shares: steps that a second start takes up again, and waiting for what Dagster does.

A play stands outside the platform: it brings footage, lets cameras query Triton, and watches. Everything between is
started by Dagster's sensors. What a particular play brings belongs to `run`, or to `its_platform.demo`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its_platform.errors import BadInput, PermanentError, TransientError
from its_platform.loop.dagster_page import Run, runs_of, why_failed
from its_platform.pages import page_address
from its_platform.settings import Settings, load_settings
from its_platform.telemetry import Progress

if TYPE_CHECKING:
    from its_platform.monitoring.reports import DriftReport
    from its_platform.release import Release
    from its_platform.stores import Stores

POLL_S = 0.5
PATIENCE_S = 1200.0


class PlayFailed(PermanentError):
    """A step of the play did not come to its end, or a promise was not kept."""


@dataclass
class Play:
    """What the steps share. `seconds` holds what each step took, over all starts of a play that was stopped.

    folder: where the play keeps what it is about. patience_s: how long one thing is waited for.
    """

    settings: Settings
    stores: Stores
    folder: Path
    progress: Progress
    on_step: Callable[[str], None]
    patience_s: float = PATIENCE_S
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self._kept.exists():
            self.seconds.update(json.loads(self._kept.read_text("utf-8")))

    @property
    def _kept(self) -> Path:
        return self.folder / "seconds.json"

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


def settle(settings: Settings, owner: str, wanted: Mapping[str, Any]) -> Settings:
    """Write a play's settings where every process of the stack reads them, and read them back.

    owner: who writes; settings that another wrote are not overwritten (`BadInput`), and such as cannot be used are not
    written (`BadInput`).
    """
    import yaml

    path = settings.home / "settings.yaml"
    first_line = f"# written by {owner}\n"
    if path.exists() and not path.read_text("utf-8").startswith(first_line):
        raise BadInput(
            f"{path} was not written by {owner}, and is not overwritten.",
            f"Give it a home folder of its own: ITS_HOME=.its-{owner.split()[1]} {owner}.",
        )
    load_settings(**wanted)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(f"{path}.part")
    text = first_line + yaml.safe_dump({"home": str(settings.home.absolute()), **wanted}, sort_keys=False)
    partial.write_text(text, "utf-8")
    partial.replace(path)
    return load_settings()


def wait_for(play: Play, what: str, is_there: Callable[[], bool], job: str, since: float) -> None:
    """Wait until `is_there()`; a failed run of `job` that began after `since` ends the wait with its reasons."""
    deadline = time.monotonic() + play.patience_s
    while not is_there():
        runs = _runs(play, job)
        last = runs[-1] if runs else None
        if last is not None and last.status in ("FAILURE", "CANCELED") and (last.ended or 0) >= since:
            reasons = "; ".join(why_failed(play.settings, last.run_id)[:3])
            raise PlayFailed(
                f"The run {last.run_id} of {job} failed while the {what} was waited for: {reasons}.",
                f"Its log is on Dagster's page, {page_address(play.settings, play.settings.ports.dagster)}.",
            )
        if time.monotonic() > deadline:
            raise PlayFailed(
                f"After {play.patience_s:.0f} s there is still no {what}.", "`its doctor` says what is wrong."
            )
        time.sleep(POLL_S)


def _runs(play: Play, job: str) -> list[Run]:
    try:
        return runs_of(play.settings, job)
    except TransientError:
        return []  # the page is busy; it is asked again half a second later


def has_ended(play: Play, job: str) -> bool:
    """Whether no run of `job` waits or works. Not while the page is busy: a failed read is no end."""
    try:
        return all(run.is_finished for run in runs_of(play.settings, job))
    except TransientError:
        return False


def wait_for_release(play: Play, newer_than: int) -> Release:
    """Wait until a version above `newer_than` is served, with its reference recorded and the run at its end."""
    from its_platform.release import served

    def is_there() -> bool:
        release = served(play.stores, "production")
        return release is not None and release.version > newer_than and has_ended(play, "learn")

    # A decision to train starts one run: if that has failed, also before this start of the play, no other will come.
    wait_for(play, f"served model newer than version {newer_than}", is_there, "learn", since=0.0)
    release = served(play.stores, "production")
    if release is None:
        raise PlayFailed("The served model was taken away meanwhile.", "`its release history` says by whom.")
    return release


def first_release(play: Play) -> Release:
    """The first version that was ever served; waited for while there is none. Stays the same after later releases."""
    from its_platform.release import history

    wait_for_release(play, newer_than=0)
    return min((r for r in history(play.stores) if r.stage == "production"), key=lambda release: release.since)


def asked_before(play: Play, since: datetime, until: datetime) -> set[tuple[str, datetime]]:
    """Camera and capture time of the live pictures that the front was asked about already."""
    from its_platform.monitoring.predictions import query

    # The spool is read before the table: a row that is moved in between is then seen twice, never missed.
    waiting = _spooled(play.settings)
    logged = query(play.stores, since=since, until=until, purpose="live", columns=["camera_id", "at"])
    return waiting | {(row.camera_id, row.at.to_pydatetime()) for row in logged.itertuples()}


def _spooled(settings: Settings) -> set[tuple[str, datetime]]:
    from its_platform.serving.log_table import waiting

    rows: set[tuple[str, datetime]] = set()
    for content in waiting(settings.spool):
        for line in content.decode().splitlines():
            row = json.loads(line)
            if row["purpose"] == "live":
                rows.add((row["camera_id"], datetime.fromisoformat(row["at"])))
    return rows


def report_between(play: Play, since: datetime, until: datetime) -> DriftReport | None:
    """The report whose window ends in this span, the first of several; None while there is none.

    A version that took over shortly before the span begins its window then.
    """
    from its_platform.monitoring.reports import list_reports

    found = [report for report in list_reports(play.stores) if since < report.until <= until]
    return min(found, key=lambda report: report.until) if found else None


def wait_for_report(play: Play, what: str, since: datetime, until: datetime) -> DriftReport:
    """Wait for the report on the window that ends in this span."""
    began = time.time()
    wait_for(
        play, f"drift report on the {what}", lambda: report_between(play, since, until) is not None, "watch", began
    )
    report = report_between(play, since, until)
    if report is None:
        raise PlayFailed(f"The drift report on the {what} went away.", "`its monitor list` shows those there are.")
    return report


def duplicates(stores: Stores) -> dict[str, int]:
    """How many keys are there twice, by table. The loop is right only when each is zero."""
    from its_platform.frames.index import FrameIndex
    from its_platform.monitoring.predictions import query

    frames = FrameIndex(stores).query(columns=["camera_id", "captured_at"])
    live = query(stores, purpose="live", columns=["camera_id", "at"])
    trainings = [model.tags.get("training_key") for model in stores.registry.list()]
    return {
        "frames": int(frames.duplicated(["camera_id", "captured_at"]).sum()),
        "predictions": int(live.duplicated(["camera_id", "at"]).sum()),
        "models": len(trainings) - len(set(trainings)),
    }
