"""The table of labels: append only, one row a labelling of a frame; a later row supersedes an earlier one.

Labellings enter after validation against the index of frames; the ones in force leave. A labelling with any
refused box is kept out whole: without that box it would teach that the object is background, and no later step
could see it. What a labelling means lies in `labelling`, file formats in `formats`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds

from its_platform.errors import PermanentError
from its_platform.frames.index import FrameIndex
from its_platform.labels.labelling import Box, FrameLabels, LabelResult, Refusal, box_faults, clip
from its_platform.stores import Stores
from its_platform.stores.journal import Journal

if TYPE_CHECKING:
    import pandas as pd

BOX = pa.struct(
    [
        ("class_name", pa.string()),
        ("x1", pa.float64()),
        ("y1", pa.float64()),
        ("x2", pa.float64()),
        ("y2", pa.float64()),
        ("origin", pa.string()),
        ("review", pa.string()),
        ("confidence", pa.float64()),
    ]
)
SCHEMA = pa.schema(
    [
        ("frame_hash", pa.string()),
        ("content", pa.string()),
        ("review", pa.string()),
        ("is_reviewed", pa.bool_()),
        ("classes", pa.list_(pa.string())),
        ("boxes", pa.list_(BOX)),
        ("source", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        ("day", pa.string()),
    ]
)


class LabelsUnreadable(PermanentError):
    """The table is there and cannot be read: nothing may be concluded from it."""


def table_path(stores: Stores) -> Path:
    return stores.tables / "labels"


def add_labels(stores: Stores, labels: Iterable[FrameLabels], is_rehearsal: bool = False) -> LabelResult:
    """Store labellings; each one that cannot be used is listed and kept out, the others are stored in one commit.

    A labelling that says what the one in force of its review state already says adds nothing. Writers take turns
    by a database lock, so that the same labels added twice at once are stored once. A rehearsal gives the same
    result and stores nothing.
    """
    wanted = list(labels)
    sizes = _frame_sizes(stores, {entry.frame_hash for entry in wanted})
    usable: list[FrameLabels] = []
    refused: list[Refusal] = []
    for entry in wanted:
        if entry.frame_hash not in sizes:
            refused.append(Refusal(entry.frame_hash, None, "there is no such frame"))
            continue
        width, height = sizes[entry.frame_hash]
        told = f" ({entry.source})" if entry.source else ""
        faults = [replace(fault, reason=fault.reason + told) for fault in box_faults(entry, width, height)]
        refused.extend(faults)
        if not faults:
            usable.append(clip(entry, width, height))
    if not usable:
        return LabelResult(0, 0, tuple(refused))
    with stores.database.lock("labels"):
        added = _new_only(usable, _read(stores, {entry.frame_hash for entry in usable}))
        if added and not is_rehearsal:
            from deltalake import write_deltalake

            table_path(stores).parent.mkdir(parents=True, exist_ok=True)
            rows = pa.Table.from_pylist([_row(entry) for entry in added], schema=SCHEMA)
            with Journal(stores.settings).step("labels.added", _sources(added), **_told(added)):
                write_deltalake(str(table_path(stores)), rows, mode="append", partition_by=["day"])
    boxes = Counter(box.class_name for entry in usable for box in entry.boxes)
    return LabelResult(len(added), len(usable) - len(added), tuple(refused), dict(boxes.most_common()))


def _sources(added: Sequence[FrameLabels]) -> str:
    names = sorted({entry.source for entry in added if entry.source})
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _told(added: Sequence[FrameLabels]) -> dict[str, Any]:
    boxes = [box for entry in added for box in entry.boxes]
    return {
        "frames": len(added),
        "boxes": dict(Counter(box.class_name for box in boxes).most_common()),
        "origins": sorted({box.origin for box in boxes}),
        "reviewed": sum(entry.is_reviewed for entry in added),
    }


def current_labels(
    stores: Stores,
    frame_hashes: Collection[str] | None = None,
    reviewed_only: bool = False,
    by: datetime | None = None,
) -> dict[str, FrameLabels]:
    """The labelling in force of each frame that has one: the latest reviewed, else the latest.

    by: as it was at that moment; None for now.
    """
    latest = _latest(entry for entry in _read(stores, frame_hashes) if by is None or entry.created_at <= by)
    current: dict[str, FrameLabels] = {}
    for (frame_hash, is_reviewed), entry in latest.items():
        if is_reviewed or (not reviewed_only and (frame_hash, True) not in latest):
            current[frame_hash] = entry
    return current


def label_history(stores: Stores, frame_hash: str) -> list[FrameLabels]:
    """Each labelling that the frame ever had, oldest first."""
    return sorted(_read(stores, {frame_hash}), key=lambda entry: entry.created_at)


def label_statistics(stores: Stores, frame_hashes: Collection[str] | None = None) -> dict[str, Any]:
    """Counts over the labellings in force: frames, reviewed frames, boxes by class, by origin and by review."""
    current = current_labels(stores, frame_hashes)
    boxes = [box for entry in current.values() for box in entry.boxes]
    return {
        "frames": len(current),
        "reviewed_frames": sum(entry.is_reviewed for entry in current.values()),
        "frames_fit_to_judge": sum(entry.is_fit_to_judge for entry in current.values()),
        "empty_frames": sum(not entry.boxes for entry in current.values()),
        "boxes": len(boxes),
        "by_class": dict(Counter(box.class_name for box in boxes).most_common()),
        "by_origin": dict(Counter(box.origin for box in boxes).most_common()),
        "by_review": dict(Counter(box.review for box in boxes).most_common()),
    }


def frames_of(stores: Stores, frame_hashes: Collection[str], columns: Sequence[str]) -> pd.DataFrame:
    """Rows of the index of these frames; `columns` includes frame_hash.

    Hashes are picked here rather than by the index: they are spread evenly, so no file of it could be skipped.
    """
    found = FrameIndex(stores).query(columns=list(columns))
    return found[found["frame_hash"].isin(set(frame_hashes))].reset_index(drop=True)


def _frame_sizes(stores: Stores, frame_hashes: set[str]) -> dict[str, tuple[int, int]]:
    if not frame_hashes:
        return {}
    found = frames_of(stores, frame_hashes, ["frame_hash", "width", "height"])
    return {
        str(frame_hash): (int(width), int(height))
        for frame_hash, width, height in zip(found["frame_hash"], found["width"], found["height"], strict=True)
    }


def _new_only(wanted: Sequence[FrameLabels], stored: Iterable[FrameLabels]) -> list[FrameLabels]:
    """What says something new. Compared with the one in force alone, so that a return to earlier boxes counts."""
    latest = _latest(stored)
    said = {key: entry.content for key, entry in latest.items()}
    newest = {key: entry.created_at for key, entry in latest.items()}
    added: list[FrameLabels] = []
    for entry in wanted:
        key = (entry.frame_hash, entry.is_reviewed)
        if said.get(key) == entry.content:
            continue
        entry = _after(entry, newest.get(key))
        said[key], newest[key] = entry.content, entry.created_at
        added.append(entry)
    return added


def _after(entry: FrameLabels, earlier: datetime | None) -> FrameLabels:
    """The entry with a time after the one that it supersedes: the order of adding decides, not a slow clock."""
    if earlier is None or entry.created_at > earlier:
        return entry
    moved = earlier + timedelta(microseconds=1)
    return replace(entry, created_at=moved)


def _latest(entries: Iterable[FrameLabels]) -> dict[tuple[str, bool], FrameLabels]:
    latest: dict[tuple[str, bool], FrameLabels] = {}
    for entry in entries:
        key = (entry.frame_hash, entry.is_reviewed)
        if key not in latest or entry.created_at > latest[key].created_at:
            latest[key] = entry
    return latest


def _read(stores: Stores, frame_hashes: Collection[str] | None) -> list[FrameLabels]:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    path = table_path(stores)
    if not path.is_dir() or not any(path.iterdir()):
        return []
    wanted = None
    if frame_hashes is not None:
        # Without the cast Arrow compares the values with the files' statistics, which may be of a type that it cannot.
        wanted = ds.field("frame_hash").cast(pa.string()).isin(pa.array(sorted(frame_hashes), pa.string()))
    columns = ["frame_hash", "boxes", "classes", "created_at", "source", "review"]
    try:
        rows = DeltaTable(str(path)).to_pyarrow_dataset().to_table(columns=columns, filter=wanted).to_pylist()
    except (DeltaError, OSError, pa.ArrowException) as error:
        first = str(error).strip().split("\n")[0][:200]
        raise LabelsUnreadable(
            f"The labels at {path} cannot be read: {first}.", "Restore the folder from a backup."
        ) from error
    return [_entry(row) for row in rows]


def _row(entry: FrameLabels) -> dict[str, Any]:
    created = entry.created_at.astimezone(UTC)
    return {
        "frame_hash": entry.frame_hash,
        "content": entry.content,
        "review": entry.review,
        "is_reviewed": entry.is_reviewed,
        "classes": list(entry.classes),
        "boxes": [box_as_dict(box) for box in entry.boxes],
        "source": entry.source,
        "created_at": created,
        "day": created.strftime("%Y-%m-%d"),
    }


def box_as_dict(box: Box) -> dict[str, Any]:
    return {name: getattr(box, name) for name in Box.__slots__}


def _entry(row: dict[str, Any]) -> FrameLabels:
    return FrameLabels(
        frame_hash=row["frame_hash"],
        boxes=tuple(Box(**box) for box in row["boxes"] or ()),
        classes=tuple(row["classes"] or ()),
        created_at=row["created_at"].astimezone(UTC),
        source=row["source"],
        review=row["review"],
    )
