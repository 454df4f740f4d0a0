"""Reads all that a decision rests on, for now or as it was known at a moment of the past.

Enters: the stores and a moment. Leaves: a `RetrainingHistory`. A read that fails raises; it never looks like "nothing
there". What follows from a history is in `deciding`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from its_platform.cameras import list_cameras
from its_platform.frames.index import FrameIndex
from its_platform.labels.store import current_labels
from its_platform.model.registered import trained_version
from its_platform.monitoring.reports import list_reports
from its_platform.monitoring.windows import LOOKED_BACK, judge_windows
from its_platform.release import truth
from its_platform.release.experiment import experiment_at
from its_platform.release.truth import Release
from its_platform.retraining.deciding import A_DAY, TRAININGS, EarlierTraining, RetrainingHistory
from its_platform.retraining.recording import own_decisions
from its_platform.stores import Stores
from its_platform.stores.schema import DecisionRow

# More decisions than any policy allows in the time that is looked back over.
KEPT = 200


def read_history(stores: Stores, is_training: bool = False, at: datetime | None = None) -> RetrainingHistory:
    """Everything that `decide` needs, as it was known at `at` (None: as it is).

    is_training: whether the caller knows of a training under way. What was deleted since cannot be read back; nothing
    that decides is ever deleted.
    """
    production = released_at(stores, "production", at)
    version = production.version if production else None
    # A version that is another one in other numbers was trained for nothing.
    trained = [one for one in stores.registry.list() if trained_version(one) == one.version]
    versions = [one.version for one in trained if at is None or _is_known(one.registered_at, at)]
    windows = stores.settings.drift
    known = list_reports(stores, version, LOOKED_BACK, at) if version is not None else []
    state = judge_windows(version, known, windows.windows, windows.windows_drifted)
    if version is None:
        frames, reviewed, reviewable = _count_frames(stores, None, None, at)
    elif state.is_drifted:
        frames, reviewed, reviewable = _count_frames(stores, state.since, state.until, at)
    else:
        frames = reviewed = reviewable = 0
    latest = state.latest
    rows = _trainings(stores, at)
    return RetrainingHistory(
        served_version=version,
        newest_version=max(versions, default=None),
        windows=len(state.windows),
        drifted=state.drifted,
        needed=state.needed,
        looked_at=state.looked_at,
        drifted_since=state.since,
        drifted_until=state.until,
        latest_report=latest.id if latest else None,
        worst=latest.reason if latest else "",
        frames=frames,
        reviewed_frames=reviewed,
        reviewable_frames=reviewable,
        last_training=_last_training(stores, rows, version or 0, at),
        trainings_of_day=_of_day(rows, at or datetime.now(UTC)),
        is_training=is_training,
        # Where nothing is in production there is nothing that it is compared with.
        trial=_trial_at(stores, at) if production else "",
    )


def released_at(stores: Stores, stage: str, at: datetime | None) -> Release | None:
    """What was served at a stage at a moment, or is now; None where nothing was."""
    if at is None:
        return truth.served(stores, stage)
    for release in truth.history(stores, stage):
        if release.since <= at and (release.until is None or release.until > at):
            return release
    return None


def _trial_at(stores: Stores, at: datetime | None) -> str:
    """What was being found out in live traffic at a moment, or is now, in words; empty for nothing."""
    tried = released_at(stores, "canary", at)
    if tried is None:
        return ""
    number = experiment_at(tried)
    return f"Version {tried.version} is a canary" if number is None else f"Experiment {number} is running"


def _is_known(registered_at: datetime | None, at: datetime) -> bool:
    return registered_at is not None and registered_at <= at


def _trainings(stores: Stores, at: datetime | None) -> list[DecisionRow]:
    with stores.database.session() as session:
        return list(session.scalars(own_decisions(at).where(DecisionRow.action.in_(TRAININGS)).limit(KEPT)))


def _of_day(rows: list[DecisionRow], now: datetime) -> int:
    """Trainings decided for in the 24 hours before; the same one asked for again counts once."""
    return len({row.numbers.get("key") for row in rows if now - A_DAY < row.at <= now})


def _last_training(
    stores: Stores, rows: list[DecisionRow], version: int, at: datetime | None
) -> EarlierTraining | None:
    """The latest training that was decided, with how often, and whether the drift has gone away since."""
    if not rows:
        return None
    key = str(rows[0].numbers.get("key", ""))
    # Asked for again under the same key, it still began with the first time.
    first = [row for row in rows if row.numbers.get("key") == rows[0].numbers.get("key")][-1]
    decided_for = int(first.numbers.get("served_version") or 0)
    return EarlierTraining(
        at=first.at.astimezone(UTC),
        action=first.action,
        version=decided_for,
        key=key,
        attempts=int(first.numbers.get("attempt", 1)),
        newest_then=int(first.numbers.get("newest_version") or 0),
        recovered=decided_for == version and version > 0 and _has_recovered(stores, version, first.at, at),
    )


def _has_recovered(stores: Stores, version: int, since: datetime, at: datetime | None) -> bool:
    """Whether, after `since`, the last N windows of this version were once not drifted."""
    settings = stores.settings.drift
    known = list_reports(stores, version, by=at)
    for report in known:
        if report.verdict != "stable" or report.created_at <= since:
            continue
        until_then = [other for other in known if other.until <= report.until]
        if not judge_windows(version, until_then, settings.windows, settings.windows_drifted).is_drifted:
            return True
    return False


def _count_frames(
    stores: Stores, since: datetime | None, until: datetime | None, at: datetime | None
) -> tuple[int, int, int]:
    """Frames in a window, those fit to judge, and those without a review whose camera is simulated."""
    columns = ["frame_hash", "camera_id", "ingested_at"]
    rows = FrameIndex(stores).query(since=since, until=until, columns=columns)
    if at is not None:
        rows = rows[rows["ingested_at"] <= at]
    rows = rows.drop_duplicates("frame_hash")
    if rows.empty:
        return 0, 0, 0
    labels = current_labels(stores, set(rows["frame_hash"]), by=at)
    fit = {frame for frame, entry in labels.items() if entry.is_fit_to_judge}
    simulated = {camera.camera_id for camera in list_cameras(stores) if camera.is_simulated}
    open_frames = rows[~rows["frame_hash"].isin(fit) & rows["camera_id"].isin(simulated)]
    return len(rows), len(fit), len(open_frames)
