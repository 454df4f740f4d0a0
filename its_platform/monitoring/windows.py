"""Several windows together: which one is due, and whether enough of the last ones have drifted.

Enter: recorded reports and the times of live rows. Leave: the next window to report on, and the K-of-N state of the
served version. What follows from the state belongs in `retraining`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from its_platform.monitoring import predictions
from its_platform.monitoring.reports import DriftReport, list_reports
from its_platform.release.truth import served
from its_platform.stores import Stores

LOOKED_BACK = 50


@dataclass(frozen=True)
class DriftState:
    """The last N judged windows of one version, newest first, and whether K of them have drifted.

    version is None where nothing is served. since, until: from the first to the last drifted window.
    """

    version: int | None
    windows: list[DriftReport]
    drifted: int
    needed: int
    looked_at: int
    is_drifted: bool
    since: datetime | None = None
    until: datetime | None = None

    @property
    def latest(self) -> DriftReport | None:
        return self.windows[0] if self.windows else None


def drift_state(stores: Stores, version: int | None = None) -> DriftState:
    """The state of `version`, or of the version served in production."""
    settings = stores.settings.drift
    if version is None:
        release = served(stores, "production")
        version = release.version if release else None
    known = list_reports(stores, version, LOOKED_BACK) if version is not None else []
    return judge_windows(version, known, settings.windows, settings.windows_drifted)


def judge_windows(version: int | None, known: Sequence[DriftReport], looked_at: int, needed: int) -> DriftState:
    """K of N over reports that do not overlap, the latest first; windows that could not be judged do not count."""
    chosen: list[DriftReport] = []
    for report in sorted(known, key=lambda r: (r.until, r.created_at), reverse=True):
        if report.verdict == "not_judged" or len(chosen) == looked_at:
            continue
        if all(report.until <= other.since or report.since >= other.until for other in chosen):
            chosen.append(report)
    drifted = [report for report in chosen if report.is_drifted]
    return DriftState(
        version=version,
        windows=chosen,
        drifted=len(drifted),
        needed=needed,
        looked_at=looked_at,
        is_drifted=len(drifted) >= needed,
        since=min((report.since for report in drifted), default=None),
        until=max((report.until for report in drifted), default=None),
    )


def next_window(stores: Stores, version: int | None = None) -> tuple[datetime, datetime] | None:
    """The window to report on next, or None while it has not ended yet.

    Time is capture time. The first window begins with the version's first live row, each further one with the first
    row after the last window; one has ended when the rows have reached its end.
    """
    if version is None:
        release = served(stores, "production")
        if release is None:
            return None
        version = release.version
    last = list_reports(stores, version, 1)
    since = last[0].until if last else None
    # What it answered as a canary lies scattered among another version's answers, and was judged then.
    asked = ["at", "camera_id"]
    rows = predictions.query(stores, since, purpose="live", version=version, columns=asked, canary=False)
    if rows.empty:
        return None
    gaps = rows.groupby("camera_id")["at"].diff().dropna()
    usual = gaps.median().to_pytimedelta() if len(gaps) else timedelta(0)
    length = timedelta(seconds=stores.settings.drift.window_s)
    begin: datetime = rows["at"].min().to_pydatetime()
    # A camera's next picture would lie beyond the end: nothing of the window is still to come.
    reached: datetime = rows["at"].max().to_pydatetime() + min(usual, length)
    return (begin, begin + length) if reached >= begin + length else None
