"""The values of the labels stage: a box, the labelling of one frame, what was refused and why.

Pure: nothing here reads or writes. A labelling is the complete answer to "where is each object of these classes
in this frame"; a frame without any object is a labelling without boxes, which is not the same as no labelling.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal, get_args

from its_platform.errors import BadInput

Origin = Literal["human", "imported", "model", "simulated"]
Review = Literal["unreviewed", "reviewed"]

EDGE_TOLERANCE_PX = 1.0
"""Formats that store rounded shares of the picture put a box on the border up to this far outside."""

MINIMUM_SIDE_PX = 1.0


@dataclass(frozen=True, slots=True)
class Box:
    """One object. Corners in pixels of the frame as it is stored; x1 < x2 and y1 < y2."""

    class_name: str
    x1: float
    y1: float
    x2: float
    y2: float
    origin: Origin = "human"
    review: Review = "unreviewed"
    confidence: float = 1.0

    @property
    def corners(self) -> tuple[float, float, float, float]:
        return self.x1, self.y1, self.x2, self.y2


@dataclass(frozen=True, slots=True)
class FrameLabels:
    """One labelling of one frame.

    classes: what was looked for; a class that is missing here is unknown in this frame, not absent from it.
    source: who or what made it (a file, a person, a digest of weights).
    review: state of the labelling as a whole, which an empty frame needs because it has no box to carry it.
    """

    frame_hash: str
    boxes: tuple[Box, ...]
    classes: tuple[str, ...]
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    source: str = ""
    review: Review = "unreviewed"

    @property
    def is_reviewed(self) -> bool:
        """Someone has looked at the frame and at each box."""
        return self.review == "reviewed" and all(box.review == "reviewed" for box in self.boxes)

    @property
    def is_fit_to_judge(self) -> bool:
        """Reviewed, and no box is a model's own opinion (accepting a model's box makes it a human's)."""
        return self.is_reviewed and all(box.origin != "model" for box in self.boxes)

    @property
    def content(self) -> str:
        """SHA-256 of everything but time and source: two labellings of one content say the same thing."""
        boxes = [
            [b.class_name, *(round(float(v), 2) for v in b.corners), b.origin, b.review, round(float(b.confidence), 4)]
            for b in self.boxes
        ]
        said = [self.frame_hash, sorted(self.classes), self.review, sorted(boxes)]
        return hashlib.sha256(json.dumps(said, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that was kept out. `frame`: hash or file name; `box`: number from 0, None for the whole frame."""

    frame: str
    box: int | None
    reason: str

    def __str__(self) -> str:
        where = self.frame if self.box is None else f"{self.frame} box {self.box}"
        return f"{where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class LabelResult:
    """What became of labellings that were handed in, counted in frames; `boxes` by class, added or unchanged."""

    added: int
    unchanged: int = 0
    refused: tuple[Refusal, ...] = ()
    boxes: dict[str, int] = field(default_factory=dict)

    def with_refusals(self, earlier: Iterable[Refusal]) -> LabelResult:
        """The same result with the refusals of an earlier step (a reader's) put first."""
        return replace(self, refused=(*earlier, *self.refused))

    def with_later(self, later: LabelResult) -> LabelResult:
        """Both together, of two commits."""
        boxes = Counter(self.boxes) + Counter(later.boxes)
        return LabelResult(
            self.added + later.added,
            self.unchanged + later.unchanged,
            (*self.refused, *later.refused),
            dict(boxes.most_common()),
        )


def box_faults(labels: FrameLabels, width: int, height: int) -> list[Refusal]:
    """Each box that cannot be: not a number, outside the picture, without area, there twice, of an unknown class."""
    faults: list[Refusal] = []
    seen: set[tuple[object, ...]] = set()
    for number, box in enumerate(labels.boxes):
        reason = _fault(box, labels.classes, width, height)
        said = (box.class_name, *box.corners)
        if reason is None and said in seen:
            reason = "the same box stands there twice"
        seen.add(said)
        if reason:
            faults.append(Refusal(labels.frame_hash, number, reason))
    return faults


def _fault(box: Box, classes: tuple[str, ...], width: int, height: int) -> str | None:
    x1, y1, x2, y2 = box.corners
    low, high = -EDGE_TOLERANCE_PX, EDGE_TOLERANCE_PX
    if not all(math.isfinite(v) for v in (*box.corners, box.confidence)):
        return "a coordinate or the confidence is not a finite number"
    if box.class_name not in classes:
        return f"class {box.class_name!r} is not among {', '.join(classes) or 'no classes at all'}"
    if box.origin not in get_args(Origin):
        return f"origin {box.origin!r} is not one of {', '.join(get_args(Origin))}"
    if box.review not in get_args(Review):
        return f"review state {box.review!r} is not one of {', '.join(get_args(Review))}"
    if not 0 <= box.confidence <= 1:
        return f"confidence {box.confidence:g} is not between 0 and 1"
    if x1 < low or y1 < low or x2 > width + high or y2 > height + high:
        return f"({x1:.1f}, {y1:.1f}, {x2:.1f}, {y2:.1f}) lies outside the picture of {width}x{height}"
    if min(x2, width) - max(x1, 0) < MINIMUM_SIDE_PX or min(y2, height) - max(y1, 0) < MINIMUM_SIDE_PX:
        return f"({x1:.1f}, {y1:.1f}, {x2:.1f}, {y2:.1f}) is thinner than {MINIMUM_SIDE_PX:g} px"
    return None


def clip(labels: FrameLabels, width: int, height: int) -> FrameLabels:
    """The labelling with each box cut at the picture's border and rounded to 0.01 px."""
    boxes = tuple(
        replace(
            box,
            x1=round(max(0.0, box.x1), 2),
            y1=round(max(0.0, box.y1), 2),
            x2=round(min(float(width), box.x2), 2),
            y2=round(min(float(height), box.y2), 2),
        )
        for box in labels.boxes
    )
    return replace(labels, boxes=boxes)


def rename_classes(
    labels: FrameLabels, mapping: Mapping[str, str], dropped: Collection[str] = frozenset()
) -> FrameLabels:
    """The labelling with its classes renamed; two may become one, and dropped ones (old names) were never there."""
    kept = [name for name in labels.classes if name not in dropped]
    classes = tuple(dict.fromkeys(mapping.get(name, name) for name in kept))
    boxes = tuple(
        replace(box, class_name=mapping.get(box.class_name, box.class_name))
        for box in labels.boxes
        if box.class_name not in dropped
    )
    return replace(labels, boxes=boxes, classes=classes)


def check_class_names(named: Iterable[str], known: Iterable[str]) -> None:
    """Raise `BadInput` for a class that is to be renamed or dropped and that nothing has: it is mistyped."""
    there = list(dict.fromkeys(known))
    unknown = [name for name in named if name not in there]
    if unknown:
        shown = ", ".join(there[:20]) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
        raise BadInput(f"There is no class {unknown[0]!r} to map or drop.", f"There are: {shown or 'none'}.")


def check_looked_for(labels: Iterable[FrameLabels], classes: Collection[str]) -> None:
    """Raise `BadInput` where one of the classes was never looked for in some frame.

    Label files have one list of classes for all frames, and would say that there is none of it.
    """
    missing = [missed for entry in labels if (missed := [name for name in classes if name not in entry.classes])]
    if missing:
        raise BadInput(
            f"In {len(missing)} of these frames nobody looked for {', '.join(missing[0])}.",
            "Export cameras apart (--camera), or only the classes that all frames have (--classes).",
        )


def read_mapping(pairs: Iterable[str]) -> dict[str, str]:
    """`["vehicle=car"]` as a dictionary. Raises `BadInput` for anything else."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        old, separator, new = pair.partition("=")
        if not separator or not old.strip() or not new.strip():
            raise BadInput(f"{pair!r} is no class mapping.", "Write it as old=new, for example vehicle=car.")
        mapping[old.strip()] = new.strip()
    return mapping
