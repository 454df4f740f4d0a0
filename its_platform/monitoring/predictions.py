"""The log of predictions: from the front's spool into a Delta table, each row exactly once.

In come finished `*.jsonl` files (a file that is still written ends in `.part` and is left alone); out come rows of
`home/tables/predictions`, partitioned by day of capture. A line that cannot be read is set aside in `spool/refused`
with its reason. What the rows mean for drift does not belong here.
"""

from __future__ import annotations

import functools
import json
import logging
import operator
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its_platform.errors import TransientError
from its_platform.stores.objects import no_room

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from its_platform.settings import Settings
    from its_platform.stores import Stores

log = logging.getLogger(__name__)

FILES_PER_COMMIT = 200
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


class PredictionsUnreadable(TransientError):
    """The table of predictions is there but cannot be read: never the same as an empty one."""


def table_path(stores: Stores) -> Path:
    """Folder of the Delta table."""
    return stores.tables / "predictions"


def collect(stores: Stores) -> int:
    """Move every finished spool file into the table; returns the number of rows added.

    The rows of a file enter in one commit, and the file is removed only after it. A crash between the two leaves
    the file behind; its name is in the table, so that the next call removes it without adding it again. One
    collector works at a time (advisory lock `predictions`).
    """
    spool = stores.settings.spool
    if not _finished(spool):
        return 0
    added = 0
    with stores.database.lock("predictions"):
        files = _finished(spool)
        for start in range(0, len(files), FILES_PER_COMMIT):
            added += _collect_files(stores, files[start : start + FILES_PER_COMMIT])
    return added


def refused_lines(stores: Stores) -> int:
    """How many lines of the log were set aside because they could not be read."""
    folder = stores.settings.spool / "refused"
    return sum(len(file.read_text("utf-8").splitlines()) for file in folder.glob("*.jsonl"))


def waiting_rows(settings: Settings) -> int:
    """How many lines wait in finished spool files."""
    return sum(file.read_bytes().count(b"\n") for file in _finished(settings.spool))


def lost_rows(stores: Stores) -> int:
    """How many log rows the front itself had to drop (its spool was full), as it counted them in `lost.json`."""
    file = stores.settings.spool / "lost.json"
    if not file.exists():
        return 0
    try:
        return int(json.loads(file.read_text("utf-8"))["lost"])
    except (ValueError, KeyError, TypeError) as error:
        raise PredictionsUnreadable(f"The count of lost rows in {file} cannot be read.", "Look at the file.") from error


