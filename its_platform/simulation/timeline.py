"""The script of a simulated world: which light and weather ruled when, and so where footage exists.

Settings and a new segment enter, the `Timeline` in `home/simulation/timeline.json` leaves. Writing is atomic and
guarded by a lock, so that two processes that append at once both have their segment. Second 0 is `epoch`.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from its_platform.errors import BadInput, NotFound
from its_platform.simulation.renderer import SimulatedFrame, TruthBox, render, truth
from its_platform.simulation.traffic import Passage, passages
from its_platform.simulation.views import view_named
from its_platform.simulation.weather import check_conditions

if TYPE_CHECKING:
    from its_platform.settings import Settings

DEFAULT_EPOCH = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)
DEFAULT_SEED = 7


@dataclass(frozen=True)
class Segment:
    """Seconds `from_s` (inclusive) to `to_s` (exclusive) under one light and weather."""

    from_s: float
    to_s: float
    light: str
    weather: str


@dataclass(frozen=True)
class Timeline:
    epoch: datetime
    seed: int
    segments: tuple[Segment, ...]

    @property
    def end_s(self) -> float:
        return self.segments[-1].to_s if self.segments else 0.0

    @property
    def end(self) -> datetime:
        """Footage exists before this moment."""
        return self.epoch + timedelta(seconds=self.end_s)

    def at_s(self, moment: datetime) -> float:
        """Seconds since the epoch of an aware datetime. Raises `BadInput` for a naive one."""
        if moment.tzinfo is None:
            raise BadInput(f"The time {moment.isoformat()} has no zone.", "Give times in UTC.")
        return round((moment - self.epoch).total_seconds(), 6)

    def moment(self, at_s: float) -> datetime:
        return self.epoch + timedelta(seconds=at_s)

    def segment_at(self, at_s: float) -> Segment:
        """The segment that holds at a second. Raises `NotFound` where there is no footage."""
        for segment in self.segments:
            if segment.from_s <= at_s < segment.to_s:
                return segment
        raise NotFound(f"The simulated world has no footage at {at_s:.1f} s.", "Append a segment to its timeline.")


@dataclass(frozen=True)
class Address:
    """A simulated camera's source: `sim://<view>`, optionally `?seed=7` for another world, `@12.5s` for one frame."""

    view: str
    seed: int | None = None
    at_s: float | None = None


_ADDRESS = re.compile(
    r"sim://(?P<view>[\w-]+)/?(\?seed=(?P<seed>\d+))?(@(?P<at_s>\d+(\.\d+)?(e[+-]?\d+)?)s)?", re.ASCII
)


def parse_address(source: str) -> Address:
    """Read a `sim://` address. Raises `BadInput` for a wrong one, `NotFound` for an unknown view."""
    found = _ADDRESS.fullmatch(source)
    if not found:
        hint = "Write sim://junction or sim://junction?seed=7."
        raise BadInput(f"{source!r} is no address of a simulated camera.", hint)
    view_named(found["view"])
    seed, at_s = found["seed"], found["at_s"]
    return Address(found["view"], int(seed) if seed else None, float(at_s) if at_s else None)


def timeline_path(settings: Settings) -> Path:
    return settings.home / "simulation" / "timeline.json"


def read_timeline(settings: Settings) -> Timeline:
    """The timeline as it stands; an empty one where nobody has written yet. Raises `BadInput` if it is broken."""
    path = timeline_path(settings)
    if not path.exists():
        return Timeline(DEFAULT_EPOCH, DEFAULT_SEED, ())
    try:
        data = json.loads(path.read_text())
        segments = tuple(Segment(**segment) for segment in data["segments"])
        return Timeline(datetime.fromisoformat(data["epoch"]), int(data["seed"]), segments)
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"The timeline {path} cannot be read: {error}.", "Remove it to begin a new world.") from error


def create_timeline(settings: Settings, epoch: datetime = DEFAULT_EPOCH, seed: int = DEFAULT_SEED) -> Timeline:
    """Begin a world without footage. One that is there is kept, and must have the same epoch and seed."""
    if epoch.tzinfo is None:
        raise BadInput("The epoch has no zone.", "Give it in UTC.")
    with _locked(settings):
        if timeline_path(settings).exists():
            there = read_timeline(settings)
            if (there.epoch, there.seed) != (epoch, seed):
                raise BadInput(
                    f"A world of seed {there.seed} that began at {there.epoch.isoformat()} is there already.",
                    f"Remove {timeline_path(settings)} to begin another.",
                )
            return there
        timeline = Timeline(epoch, seed, ())
        _write(settings, timeline)
        return timeline


def append_segment(settings: Settings, light: str, weather: str, seconds: float) -> Timeline:
    """Let `seconds` more pass under a light and a weather. Returns the timeline with them.

    Raises `BadInput` for unknown conditions or a length that is not positive.
    """
    check_conditions(light, weather)
    if not seconds > 0:
        raise BadInput(f"A segment of {seconds} s has no footage.", "Give a positive number of seconds.")
    with _locked(settings):
        there = read_timeline(settings)
        segment = Segment(there.end_s, there.end_s + float(seconds), light, weather)
        timeline = Timeline(there.epoch, there.seed, (*there.segments, segment))
        _write(settings, timeline)
        return timeline


def remove_timeline(settings: Settings) -> None:
    """Forget the world's footage."""
    timeline_path(settings).unlink(missing_ok=True)


@contextmanager
def _locked(settings: Settings) -> Iterator[None]:
    folder = timeline_path(settings).parent
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "timeline.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(settings: Settings, timeline: Timeline) -> None:
    data = {
        "epoch": timeline.epoch.isoformat(),
        "seed": timeline.seed,
        "segments": [asdict(segment) for segment in timeline.segments],
    }
    path = timeline_path(settings)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    with os.fdopen(handle, "w") as file:
        json.dump(data, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, path)


def _address(source: str) -> Address:
    return parse_address(source) if "://" in source else Address(source)


def frame_at(settings: Settings, source: str, captured_at: datetime) -> SimulatedFrame:
    """The frame of a view or a `sim://` address at a moment. Raises `NotFound` where there is no footage."""
    timeline, address = read_timeline(settings), _address(source)
    at_s = timeline.at_s(captured_at)
    segment = timeline.segment_at(at_s)
    seed = timeline.seed if address.seed is None else address.seed
    return render(address.view, seed, at_s, segment.light, segment.weather)


def truth_at(settings: Settings, source: str, captured_at: datetime) -> list[TruthBox]:
    """The exact boxes of a view or a `sim://` address at a moment. Raises `NotFound` where there is no footage."""
    timeline, address = read_timeline(settings), _address(source)
    at_s = timeline.at_s(captured_at)
    timeline.segment_at(at_s)
    return truth(address.view, timeline.seed if address.seed is None else address.seed, at_s)


def truth_passages(view: str, seed: int, from_s: float, to_s: float) -> list[Passage]:
    """Who passed which counting line (one a lane, named as the lane) when and how fast, in `[from_s, to_s)`."""
    seen = view_named(view)
    return passages(seen.layout, seed, seen.number, from_s, to_s)


def truth_counts(view: str, seed: int, from_s: float, to_s: float) -> dict[str, dict[str, int]]:
    """How many of each class passed each counting line in `[from_s, to_s)`: line -> class -> count."""
    counts: dict[str, dict[str, int]] = {lane.name: {} for lane in view_named(view).layout.lanes}
    for passage in truth_passages(view, seed, from_s, to_s):
        of_line = counts[passage.line]
        of_line[passage.class_name] = of_line.get(passage.class_name, 0) + 1
    return counts
