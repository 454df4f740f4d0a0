"""The log of predictions, in the Delta table `home/tables/predictions`: what served detectors said of live pictures.

What the rows mean for drift does not belong here; how they get from the front's spool into the table is in
`serving/log_table.py`.
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its_platform.serving.log_table import LogTable, LogUnreadable, day_of, moment_of, waiting

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from its_platform.settings import Settings
    from its_platform.stores import Stores

PICTURE_FIGURES = ("brightness", "contrast", "sharpness", "noise", "overexposed", "underexposed")
COLUMNS = (
    "row_key",
    "spool_file",
    "line",
    "at",
    "logged_at",
    "camera_id",
    "model",
    "version",
    "stage",
    "purpose",
    "width",
    "height",
    "counts",
    "n",
    "mean_confidence",
    "confidences",
    "box_areas",
    *PICTURE_FIGURES,
    "light",
    "embedding",
    "embedder",
    "latency_ms",
    "is_cached",
    "day",
)


def table_path(stores: Stores) -> Path:
    """Folder of the Delta table."""
    return stores.tables / "predictions"


def collect(stores: Stores) -> int:
    """Move every finished spool file into the table, each row once; returns the number of rows added."""
    return _table(stores).collect(stores)


def refused_lines(stores: Stores) -> int:
    """How many lines of the log were set aside because they could not be read."""
    folder = stores.settings.spool / "refused"
    return sum(len(file.read_text("utf-8").splitlines()) for file in folder.glob("*.jsonl"))


def waiting_rows(settings: Settings) -> int:
    """How many lines wait in finished spool files."""
    return sum(content.count(b"\n") for content in waiting(settings.spool))


def lost_rows(stores: Stores) -> int:
    """How many log rows the front itself had to drop (its spool was full), as it counted them in `lost.json`."""
    file = stores.settings.spool / "lost.json"
    if not file.exists():
        return 0
    try:
        return int(json.loads(file.read_text("utf-8"))["lost"])
    except (ValueError, KeyError, TypeError) as error:
        raise LogUnreadable(f"The count of lost rows in {file} cannot be read.", "Look at the file.") from error


def query(
    stores: Stores,
    since: datetime | None = None,
    until: datetime | None = None,
    cameras: Sequence[str] | None = None,
    purpose: str | None = None,
    version: int | None = None,
    columns: Sequence[str] | None = None,
    canary: bool = True,
    logged_since: datetime | None = None,
) -> pd.DataFrame:
    """Logged rows with `since <= at < until`, oldest first; `counts` is a dict in each row.

    canary: False leaves out what a version answered while it was on trial. logged_since: leaves out what was logged
    before, whenever it was captured. A table that does not exist yet gives an empty frame with the same columns. Raises
    `LogUnreadable`.
    """
    import pyarrow.dataset as ds

    wanted = list(columns or COLUMNS)
    conditions = _conditions(ds, since, until, cameras, purpose, version)
    if not canary:
        conditions.append(ds.field("stage") != "canary")
    if logged_since is not None:
        conditions.append(ds.field("logged_at") >= logged_since.astimezone(UTC))
    keep = _all_of(conditions)
    needed = list(dict.fromkeys([*wanted, "at", "camera_id", "row_key"]))
    rows = _table(stores).read(needed, keep).to_pandas()
    rows = rows.sort_values(["at", "camera_id", "row_key"], ignore_index=True)
    if "counts" in rows:
        rows["counts"] = rows["counts"].map(json.loads)
    return rows[wanted]


def tally(stores: Stores) -> list[dict[str, Any]]:
    """Rows by model version, stage and purpose: version, stage, purpose, rows, first and last capture time, and when
    the first and the last were logged."""
    import pyarrow as pa

    by = ["version", "stage", "purpose"]
    rows = _table(stores).read([*by, "at", "logged_at"])
    asked = [("at", "count"), ("at", "min"), ("at", "max"), ("logged_at", "min"), ("logged_at", "max")]
    counted = pa.TableGroupBy(rows, by).aggregate(asked)
    return [
        {
            **{name: row[name] for name in by},
            "rows": row["at_count"],
            "first": row["at_min"],
            "last": row["at_max"],
            "logged_first": row["logged_at_min"],
            "logged_last": row["logged_at_max"],
        }
        for row in counted.sort_by([(name, "ascending") for name in by]).to_pylist()
    ]


def latest(stores: Stores, purpose: str, version: int) -> datetime | None:
    """Capture time of the newest row of this purpose and version, or None where there is none."""
    rows = query(stores, purpose=purpose, version=version, columns=["at"])
    return None if rows.empty else rows["at"].max().to_pydatetime()


def _table(stores: Stores) -> LogTable:
    return LogTable("predictions", stores.settings.spool, table_path(stores), _schema(), _row)


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    logged_at = moment_of(entry["logged_at"]) if entry.get("logged_at") else None
    at = moment_of(entry["at"]) if entry.get("at") else logged_at
    if at is None:
        raise ValueError("neither at nor logged_at")
    counts = {str(name): int(n) for name, n in (entry.get("counts") or {}).items()}
    row: dict[str, Any] = {
        "at": at,
        "logged_at": logged_at,
        "camera_id": str(entry["camera_id"]),
        "model": str(entry["model"]),
        "version": int(entry["version"]),
        "stage": str(entry.get("stage") or ""),
        "purpose": str(entry["purpose"]),
        "counts": json.dumps(counts, sort_keys=True),
        "n": int(entry["n"]) if entry.get("n") is not None else sum(counts.values()),
        "light": str(entry.get("light") or "unknown"),
        "embedder": entry.get("embedder") or None,
        "is_cached": bool(entry.get("is_cached")),
    }
    for name in ("width", "height"):
        row[name] = None if entry.get(name) is None else int(entry[name])
    for name in ("mean_confidence", "latency_ms", *PICTURE_FIGURES):
        row[name] = None if entry.get(name) is None else float(entry[name])
    for name in ("confidences", "box_areas", "embedding"):
        row[name] = [float(value) for value in entry.get(name) or []]
    return row


def _conditions(
    ds: Any,
    since: datetime | None,
    until: datetime | None,
    cameras: Sequence[str] | None,
    purpose: str | None,
    version: int | None,
) -> list[Any]:
    conditions = []
    # The day beside the time lets whole files be left unread.
    if since is not None:
        conditions += [ds.field("day") >= day_of(since), ds.field("at") >= since.astimezone(UTC)]
    if until is not None:
        conditions += [ds.field("day") <= day_of(until), ds.field("at") < until.astimezone(UTC)]
    if cameras is not None:
        conditions.append(ds.field("camera_id").isin(list(cameras)))
    if purpose is not None:
        conditions.append(ds.field("purpose") == purpose)
    if version is not None:
        conditions.append(ds.field("version") == version)
    return conditions


def _all_of(conditions: list[Any]) -> Any:
    return functools.reduce(operator.and_, conditions) if conditions else None


def _schema() -> pa.Schema:
    import pyarrow as pa

    moment, floats = pa.timestamp("us", tz="UTC"), pa.list_(pa.float32())
    special = {
        "line": pa.int32(),
        "at": moment,
        "logged_at": moment,
        "version": pa.int32(),
        "width": pa.int32(),
        "height": pa.int32(),
        "n": pa.int32(),
        "mean_confidence": pa.float64(),
        "confidences": floats,
        "box_areas": floats,
        **dict.fromkeys(PICTURE_FIGURES, pa.float64()),
        "embedding": floats,
        "latency_ms": pa.float64(),
        "is_cached": pa.bool_(),
    }
    return pa.schema([(name, special.get(name, pa.string())) for name in COLUMNS])