def query(
    stores: Stores,
    since: datetime | None = None,
    until: datetime | None = None,
    cameras: Sequence[str] | None = None,
    purpose: str | None = None,
    version: int | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Logged rows with `since <= at < until`, oldest first; `counts` is a dict in each row.

    A table that does not exist yet gives an empty frame with the same columns. Raises `PredictionsUnreadable`.
    """
    import pyarrow.dataset as ds

    path = table_path(stores)
    wanted = list(columns or COLUMNS)
    if not _table_exists(path):
        return _schema().empty_table().select(wanted).to_pandas()
    keep = _all_of(_conditions(ds, since, until, cameras, purpose, version))
    needed = list(dict.fromkeys([*wanted, "at", "camera_id", "row_key"]))
    rows = _read(path, columns=needed, keep=keep).to_pandas()
    rows = rows.sort_values(["at", "camera_id", "row_key"], ignore_index=True)
    if "counts" in rows:
        rows["counts"] = rows["counts"].map(json.loads)
    return rows[wanted]


def tally(stores: Stores) -> list[dict[str, Any]]:
    """Rows by model version, stage and purpose: version, stage, purpose, rows, first and last capture time, and when
    the first and the last were logged."""
    import pyarrow as pa

    path = table_path(stores)
    if not _table_exists(path):
        return []
    by = ["version", "stage", "purpose"]
    rows = _read(path, columns=[*by, "at", "logged_at"], keep=None)
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


def _finished(spool: Path) -> list[Path]:
    return sorted(spool.glob("*.jsonl"))


def _collect_files(stores: Stores, files: list[Path]) -> int:
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    for file in files:
        good, broken = _parse(file)
        rows.extend(good)
        if broken:
            _set_aside(file, broken)
    days = {row["day"] for row in rows}
    known = _already_stored(stores, "spool_file", [file.name for file in files], days)
    unknown = [row for row in rows if row["spool_file"] not in known]
    # A request that was sent again, since its answer was lost on the way, was logged twice and is one row.
    again = _already_stored(stores, "row_key", [row["row_key"] for row in unknown], days)
    fresh = list({row["row_key"]: row for row in reversed(unknown) if row["row_key"] not in again}.values())[::-1]
    if fresh:
        _append(table_path(stores), pa.Table.from_pylist(fresh, schema=_schema()))
    for file in files:
        file.unlink()
    return len(fresh)


def _parse(file: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    good, broken = [], []
    for number, text in enumerate(file.read_text("utf-8", errors="replace").splitlines(), start=1):
        if not text.strip():
            continue
        try:
            good.append(_row(json.loads(text), file.name, number))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            broken.append({"line": number, "reason": f"{type(error).__name__}: {error}", "text": text})
    return good, broken


def _row(entry: dict[str, Any], file: str, number: int) -> dict[str, Any]:
    logged_at = _time(entry["logged_at"]) if entry.get("logged_at") else None
    at = _time(entry["at"]) if entry.get("at") else logged_at
    if at is None:
        raise ValueError("neither at nor logged_at")
    counts = {str(name): int(n) for name, n in (entry.get("counts") or {}).items()}
    row: dict[str, Any] = {
        "row_key": str(entry.get("request") or f"{file}:{number}"),
        "spool_file": file,
        "line": number,
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
        "day": _day(at),
    }
    for name in ("width", "height"):
        row[name] = None if entry.get(name) is None else int(entry[name])
    for name in ("mean_confidence", "latency_ms", *PICTURE_FIGURES):
        row[name] = None if entry.get(name) is None else float(entry[name])
    for name in ("confidences", "box_areas", "embedding"):
        row[name] = [float(value) for value in entry.get(name) or []]
    return row


def _set_aside(file: Path, broken: list[dict[str, Any]]) -> None:
    folder = file.parent / "refused"
    folder.mkdir(exist_ok=True)
    partial = folder / f"{file.name}.part"
    partial.write_text("".join(json.dumps(line) + "\n" for line in broken), "utf-8")
    os.replace(partial, folder / file.name)
    log.warning(
        "%d of the lines of %s cannot be read (first: line %d, %s); set aside in %s.",
        len(broken),
        file.name,
        broken[0]["line"],
        broken[0]["reason"],
        folder,
    )


def _already_stored(stores: Stores, column: str, values: list[str], days: set[str]) -> set[str]:
    """Which of these values a column of the table has, looked for only in the days that the rows have."""
    import pyarrow.dataset as ds

    path = table_path(stores)
    if not days or not values or not _table_exists(path):
        return set()
    keep = ds.field("day").isin(sorted(days)) & ds.field(column).isin(values)
    return set(_read(path, columns=[column], keep=keep)[column].to_pylist())


def _append(path: Path, table: pa.Table) -> None:
    from deltalake import write_deltalake
    from deltalake.exceptions import DeltaError

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_deltalake(str(path), table, mode="append", schema_mode="merge", partition_by=["day"], name="predictions")
    except (DeltaError, OSError) as error:
        raise no_room(path, error) or PredictionsUnreadable(
            f"The log cannot be added to the table of predictions: {error}.", "The spool files are kept; try again."
        ) from error


def _table_exists(path: Path) -> bool:
    if not path.exists() or not any(path.iterdir()):
        return False
    if not (path / "_delta_log").is_dir():
        raise PredictionsUnreadable(f"{path} holds files but no Delta log.", "Restore the folder `_delta_log`.")
    return True


def _read(path: Path, columns: Sequence[str], keep: Any) -> pa.Table:
    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        table = DeltaTable(str(path))
        there = {field.name for field in table.schema().fields}
        found = table.to_pyarrow_table(columns=[name for name in columns if name in there], filters=keep)
        for field in [field for field in _schema() if field.name in columns and field.name not in there]:
            # The table is older than the column.
            found = found.append_column(field, pa.nulls(len(found), field.type))
        return found
    except (DeltaError, pa.ArrowException, OSError) as error:
        raise PredictionsUnreadable(
            f"The table of predictions cannot be read: {error}.", f"Look at {path}; nothing was changed."
        ) from error


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
        conditions += [ds.field("day") >= _day(since), ds.field("at") >= since.astimezone(UTC)]
    if until is not None:
        conditions += [ds.field("day") <= _day(until), ds.field("at") < until.astimezone(UTC)]
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


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d")
