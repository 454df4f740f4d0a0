"""Whether a new model is trained now, on what, and why: one pure function, and the reading that it needs.

Enter: drift reports, labels, frames, what is served and what was decided before. Leaves: a `Decision` with its reasons
and numbers, kept in the table `decisions`. Starting the training belongs to whoever asked (Dagster's sensor, a person).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from its_platform.cameras import list_cameras
from its_platform.frames.index import FrameIndex
from its_platform.labels.store import current_labels
from its_platform.monitoring.windows import drift_state
from its_platform.release.truth import served
from its_platform.settings import RetrainingSettings
from its_platform.stores import Stores
from its_platform.stores.schema import DecisionRow

Action = Literal["retrain", "train_first", "wait", "waiting_for_labels", "nothing"]
ACTIONS: tuple[Action, ...] = ("retrain", "train_first", "wait", "waiting_for_labels", "nothing")
TRAININGS: tuple[Action, ...] = ("retrain", "train_first")
# A training that was started this often without giving a model needs a person, not another start.
MAXIMUM_ATTEMPTS = 5
# The database's clock and this one may differ by so much without anybody having set one of them.
CLOCK_TOLERANCE = timedelta(minutes=1)
_DURATION = re.compile(r"\b\d+ (s|min|h)\b")


@dataclass(frozen=True)
class EarlierTraining:
    """A decision to train that was recorded.

    version: the one served then, 0 for none. newest_then: the newest registered one then, 0 for none. attempts: how
    often it was started for the same reason. recovered: since then the windows were once not drifted, so that a drift
    now is a new reason.
    """

    at: datetime
    action: str
    version: int
    key: str
    attempts: int = 1
    newest_then: int = 0
    recovered: bool = False


@dataclass(frozen=True)
class RetrainingHistory:
    """All that a decision rests on.

    served_version: in production, None for none. newest_version: the newest registered one, None for none.
    windows, drifted, needed, looked_at: judged windows of the served version among the last N, and K.
    drifted_since, drifted_until: the drifted windows together. reviewed_frames: frames fit to teach and to judge, of
    the drifted windows, or of all footage while nothing is served; reviewable_frames: those without a review that
    the simulated world's reviewer will do when asked. frames: all frames there.
    """

    served_version: int | None = None
    newest_version: int | None = None
    windows: int = 0
    drifted: int = 0
    needed: int = 1
    looked_at: int = 1
    drifted_since: datetime | None = None
    drifted_until: datetime | None = None
    latest_report: str | None = None
    worst: str = ""
    frames: int = 0
    reviewed_frames: int = 0
    reviewable_frames: int = 0
    last_training: EarlierTraining | None = None
    is_training: bool = False

    @property
    def is_drifted(self) -> bool:
        return self.drifted >= self.needed


@dataclass(frozen=True)
class Decision:
    """What to do, why in plain words, and the numbers behind it.

    window: capture times to learn from, for `retrain`. key: the same for the same reason, so that a training that was
    asked for twice is started once; empty where there is nothing to start.
    """

    action: Action
    reasons: list[str]
    numbers: dict[str, Any] = field(default_factory=dict)
    window: tuple[datetime, datetime] | None = None
    key: str = ""

    @property
    def is_training(self) -> bool:
        return self.action in TRAININGS


def decide(history: RetrainingHistory, settings: RetrainingSettings, now: datetime) -> Decision:
    """The decision that this history calls for. Pure."""
    numbers = _numbers(history, settings, now)
    if not settings.enabled:
        return Decision("nothing", ["Retraining is switched off (retraining.enabled)."], numbers)
    if history.is_training:
        return Decision("wait", ["A training is under way."], numbers)
    if history.served_version is None:
        return _decide_first(history, settings, now, numbers)
    if not history.is_drifted:
        return Decision("nothing", [_windows_said(history)], numbers)
    return _decide_retrain(history, settings, now, numbers)


def _decide_first(
    history: RetrainingHistory, settings: RetrainingSettings, now: datetime, numbers: dict[str, Any]
) -> Decision:
    if history.newest_version is not None:
        said = f"Version {history.newest_version} is trained and not served: its gates or a person decide."
        return Decision("wait", ["Nothing is served yet.", said], numbers)
    if history.frames == 0:
        return Decision("nothing", ["There are no frames yet."], numbers)
    short = _labels_missing(history, settings.first_model_frames, "for a first model")
    if short:
        return Decision("waiting_for_labels", [short], numbers)
    return _start("train_first", ["Nothing is served yet.", _labels_said(history)], history, settings, now, numbers)


def _decide_retrain(
    history: RetrainingHistory, settings: RetrainingSettings, now: datetime, numbers: dict[str, Any]
) -> Decision:
    drift = _windows_said(history)
    last = history.last_training
    is_same_drift = last is not None and last.version == history.served_version and not last.recovered
    if is_same_drift and last is not None and (history.newest_version or 0) > last.newest_then:
        said = (
            f"Version {history.newest_version} was trained for this drift ({last.at:%Y-%m-%d %H:%M:%S}) and is not "
            "served; another training waits until the windows have been stable again."
        )
        return Decision("wait", [drift, said], numbers)
    if last is not None and not is_same_drift:
        left = _left_of_cool_down(last, settings, now)
        if left > timedelta(0):
            said = f"The last training was started {_ago(now - last.at)} ago; cool-down for another {_ago(left)}."
            return Decision("wait", [drift, said], numbers)
    short = _labels_missing(history, settings.minimum_reviewed_frames, "of the drifted windows")
    if short:
        return Decision("waiting_for_labels", [drift, short], numbers)
    return _start("retrain", [drift, _labels_said(history)], history, settings, now, numbers)


def _start(
    action: Action,
    reasons: list[str],
    history: RetrainingHistory,
    settings: RetrainingSettings,
    now: datetime,
    numbers: dict[str, Any],
) -> Decision:
    """A training; asked again for the same reason it keeps its key until the cool-down is over, then counts anew."""
    version = history.served_version or 0
    window = None
    if history.drifted_since is not None and history.drifted_until is not None:
        window = (history.drifted_since, history.drifted_until)
    last = history.last_training
    if last is None or last.version != version or last.recovered:
        key = f"{action}-v{version}-{history.latest_report or 'first'}"
        return Decision(action, reasons, {**numbers, "attempt": 1}, window, key)
    if _left_of_cool_down(last, settings, now) > timedelta(0):
        return Decision(
            action, [*reasons, "It was asked for before."], {**numbers, "attempt": last.attempts}, window, last.key
        )
    if last.attempts >= MAXIMUM_ATTEMPTS:
        said = f"{last.attempts} trainings for this were started and none gave a model: a person has to look."
        return Decision("wait", [*reasons, said], numbers)
    attempt = last.attempts + 1
    said = f"The training started {_ago(now - last.at)} ago gave no model; attempt {attempt} of {MAXIMUM_ATTEMPTS}."
    key = f"{last.key.split('#')[0]}#{attempt}"
    return Decision(action, [*reasons, said], {**numbers, "attempt": attempt}, window, key)


def _left_of_cool_down(last: EarlierTraining, settings: RetrainingSettings, now: datetime) -> timedelta:
    """What is left of the pause after a training; nothing where its time lies ahead.

    Then the clock was set back since, and how long ago it was cannot be known. Waiting for that time to come again
    could take years; a training too many is judged by its gates like any other.
    """
    cool_down = timedelta(seconds=settings.cool_down_s)
    if last.at - now > CLOCK_TOLERANCE:
        return timedelta(0)
    return min(last.at + cool_down - now, cool_down)


def read_history(stores: Stores, is_training: bool = False) -> RetrainingHistory:
    """Read all that `decide` needs. A read that fails raises; it never looks like "nothing there".

    is_training: whether the caller knows of a training under way.
    """
    release = served(stores, "production")
    versions = stores.registry.list()
    newest = max((model.version for model in versions), default=None)
    state = drift_state(stores, release.version if release else None)
    if release is None:
        frames, reviewed, reviewable = _count_frames(stores, None, None)
    elif state.is_drifted:
        frames, reviewed, reviewable = _count_frames(stores, state.since, state.until)
    else:
        frames = reviewed = reviewable = 0
    latest = state.latest
    return RetrainingHistory(
        served_version=release.version if release else None,
        newest_version=newest,
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
        last_training=_last_training(stores, release.version if release else 0),
        is_training=is_training,
    )


def record_decision(
    stores: Stores, decision: Decision, report_id: str | None = None, run_id: str | None = None
) -> bool:
    """Keep a decision in `decisions`; one that says what the last one said is not written again.

    Whether it was written. Trainings are told apart by their key, all others by action and reasons.
    """
    numbers = {**decision.numbers, "key": decision.key}
    if decision.window:
        numbers["window"] = [moment.isoformat() for moment in decision.window]
    report = report_id or decision.numbers.get("report")
    # Two callers at once would both see that the last row differs.
    with stores.database.lock("decisions"), stores.database.session() as session:
        last = session.scalar(_own_decisions().limit(1))
        if last is not None and _says_the_same(last, decision, run_id):
            return False
        session.add(
            DecisionRow(
                action=decision.action,
                reasons=list(decision.reasons),
                numbers=numbers,
                report_id=report,
                run_id=run_id,
            )
        )
    return True


def record_run(stores: Stores, key: str, run_id: str) -> bool:
    """Name the run that a decision to train started, in the latest decision of this key; whether it was new.

    The first run stays: one that is started again for the same decision says so by its own tag.
    """
    wanted = sa.select(DecisionRow).where(
        DecisionRow.action.in_(TRAININGS), DecisionRow.numbers["key"].astext == key, DecisionRow.run_id.is_(None)
    )
    with stores.database.lock("decisions"), stores.database.session() as session:
        row = session.scalar(wanted.order_by(DecisionRow.id.desc()).limit(1))
        if row is None:
            return False
        row.run_id = run_id
    return True


def list_decisions(stores: Stores, limit: int | None = None) -> list[dict[str, Any]]:
    """What was decided, the latest first."""
    with stores.database.session() as session:
        return [
            {
                "at": row.at.astimezone(UTC),
                "action": row.action,
                "reasons": list(row.reasons),
                "numbers": row.numbers,
                "report_id": row.report_id,
                "run_id": row.run_id,
            }
            for row in session.scalars(_own_decisions().limit(limit))
        ]


def _own_decisions() -> sa.Select[Any]:
    # The table also holds what the release stage refused; its rows have other actions.
    return sa.select(DecisionRow).where(DecisionRow.action.in_(ACTIONS)).order_by(DecisionRow.id.desc())


def _says_the_same(last: DecisionRow, decision: Decision, run_id: str | None) -> bool:
    # The run of a decision is named after it was recorded: to decide the same again says nothing new.
    if last.action != decision.action or (run_id is not None and last.run_id != run_id):
        return False
    if decision.is_training:
        return bool(last.numbers.get("key") == decision.key)
    return _without_times(list(last.reasons)) == _without_times(decision.reasons)


def _without_times(reasons: list[str]) -> list[str]:
    """Reasons without the durations that change from one look to the next."""
    return [_DURATION.sub("", reason) for reason in reasons]


def _last_training(stores: Stores, version: int) -> EarlierTraining | None:
    """The latest training that was decided, with how often, and whether the drift has gone away since."""
    with stores.database.session() as session:
        rows = list(session.scalars(_own_decisions().where(DecisionRow.action.in_(TRAININGS)).limit(20)))
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
        recovered=decided_for == version and version > 0 and _has_recovered(stores, version, first.at),
    )


def _has_recovered(stores: Stores, version: int, since: datetime) -> bool:
    """Whether, after `since`, the last N windows of this version were once not drifted."""
    from its_platform.monitoring.reports import list_reports
    from its_platform.monitoring.windows import judge_windows

    settings = stores.settings.drift
    known = list_reports(stores, version)
    for report in known:
        if report.verdict != "stable" or report.created_at <= since:
            continue
        until_then = [other for other in known if other.until <= report.until]
        if not judge_windows(version, until_then, settings.windows, settings.windows_drifted).is_drifted:
            return True
    return False


def _count_frames(stores: Stores, since: datetime | None, until: datetime | None) -> tuple[int, int, int]:
    """Frames in a window, those fit to judge, and those without a review whose camera is simulated."""
    columns = ["frame_hash", "camera_id"]
    rows = FrameIndex(stores).query(since=since, until=until, columns=columns).drop_duplicates("frame_hash")
    if rows.empty:
        return 0, 0, 0
    labels = current_labels(stores, set(rows["frame_hash"]))
    fit = {frame for frame, entry in labels.items() if entry.is_fit_to_judge}
    simulated = {camera.camera_id for camera in list_cameras(stores) if str(camera.source).startswith("sim://")}
    open_frames = rows[~rows["frame_hash"].isin(fit) & rows["camera_id"].isin(simulated)]
    return len(rows), len(fit), len(open_frames)


def _numbers(history: RetrainingHistory, settings: RetrainingSettings, now: datetime) -> dict[str, Any]:
    last = history.last_training
    return {
        "served_version": history.served_version,
        "newest_version": history.newest_version,
        "windows": history.windows,
        "windows_drifted": history.drifted,
        "windows_needed": history.needed,
        "windows_looked_at": history.looked_at,
        "frames": history.frames,
        "reviewed_frames": history.reviewed_frames,
        "reviewable_frames": history.reviewable_frames,
        "minimum_reviewed_frames": settings.minimum_reviewed_frames,
        "first_model_frames": settings.first_model_frames,
        "cool_down_s": settings.cool_down_s,
        "since_last_training_s": round((now - last.at).total_seconds(), 1) if last else None,
        "report": history.latest_report,
    }


def _windows_said(history: RetrainingHistory) -> str:
    if history.windows == 0:
        return f"No window of version {history.served_version} has been judged yet."
    said = (
        f"{history.drifted} of the last {history.windows} windows of version {history.served_version} have drifted; "
        f"{history.needed} of {history.looked_at} are needed."
    )
    return f"{said} {history.worst}".strip()


def _labels_missing(history: RetrainingHistory, needed: int, what: str) -> str:
    if history.reviewed_frames + history.reviewable_frames >= needed:
        return ""
    return (
        f"{history.reviewed_frames} of {history.frames} frames {what} are reviewed; {needed} are needed. "
        "Review more frames and import their labels."
    )


def _labels_said(history: RetrainingHistory) -> str:
    said = f"{history.reviewed_frames} of {history.frames} frames are reviewed"
    if history.reviewable_frames:
        return f"{said}, {history.reviewable_frames} can be reviewed on demand."
    return f"{said}."


def _ago(span: timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
