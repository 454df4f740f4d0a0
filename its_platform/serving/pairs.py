"""Pairs: live pictures of which production and a canary were both asked, in the Delta table `home/tables/pairs`.

The front writes them while there is a canary (`Pair` in its `prediction_log.py`), also where the canary failed and
production answered in its place. What they say about the canary is judged in `release/canary.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from its_platform.serving.log_table import LogTable, moment_of, waiting

if TYPE_CHECKING:
    import pyarrow as pa

    from its_platform.settings import Settings
    from its_platform.stores import Stores

SIDES = ("production", "canary")


@dataclass(frozen=True, slots=True)
class SeenBox:
    """A box above its threshold, in pixels of the picture."""

    class_name: str
    confidence: float
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class Side:
    """What one version answered. ms: how long its detector took, None where it failed with `problem`."""

    version: int
    boxes: tuple[SeenBox, ...]
    ms: float | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Both answers to one picture. answered_by: the stage that was drawn for it."""

    at: datetime
    logged_at: datetime
    camera_id: str
    light: str
    answered_by: str
    production: Side
    canary: Side


def collect_pairs(stores: Stores) -> int:
    """Move the finished spool files of pairs into their table, each row once; returns the number of rows added."""
    return _table(stores).collect(stores)


def waiting_pairs(settings: Settings) -> int:
    """How many pairs wait in finished spool files."""
    return sum(content.count(b"\n") for content in waiting(settings.pairs_spool))


def read_pairs(stores: Stores, production: int, canary: int, since: datetime) -> list[Pair]:
    """The pairs of two versions that were logged since a time, in that order. Raises `LogUnreadable`."""
    import pyarrow.dataset as ds

    keep = (ds.field("production") == production) & (ds.field("canary") == canary) & (ds.field("logged_at") >= since)
    columns = [name for name in _schema().names if name not in ("spool_file", "line", "day")]
    rows = (
        _table(stores).read(columns, keep).sort_by([("logged_at", "ascending"), ("row_key", "ascending")]).to_pylist()
    )
    return [
        Pair(
            at=row["at"],
            logged_at=row["logged_at"],
            camera_id=row["camera_id"],
            light=row["light"],
            answered_by=row["answered_by"],
            production=_side(row, "production"),
            canary=_side(row, "canary"),
        )
        for row in rows
    ]


def _side(row: dict[str, Any], stage: str) -> Side:
    boxes = tuple(SeenBox(**box) for box in row[f"{stage}_boxes"])
    return Side(row[stage], boxes, row[f"{stage}_ms"], row[f"{stage}_problem"])


def _table(stores: Stores) -> LogTable:
    return LogTable("pairs", stores.settings.pairs_spool, stores.tables / "pairs", _schema(), _row)


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "at": moment_of(entry["at"]),
        "logged_at": moment_of(entry["logged_at"]),
        **{name: str(entry[name]) for name in ("camera_id", "light", "answered_by")},
    }
    for stage in SIDES:
        row[stage] = int(entry[stage])
        row[f"{stage}_boxes"] = _boxes(entry[f"{stage}_boxes"])
        row[f"{stage}_ms"] = None if entry.get(f"{stage}_ms") is None else float(entry[f"{stage}_ms"])
        row[f"{stage}_problem"] = entry.get(f"{stage}_problem") or None
    return row


def _boxes(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    numbers = ("confidence", "x1", "y1", "x2", "y2")
    return [{"class_name": str(box["class_name"]), **{name: float(box[name]) for name in numbers}} for box in entries]


@cache
def _schema() -> pa.Schema:
    import pyarrow as pa

    moment = pa.timestamp("us", tz="UTC")
    numbers = ("confidence", "x1", "y1", "x2", "y2")
    box = pa.struct([("class_name", pa.string()), *((name, pa.float64()) for name in numbers)])
    sides = [
        field
        for stage in SIDES
        for field in (
            (stage, pa.int32()),
            (f"{stage}_boxes", pa.list_(box)),
            (f"{stage}_ms", pa.float64()),
            (f"{stage}_problem", pa.string()),
        )
    ]
    texts = [(name, pa.string()) for name in ("camera_id", "light", "answered_by")]
    keys = [("row_key", pa.string()), ("spool_file", pa.string()), ("line", pa.int32())]
    return pa.schema([*keys, ("at", moment), ("logged_at", moment), *texts, *sides, ("day", pa.string())])
