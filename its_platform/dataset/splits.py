"""Which split a block of frames goes to: pure, deterministic by seed, and sticky.

The unit is a camera's contiguous block of capture time (of numbering, where no time is known): neighbouring frames
of a fixed camera are nearly one picture, so a split by single frames would judge a model on what it learnt by
heart. Frames close to a block of another split are left out (the guard gap).

Blocks are shared out within a stratum (camera and condition), so that each stratum reaches each split once it has
enough blocks; strata with fewer are pooled by condition, then all together.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Split = Literal["train", "val", "test", "golden"]
SPLITS: tuple[Split, ...] = ("train", "val", "test", "golden")
JUDGES: frozenset[str] = frozenset({"val", "test", "golden"})
FIRST_SERVED: tuple[Split, ...] = ("train", "golden", "val", "test")
"""A pool's first blocks go to these in this order; what cannot be judged is worse than what has no test."""
ENOUGH_BLOCKS = 6
"""From here on a stratum is shared out by itself: with a block for each judge, half of it is left for training."""


@dataclass(frozen=True, slots=True)
class Spacing:
    """Lengths of blocks and guard gaps, in seconds where time is known and in frames where numbering is."""

    block_s: float
    guard_s: float
    block_frames: int
    guard_frames: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame lies on its camera's line. `at`: seconds since 1970, or the frame's number."""

    frame_hash: str
    camera_id: str
    at: float
    is_timed: bool
    stratum: str

    def block(self, spacing: Spacing) -> str:
        """Name of the block; it depends on the frame and the block length alone, so later footage cannot move it."""
        length = spacing.block_s if self.is_timed else spacing.block_frames
        return f"{self.camera_id}/{'t' if self.is_timed else 'n'}{int(self.at // length)}"

    @property
    def line(self) -> str:
        """Frames on different lines are never neighbours."""
        return f"{self.camera_id}/{'t' if self.is_timed else 'n'}"


def share_blocks(
    strata: Mapping[str, tuple[str, str]],
    shares: Mapping[str, Mapping[Split, float]],
    fixed: Mapping[str, Split],
    seed: int,
) -> dict[str, Split]:
    """Give each block a split.

    strata: block → (camera, condition). shares: block → share of each split, which need not sum to 1 (a block
    with an empty share for `golden` never goes there). fixed: blocks whose split is known; they count, and stay.
    """
    given: dict[str, Split] = {block: fixed[block] for block in strata if block in fixed}
    for blocks in _pools(strata).values():
        counted: Counter[Split] = Counter(given[block] for block in blocks if block in given)
        free = sorted((block for block in blocks if block not in given), key=lambda block: _rank(block, seed))
        for block in free:
            split = _next_split(counted, shares[block], len(blocks))
            given[block] = split
            counted[split] += 1
    return given


def _pools(strata: Mapping[str, tuple[str, str]]) -> dict[tuple[str, ...], list[str]]:
    """Blocks that are shared out together: by camera and condition, by condition, or all that is left."""
    left = sorted(strata)
    pools: dict[tuple[str, ...], list[str]] = {}
    for level in (2, 1):
        groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for block in left:
            camera, condition = strata[block]
            groups[(condition, camera)[:level]].append(block)
        pools.update({key: blocks for key, blocks in groups.items() if len(blocks) >= ENOUGH_BLOCKS})
        left = [block for blocks in groups.values() if len(blocks) < ENOUGH_BLOCKS for block in blocks]
    if left:
        pools[()] = sorted(left)
    return pools


def _next_split(counted: Counter[Split], shares: Mapping[Split, float], size: int) -> Split:
    """The split that is served first and has nothing yet, else the one that lacks most.

    In a pool of fewer than `ENOUGH_BLOCKS` the test split waits for its share: teaching needs the block more.
    """
    open_to: list[Split] = [split for split in FIRST_SERVED if shares.get(split, 0) > 0]
    for split in open_to:
        if not counted[split] and (split != "test" or size >= ENOUGH_BLOCKS):
            return split
    total = sum(shares[split] for split in open_to)
    number = sum(counted[split] for split in open_to) + 1
    return max(open_to, key=lambda split: shares[split] / total * number - counted[split])


def _rank(block: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{block}".encode()).hexdigest()


def keep_guard(
    places: Sequence[Place], wanted: Mapping[str, str], spacing: Spacing, first: Iterable[str] = ()
) -> set[str]:
    """Hashes of the frames that may stay: none lies within the guard gap of a frame of another split.

    wanted: frame → split (any name; frames that are only to be kept away from get one of their own). first: frames
    that stay whatever comes near; of the others a judging frame stays before a teaching one.
    """
    fixed = set(first)
    order = {"golden": 1, "test": 2, "val": 3, "train": 4}

    def rank(place: Place) -> tuple[int, float, str]:
        first_come = 0 if place.frame_hash in fixed else order.get(wanted[place.frame_hash], 0)
        return first_come, place.at, place.frame_hash

    kept: set[str] = set()
    # Line by line, which are never near each other: shorter sorts, and what is looked up lies close together.
    for line in _by_line(place for place in places if place.frame_hash in wanted):
        guard = spacing.guard_s if line[0].is_timed else spacing.guard_frames
        taken: dict[str, list[float]] = defaultdict(list)
        for place in sorted(line, key=rank):
            split = wanted[place.frame_hash]
            others = (times for name, times in taken.items() if name != split)
            if place.frame_hash in fixed or not any(_is_near(times, place.at, guard) for times in others):
                kept.add(place.frame_hash)
                insort(taken[split], place.at)
    return kept


def _by_line(places: Iterable[Place]) -> Iterable[list[Place]]:
    """The places of each line, in the order in which they come."""
    lines: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        lines[place.line].append(place)
    return lines.values()


def _is_near(times: list[float], at: float, guard: float) -> bool:
    """Whether a time lies at most `guard` away."""
    index = bisect_left(times, at - guard)
    return index < len(times) and times[index] <= at + guard


def guard_breaches(places: Sequence[Place], splits: Mapping[str, str], spacing: Spacing) -> list[tuple[str, str]]:
    """Pairs of neighbours on a line that lie in different splits and within the guard gap."""
    breaches = []
    for line in _by_line(place for place in places if place.frame_hash in splits):
        ordered = sorted(line, key=lambda place: place.at)
        for left, right in pairwise(ordered):
            guard = spacing.guard_s if left.is_timed else spacing.guard_frames
            if right.at - left.at <= guard and splits[left.frame_hash] != splits[right.frame_hash]:
                breaches.append((left.frame_hash, right.frame_hash))
    return breaches
