"""Which frames a version is made of: which of them may teach, which may judge, and why others are left out.

Frames and labels are read here and become manifest rows without a split; sharing them out is `splits`' work. What
no reviewed person or simulated truth has seen never judges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from its_platform.dataset.request import DatasetRequest
from its_platform.dataset.splits import Place
from its_platform.frames.erasure import without_erased
from its_platform.frames.index import FrameIndex
from its_platform.labels.labelling import FrameLabels
from its_platform.labels.store import box_as_dict, current_labels, frames_of
from its_platform.stores import Stores

COLUMNS = (
    "frame_hash",
    "object_key",
    "camera_id",
    "captured_at",
    "sequence",
    "width",
    "height",
    "light",
    "weather",
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """Rows by frame hash, and the frames that were left out, counted by reason."""

    rows: dict[str, Row]
    left_out: Counter[str]


def select_frames(stores: Stores, request: DatasetRequest, previous: Collection[str]) -> Selection:
    """Every frame that the request asks for and whose labels let it teach or judge.

    previous: hashes of the extended version's frames, which stay selected whatever cameras and times say.
    """
    index = FrameIndex(stores)
    tables = []
    if previous:
        tables.append(frames_of(stores, previous, COLUMNS))
    if request.window is not None:
        since, until = request.window
        found = index.query(cameras=_listed(request.cameras), since=since, until=until, columns=list(COLUMNS))
        tables.append(found[found["frame_hash"].isin(request.sample)] if request.sample else found)
    else:
        tables.append(
            index.query(
                cameras=_listed(request.cameras), since=request.since, until=request.until, columns=list(COLUMNS)
            )
        )
    frames = pd.concat(tables, ignore_index=True).sort_values(["camera_id", "captured_at", "frame_hash"])
    frames, erased = without_erased(stores, frames)
    # One picture may be stored under two cameras or times; it counts once, where it was seen first.
    frames = frames.drop_duplicates("frame_hash")
    labels = current_labels(stores, set(frames["frame_hash"]))
    rows: dict[str, Row] = {}
    left_out: Counter[str] = +Counter({"erased": erased.total()})
    for record in frames.to_dict("records"):
        entry = labels.get(record["frame_hash"])
        reason = _reason_against(entry, request)
        if reason or entry is None:
            left_out[reason or "no labels"] += 1
            continue
        rows[record["frame_hash"]] = _row(record, entry, request.classes)
    return Selection(rows, left_out)


def _listed(cameras: tuple[str, ...] | None) -> list[str] | None:
    return None if cameras is None else list(cameras)


def _reason_against(entry: FrameLabels | None, request: DatasetRequest) -> str | None:
    if entry is None:
        return "no labels"
    missing = [name for name in request.classes if name not in entry.classes]
    if missing:
        return f"never looked for {', '.join(missing)}"
    if not entry.is_fit_to_judge and not request.include_model_labels:
        return "labels not reviewed"
    return None


def _row(record: Mapping[Any, Any], entry: FrameLabels, classes: tuple[str, ...]) -> Row:
    sequence = record["sequence"]
    light, weather = str(record["light"]), str(record["weather"])
    boxes = sorted(
        (box_as_dict(box) for box in entry.boxes if box.class_name in classes),
        key=lambda box: (box["class_name"], box["x1"], box["y1"], box["x2"], box["y2"]),
    )
    return {
        "frame_hash": str(record["frame_hash"]),
        "object_key": str(record["object_key"]),
        "camera_id": str(record["camera_id"]),
        "captured_at": pd.Timestamp(record["captured_at"]).tz_convert("UTC").isoformat(),
        "sequence": None if sequence is None or pd.isna(sequence) else int(sequence),
        "width": int(record["width"]),
        "height": int(record["height"]),
        "light": light,
        "weather": weather,
        "slice": slice_name(light, weather),
        "may_judge": entry.is_fit_to_judge,
        "boxes": boxes,
    }


def slice_name(light: str, weather: str) -> str:
    """`day`, `night+fog`: light, and weather where it is known to be other than clear."""
    return light if weather in ("clear", "unknown", "") else f"{light}+{weather}"


def place_of(row: Mapping[str, Any]) -> Place:
    """Where a manifest row lies on its camera's line."""
    sequence = row["sequence"]
    if sequence is not None and not pd.isna(sequence):
        return Place(row["frame_hash"], row["camera_id"], float(sequence), False, row["slice"])
    at = row["captured_at"]
    moment = at if isinstance(at, datetime) else datetime.fromisoformat(at)
    return Place(row["frame_hash"], row["camera_id"], moment.timestamp(), True, row["slice"])
