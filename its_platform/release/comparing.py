"""What production and a canary saw in the same live pictures, as evidence: blocks with disagreement and gain.

Enters: the pairs that the front logged, and the truth where there is one: reviewed labels of the same frame, or the
simulated world's own. Leaves: `Evidence`. The verdict on it is in `canary.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from its_platform.cameras import list_cameras
from its_platform.errors import NotFound
from its_platform.frames.index import FrameIndex
from its_platform.labels.store import current_labels
from its_platform.model.scoring import iou_matrix
from its_platform.release.canary import Block, Evidence
from its_platform.serving.pairs import Pair, collect_pairs, read_pairs
from its_platform.simulation import truth_at
from its_platform.stores import Stores

if TYPE_CHECKING:
    import numpy.typing as npt

SAME_IOU = 0.5


class NamedBox(Protocol):
    """A box in pixels with the name of its class."""

    @property
    def class_name(self) -> str: ...

    @property
    def x1(self) -> float: ...

    @property
    def y1(self) -> float: ...

    @property
    def x2(self) -> float: ...

    @property
    def y2(self) -> float: ...


Truth = dict[tuple[str, datetime], Sequence[NamedBox]]


def gather_evidence(stores: Stores, production: int, canary: int, since: datetime, step_since: datetime) -> Evidence:
    """Everything that was logged of two versions since the canary began, newly collected.

    step_since: when the canary got its present share. Raises `LogUnreadable`.
    """
    collect_pairs(stores)
    pairs = read_pairs(stores, production, canary, since)
    return evidence_of(pairs, truth_of(stores, pairs), step_since)


def evidence_of(pairs: Sequence[Pair], truth: Truth, step_since: datetime) -> Evidence:
    """The evidence in pairs; the blocks come in the order in which they were logged."""
    answered = [pair for pair in pairs if pair.production.problem is None]
    both = [pair for pair in answered if pair.canary.problem is None]
    blocks: dict[tuple[str, datetime, str], list[Pair]] = defaultdict(list)
    for pair in both:
        blocks[(pair.camera_id, pair.at.replace(second=0, microsecond=0), pair.light)].append(pair)
    return Evidence(
        blocks=tuple(_block(key, members, truth) for key, members in blocks.items()),
        blocks_now=sum(members[0].logged_at >= step_since for members in blocks.values()),
        pictures=len(pairs),
        failures=len(answered) - len(both),
        latency=_latency(both, step_since),
    )


def _latency(both: Sequence[Pair], step_since: datetime) -> tuple[tuple[list[float], list[float]], ...]:
    """Milliseconds of both versions in the same place; or of the same pictures, where a canary has all the traffic.

    There the canary is always asked first and production after it, while the next request may be under way: production
    is at a disadvantage, so that a canary that looks too slow beside it is.
    """
    now = [pair for pair in both if pair.logged_at >= step_since]
    if now and all(pair.answered_by == "canary" for pair in now):
        timed = [(a, b) for a, b in ((pair.production.ms, pair.canary.ms) for pair in now) if a and b]
        return (([a for a, _ in timed], [b for _, b in timed]),)
    places: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for pair in both:
        for place, side in enumerate((pair.production, pair.canary)):
            was_waited_for = pair.answered_by == ("production", "canary")[place]
            if side.ms is not None:
                places["waited for" if was_waited_for else "asked after"][place].append(side.ms)
    return tuple(places.values())


def truth_of(stores: Stores, pairs: Sequence[Pair]) -> Truth:
    """What is known to be in the pictures; pictures of which nothing is known are missing.

    The simulated world knows at once. Of a real camera it is the reviewed labels of the frame of that moment.
    """
    simulated = {
        camera.camera_id: str(camera.source)
        for camera in list_cameras(stores)
        if str(camera.source).startswith("sim://")
    }
    moments = {(pair.camera_id, pair.at) for pair in pairs}
    found: Truth = {}
    for camera_id, at in moments:
        if camera_id in simulated:
            try:
                found[(camera_id, at)] = truth_at(stores.settings, simulated[camera_id], at)
            except NotFound:
                # The script of that world does not reach this moment.
                continue
    return found | _reviewed(stores, {moment for moment in moments if moment[0] not in simulated})


def f1_of(seen: Sequence[NamedBox], true: Sequence[NamedBox]) -> float:
    """F1 at IoU 0.5, class by class; two empty pictures agree wholly."""
    if not seen and not true:
        return 1.0
    hits = 0
    for name in {box.class_name for box in seen} & {box.class_name for box in true}:
        ours, theirs = (_corners(boxes, name) for boxes in (seen, true))
        overlap = iou_matrix(ours, theirs)
        while overlap.size and overlap.max() >= SAME_IOU:
            row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
            hits += 1
            overlap[row, :] = overlap[:, column] = 0
    return 2 * hits / (len(seen) + len(true))


def _block(key: tuple[str, datetime, str], pairs: Sequence[Pair], truth: Truth) -> Block:
    camera_id, minute, light = key
    gains = [
        f1_of(pair.canary.boxes, true) - f1_of(pair.production.boxes, true)
        for pair in pairs
        if (true := truth.get((pair.camera_id, pair.at))) is not None
    ]
    return Block(
        camera_id,
        minute,
        light,
        len(pairs),
        fmean(1 - f1_of(pair.canary.boxes, pair.production.boxes) for pair in pairs),
        fmean(gains) if gains else None,
    )


def _reviewed(stores: Stores, moments: set[tuple[str, datetime]]) -> Truth:
    if not moments:
        return {}
    times = [at for _, at in moments]
    frames = FrameIndex(stores).query(
        cameras=sorted({camera for camera, _ in moments}),
        since=min(times),
        columns=["camera_id", "captured_at", "frame_hash"],
    )
    at_moment = {
        row.frame_hash: (row.camera_id, row.captured_at.to_pydatetime())
        for row in frames.itertuples(index=False)
        if (row.camera_id, row.captured_at.to_pydatetime()) in moments
    }
    labels = current_labels(stores, list(at_moment), reviewed_only=True) if at_moment else {}
    return {at_moment[name]: entry.boxes for name, entry in labels.items() if entry.is_fit_to_judge}


def _corners(boxes: Sequence[NamedBox], name: str) -> npt.NDArray[Any]:
    return np.array([(box.x1, box.y1, box.x2, box.y2) for box in boxes if box.class_name == name], np.float32)
