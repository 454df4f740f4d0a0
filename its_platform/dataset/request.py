"""What is asked of a dataset version. Values only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from its_platform.errors import BadInput, PermanentError


class NoReviewedLabels(PermanentError):
    """Nothing that was selected has reviewed labels: the state is `waiting_for_labels`, not a dataset."""


@dataclass(frozen=True)
class DatasetRequest:
    """Which frames a version is made of, and how.

    classes: ordered class list; boxes of other classes are left out, and so is a frame in which one of these was
        never looked for.
    cameras, since, until: the selection; `until` is exclusive. None (or nothing listed) selects all.
    previous: version to extend: its frames keep their split, its settings of blocks stay in force.
    window: a drifted window (since, until). Only its frames are added to the previous version's, and `judge_share`
        of its blocks may only judge.
    judge_blocks: with a window, which of its blocks judge: drawn at `random`, or the `latest`, so that a model is
        judged on what came after all that it learnt of the window.
    sample: with a window, the frames that were drawn for review; empty takes each reviewed frame of the window.
    include_model_labels: frames whose only labels are a model's or unreviewed may teach (never judge).
    """

    classes: tuple[str, ...]
    cameras: tuple[str, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None
    previous: str | None = None
    window: tuple[datetime, datetime] | None = None
    judge_blocks: Literal["random", "latest"] = "random"
    sample: tuple[str, ...] = ()
    include_model_labels: bool = False

    def __post_init__(self) -> None:
        if not self.cameras:
            object.__setattr__(self, "cameras", None)
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise BadInput("A dataset needs at least one class, each once.", "Name them with --classes car,truck.")
        if self.window is not None and self.previous is None:
            raise BadInput(
                "A drifted window extends a dataset version.", "Name the version that the served model learnt from."
            )
        times = [self.since, self.until, *(self.window or ())]
        if any(time is not None and time.tzinfo is None for time in times):
            raise BadInput("A time without a time zone could be any hour.", "Write it as 2026-01-31T06:00:00Z.")
        if self.window is not None and self.window[0] >= self.window[1]:
            raise BadInput("The drifted window ends before it begins.", "Swap since and until.")

    def described(self) -> dict[str, Any]:
        """The request as JSON: times in UTC, the sample by its size alone."""
        fields = asdict(self)
        fields["sample"] = len(self.sample)
        for name in ("since", "until"):
            fields[name] = _utc(fields[name])
        fields["window"] = [_utc(time) for time in self.window] if self.window else None
        return fields


def _utc(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat()
