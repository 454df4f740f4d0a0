"""The index of frames: one Delta table, a row a frame, keyed by camera, time of capture and content hash.

Enters: rows of frames whose objects already lie in the object store. Leaves: rows as a pandas DataFrame. Rows are only
ever added, each batch in one commit; a row that is there is not added again, however many ingests run at once. The
table is partitioned by day, never by camera. A table that is not there is empty; one that cannot be read is an error.
"""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from its_platform.errors import BadInput, NotFound, PermanentError, TransientError
from its_platform.stores.objects import no_room

if TYPE_CHECKING:
    import pandas as pd
    from deltalake import DeltaTable

    from its_platform.stores import Stores

SCHEMA = pa.schema(
    [
        pa.field("camera_id", pa.string(), nullable=False),
        pa.field("captured_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("frame_hash", pa.string(), nullable=False),
        pa.field("object_key", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("sequence", pa.int64()),
        pa.field("source", pa.string()),
        pa.field("light", pa.string()),
        pa.field("weather", pa.string()),
        pa.field("brightness", pa.float64()),
        pa.field("contrast", pa.float64()),
        pa.field("sharpness", pa.float64()),
        pa.field("noise", pa.float64()),
        pa.field("overexposed", pa.float64()),
        pa.field("underexposed", pa.float64()),
        pa.field("is_frozen", pa.bool_()),
        pa.field("ingested_at", pa.timestamp("us", tz="UTC")),
        pa.field("day", pa.string(), nullable=False),
    ]
)
COLUMNS = tuple(SCHEMA.names)
KEY = ("camera_id", "captured_at", "frame_hash")
COMMIT_ATTEMPTS = 8
LOCK = "frames.index"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FrameRow:
    """A row of the index; the figures are those of `frames.quality`."""

    camera_id: str
    captured_at: datetime
    frame_hash: str
    object_key: str
    width: int
    height: int
    sequence: int | None
    source: str
    light: str
    weather: str
    brightness: float
    contrast: float
    sharpness: float
    noise: float
    overexposed: float
    underexposed: float
    is_frozen: bool
    ingested_at: datetime

    @property
    def key(self) -> tuple[str, datetime, str]:
        return (self.camera_id, self.captured_at, self.frame_hash)


class IndexUnreadable(PermanentError):
    """The table is there and cannot be read: nothing may be concluded from it."""


class IndexBusy(TransientError):
    """Other writers won every attempt to commit."""


class FrameIndex:
    """The table at `tables/frames` of one set of stores."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.path = Path(stores.tables) / "frames"

    def add(self, rows: Sequence[FrameRow]) -> int:
        """Add the rows that are not there yet, all in one commit or none; how many were added.

        Raises `IndexUnreadable`, `IndexBusy`, `StorageFull`, and `BadInput` for a time without a zone.
        """
        if not rows:
            return 0
        batch = _table(rows)
        # The lock orders the writers; the merge itself still decides, should one write without the lock.
        with self.stores.database.lock(LOCK):
            for attempt in range(COMMIT_ATTEMPTS):
                try:
                    return self._merge(batch)
                except CommitConflict:
                    time.sleep(min(0.05 * 2**attempt, 2.0))
        raise IndexBusy(f"{COMMIT_ATTEMPTS} attempts to commit {len(rows)} frames met other writers.")

    def query(
        self,
        cameras: Iterable[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        hashes: Iterable[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Rows by camera, time (`since` included, `until` not) and hash, ordered by camera and time.

        Raises `IndexUnreadable`; an index that nobody has written yet gives no rows, with the right columns.
        """
        import pandas as pd

        wanted = list(columns) if columns is not None else list(COLUMNS)
        unknown = sorted(set(wanted) - set(COLUMNS))
        if unknown:
            raise BadInput(f"The index of frames has no column {', '.join(unknown)}.")
        order = [name for name in KEY if name not in wanted]
        table = self._read(wanted + order, since, until, _among(cameras, hashes))
        ordered = table.sort_by([("camera_id", "ascending"), ("captured_at", "ascending"), ("frame_hash", "ascending")])
        # A number that is missing must not make floats of all the others.
        return ordered.select(wanted).to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)

    def find(self, start_of_hash: str) -> dict[str, Any]:
        """The row of the frame whose hash begins so. Raises `NotFound`, and `BadInput` where several do."""
        table = self._read(list(COLUMNS), chosen=pc.starts_with(ds.field("frame_hash"), start_of_hash))
        rows = table.to_pylist()
        if not rows or not start_of_hash:
            raise NotFound(f"There is no frame {start_of_hash!r}.", "`its frames list` names them.")
        hashes = {row["frame_hash"] for row in rows}
        if len(hashes) > 1:
            raise BadInput(f"{len(hashes)} frames begin with {start_of_hash!r}.", "Give more of the hash.")
        return rows[0]

    def beginning(self, start_of_hash: str) -> list[str]:
        """The hashes that begin so, each once, in order."""
        table = self._read(["frame_hash"], chosen=pc.starts_with(ds.field("frame_hash"), start_of_hash))
        return sorted(set(table["frame_hash"].to_pylist()))

    def summary(self, since: datetime | None = None, until: datetime | None = None) -> list[dict[str, Any]]:
        """Counts, times and mean figures by camera, light and weather."""
        import duckdb

        columns = [name for name in COLUMNS if name not in ("object_key", "source", "day", "ingested_at")]
        frames = self._read(columns, since, until)
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.register("frames", frames)
            rows = (
                connection.sql(
                    """
                    SELECT camera_id, light, weather, count(*) AS frames,
                           epoch_us(min(captured_at)) AS first, epoch_us(max(captured_at)) AS last,
                           round(avg(brightness), 3) AS brightness, round(avg(contrast), 3) AS contrast,
                           round(avg(sharpness), 2) AS sharpness, round(avg(noise), 2) AS noise,
                           count(*) FILTER (is_frozen) AS frozen
                    FROM frames GROUP BY ALL ORDER BY camera_id, light, weather
                    """
                )
                .to_arrow_table()
                .to_pylist()
            )
        for row in rows:
            # DuckDB needs pytz to give times with a zone; microseconds need nothing.
            row["first"], row["last"] = (_EPOCH + timedelta(microseconds=row[name]) for name in ("first", "last"))
        return rows

    def count(self) -> int:
        """How many rows there are."""
        table = self._open()
        return 0 if table is None else int(table.to_pyarrow_dataset().count_rows())

    def version(self) -> int | None:
        """The number of the last commit, None before the first: changes exactly when rows were added."""
        table = self._open()
        return None if table is None else int(table.version())

    def optimize(self, keep_hours: int = 168) -> dict[str, Any]:
        """Put small files together, and remove those that no version of the last `keep_hours` needs."""
        table = self._open()
        if table is None:
            return {"files_added": 0, "files_removed": 0, "vacuumed": 0}
        with self.stores.database.lock(LOCK):
            table.update_incremental()
            done = table.optimize.compact()
            gone = table.vacuum(retention_hours=keep_hours, dry_run=False)
            table.create_checkpoint()
        return {
            "files_added": int(done["numFilesAdded"]),
            "files_removed": int(done["numFilesRemoved"]),
            "vacuumed": len(gone),
        }

    def _open(self) -> DeltaTable | None:
        """The table, None if nothing was ever written. Raises `IndexUnreadable`."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        for attempt in range(5):
            try:
                if not self.path.exists() or not any(p.is_file() for p in self.path.rglob("*")):
                    return None
                return DeltaTable(str(self.path))
            except TableNotFoundError as error:
                # The first writer may be between its first file and its first commit.
                if attempt == 4:
                    raise self._unreadable(error) from error
                time.sleep(0.1 * 2**attempt)
            except (DeltaError, OSError, ValueError) as error:
                raise self._unreadable(error) from error
        return None

    def _read(
        self,
        columns: list[str],
        since: datetime | None = None,
        until: datetime | None = None,
        chosen: ds.Expression | None = None,
    ) -> pa.Table:
        from deltalake.exceptions import DeltaError

        if since is not None and until is not None and since > until:
            raise BadInput("The time that was asked for ends before it begins.", "Swap since and until.")
        during, days = _during(since, until), _days(since, until)
        table = self._open()
        if table is None:
            return SCHEMA.empty_table().select(columns)
        try:
            rows = table.to_pyarrow_dataset(schema=SCHEMA, file_pruning_predicate=days)
            batches = rows.scanner(columns=columns, filter=during).to_batches()
            # Not part of the scanner's filter: Arrow cannot hold a set of names against the string views that the
            # table's statistics come as, and fails.
            kept = [batch if chosen is None else batch.filter(chosen) for batch in batches]
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error
        return pa.Table.from_batches(kept, pa.schema([SCHEMA.field(name) for name in columns]))

    def _merge(self, batch: pa.Table) -> int:
        from deltalake import DeltaTable
        from deltalake.exceptions import CommitFailedError, DeltaError

        try:
            table = self._open()
            if table is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                table = DeltaTable.create(str(self.path), schema=SCHEMA, partition_by=["day"], mode="ignore")
                table.update_incremental()
            days = ", ".join(f"'{day}'" for day in sorted(set(batch["day"].to_pylist())))
            metrics = (
                table.merge(
                    batch,
                    predicate=f"t.day IN ({days}) AND t.day = s.day AND "
                    + " AND ".join(f"t.{name} = s.{name}" for name in KEY),
                    source_alias="s",
                    target_alias="t",
                )
                .when_not_matched_insert_all()
                .execute()
            )
        except CommitFailedError as error:
            raise CommitConflict(str(error)) from error
        except (DeltaError, OSError) as error:
            raise no_room(self.path, error) or self._unreadable(error) from error
        return int(metrics["num_target_rows_inserted"])

    def _unreadable(self, error: BaseException) -> IndexUnreadable:
        first = str(error).strip().split("\n")[0][:200]
        return IndexUnreadable(
            f"The index of frames at {self.path} cannot be read or written: {first}.",
            "Restore the folder from a backup, or move it away and ingest again.",
        )


class CommitConflict(TransientError):
    """Another writer committed first."""


def _table(rows: Sequence[FrameRow]) -> pa.Table:
    unique = {row.key: row for row in rows}
    records = []
    for row in unique.values():
        if row.captured_at.tzinfo is None:
            raise BadInput(f"A frame of {row.camera_id} has a time without a zone.")
        moment = row.captured_at.astimezone(UTC)
        records.append({**asdict(row), "captured_at": moment, "day": _day(moment)})
    return pa.Table.from_pylist(records, schema=SCHEMA)


def _among(cameras: Iterable[str] | None, hashes: Iterable[str] | None) -> ds.Expression | None:
    parts = [
        ds.field(name).isin(pa.array(list(values), pa.string()))
        for name, values in (("camera_id", cameras), ("frame_hash", hashes))
        if values is not None
    ]
    return functools.reduce(operator.and_, parts) if parts else None


def _during(since: datetime | None, until: datetime | None) -> ds.Expression | None:
    parts = [ds.field("captured_at") >= _scalar(since)] if since is not None else []
    parts += [ds.field("captured_at") < _scalar(until)] if until is not None else []
    return functools.reduce(operator.and_, parts) if parts else None


def _days(since: datetime | None, until: datetime | None) -> str | None:
    """The days whose files have to be opened at all; the time itself decides on the rows."""
    bounds = [f"day >= '{_day(since)}'"] if since is not None else []
    bounds += [f"day <= '{_day(until)}'"] if until is not None else []
    return " AND ".join(bounds) or None


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def _scalar(moment: datetime) -> pa.Scalar:
    if moment.tzinfo is None:
        raise BadInput("A time without a zone cannot be asked for.", "Give it as UTC.")
    return pa.scalar(moment.astimezone(UTC), pa.timestamp("us", tz="UTC"))
