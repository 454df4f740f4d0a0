"""Whether a new model is trained now, on what, and why: one pure function of a history and a policy.

Enters: a `RetrainingHistory`, read for now or for any moment of the past, and the policy's settings. Leaves: a
`Decision` with its reasons and numbers. Nothing is read or started here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from its_platform.settings import RetrainingSettings

Action = Literal["retrain", "train_first", "wait", "waiting_for_labels", "nothing"]
ACTIONS: tuple[Action, ...] = ("retrain", "train_first", "wait", "waiting_for_labels", "nothing")
TRAININGS: tuple[Action, ...] = ("retrain", "train_first")
# The database's clock and this one may differ by so much without anybody having set one of them.
CLOCK_TOLERANCE = timedelta(minutes=1)
A_DAY = timedelta(days=1)


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

    served_version: in production, None for none. newest_version: the newest that was trained, None for none.
    windows, drifted, needed, looked_at: judged windows of the served version among the last N, and K.
    drifted_since, drifted_until: the drifted windows together. reviewed_frames: frames fit to teach and to judge, of
    the drifted windows, or of all footage while nothing is served; reviewable_frames: those without a review that
    the simulated world's reviewer will do when asked. frames: all frames there. trainings_of_day: those decided for in
    the 24 hours before. trial: what is being found out in live traffic, a canary or an experiment, in words; empty for
    nothing.
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
    trainings_of_day: int = 0
    is_training: bool = False
    trial: str = ""

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
    if history.trial:
        # A canary was trained for what has drifted; and what is trained beside an experiment could not become one.
        return Decision("wait", [f"{history.trial}; a training waits for it."], numbers)
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
        return _at_most(history, settings, Decision(action, reasons, {**numbers, "attempt": 1}, window, key))
    if _left_of_cool_down(last, settings, now) > timedelta(0):
        return Decision(
            action, [*reasons, "It was asked for before."], {**numbers, "attempt": last.attempts}, window, last.key
        )
    if last.attempts >= settings.attempts:
        said = f"{last.attempts} trainings for this were started and none gave a model: a person has to look."
        return Decision("wait", [*reasons, said], numbers)
    attempt = last.attempts + 1
    said = f"The training started {_ago(now - last.at)} ago gave no model; attempt {attempt} of {settings.attempts}."
    key = f"{last.key.split('#')[0]}#{attempt}"
    return _at_most(history, settings, Decision(action, [*reasons, said], {**numbers, "attempt": attempt}, window, key))


def _at_most(history: RetrainingHistory, settings: RetrainingSettings, start: Decision) -> Decision:
    """The start, unless as many were decided for within a day as may be."""
    if history.trainings_of_day < settings.most_a_day:
        return start
    said = f"{history.trainings_of_day} trainings were started in the last 24 h; {settings.most_a_day} are allowed."
    return Decision("wait", [*start.reasons, said], start.numbers)


def _left_of_cool_down(last: EarlierTraining, settings: RetrainingSettings, now: datetime) -> timedelta:
    """What is left of the pause after a training; nothing where its time lies ahead.

    Then the clock was set back since, and how long ago it was cannot be known. Waiting for that time to come again
    could take years; a training too many is judged by its gates like any other.
    """
    cool_down = timedelta(seconds=settings.cool_down_s)
    if last.at - now > CLOCK_TOLERANCE:
        return timedelta(0)
    return min(last.at + cool_down - now, cool_down)


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
        "trainings_of_day": history.trainings_of_day,
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
