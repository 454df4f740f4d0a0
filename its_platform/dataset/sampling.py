"""Which frames of a drifted window a reviewer is asked to look at: a random sample, spread over cameras and blocks.

The same window, size and seed give the same frames as long as the window's footage is the same. Reviewing them and
splitting them come later.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

import pandas as pd

from its_platform.dataset.selection import COLUMNS, place_of, slice_name
from its_platform.dataset.splits import Place, Spacing
from its_platform.frames.index import FrameIndex
from its_platform.settings import DatasetSettings
from its_platform.stores import Stores


def sample_window(
    stores: Stores,
    since: datetime,
    until: datetime,
    n: int | None = None,
    seed: int | None = None,
    cameras: Sequence[str] | None = None,
) -> list[str]:
    """Hashes of at most `n` frames captured in `[since, until)`, `retraining.sample_frames` unless told."""
    settings = stores.settings
    frames = FrameIndex(stores).query(
        cameras=None if cameras is None else list(cameras), since=since, until=until, columns=list(COLUMNS)
    )
    size = settings.retraining.sample_frames if n is None else n
    return sample_frames(frames, size, settings.dataset, seed)


def sample_frames(frames: pd.DataFrame, n: int, settings: DatasetSettings, seed: int | None = None) -> list[str]:
    """The same of rows of the index, which need the columns of `selection.COLUMNS`."""
    places = [
        place_of({**row, "slice": slice_name(str(row["light"]), str(row["weather"]))})
        for row in frames.drop_duplicates("frame_hash").to_dict("records")
    ]
    return spread_sample(places, n, settings.seed if seed is None else seed, spacing_of(settings))


def spread_sample(places: Iterable[Place], n: int, seed: int, spacing: Spacing) -> list[str]:
    """Draw in turns: a camera, of it a block, of that a frame, each in an order that the seed gives. Pure."""
    cameras: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for place in places:
        cameras[place.camera_id][place.block(spacing)].append(place.frame_hash)
    queues = {
        camera: _in_turns([sorted(hashes, key=lambda h: _rank(h, seed)) for _, hashes in _shuffled(blocks, seed)])
        for camera, blocks in cameras.items()
    }
    drawn = _in_turns([queue for _, queue in _shuffled(queues, seed)])
    return sorted(drawn[:n])


def _shuffled(named: dict[str, list[str]], seed: int) -> list[tuple[str, list[str]]]:
    return sorted(named.items(), key=lambda item: _rank(item[0], seed))


def _in_turns(queues: Sequence[list[str]]) -> list[str]:
    longest = max(map(len, queues), default=0)
    return [queue[i] for i in range(longest) for queue in queues if i < len(queue)]


def _rank(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def spacing_of(settings: DatasetSettings) -> Spacing:
    return Spacing(settings.block_s, settings.guard_s, settings.block_frames, settings.guard_frames)
