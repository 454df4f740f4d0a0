"""A log of the front: from its spool into a Delta table, each row exactly once.

In come finished `*.jsonl` files (a file that is still written ends in `.part` and is left alone); out come rows of a
table that is partitioned by day of capture. A line that cannot be read is set aside in `refused` beside the files, with
its reason. What a row holds is said by whoever opens the table.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its_platform.errors import TransientError
from its_platform.stores.objects import no_room
from its_platform.telemetry import get_log

if TYPE_CHECKING:
    import pyarrow as pa

    from its_platform.stores import Stores

LOG = get_log(__name__)

FILES_PER_COMMIT = 200
KEYS = ("row_key", "spool_file", "line", "day")


class LogUnreadable(TransientError):
    """A table of the front's log is there but cannot be read: never the same as an empty one."""


@dataclass(frozen=True)
class LogTable:
    """One kind of row: where its files come in, where its table lies, what its columns are.

    `row` makes a row of a line's content, all columns but `KEYS`; it raises `ValueError`, `KeyError` or `TypeError`
    for a line that cannot be read. It must hold `at`, an aware time.
    """

    name: str
    spool: Path
    path: Path
    schema: pa.Schema
    row: Callable[[dict[str, Any]], dict[str, Any]]

    def collect(self, stores: Stores) -> int:
        """Move every finished spool file into the table; returns the number of rows added.

        The rows of a file enter in one commit, and the file is removed only after it. A crash between the two leaves
        the file behind; its name is in the table, so that the next call removes it without adding it again. One
        collector works at a time (advisory lock of the table's name).
        """
        if not self.finished():
            return 0
        added = 0
        with stores.database.lock(self.name):
            files = self.finished()
            for start in range(0, len(files), FILES_PER_COMMIT):
                added += self._collect_files(files[start : start + FILES_PER_COMMIT])
        return added

    def finished(self) -> list[Path]:
        """Spool files that wait to be collected."""
        return sorted(self.spool.glob("*.jsonl"))

    def exists(self) -> bool:
        """Whether there is a table. Raises `LogUnreadable` for a folder that is none."""
        if not self.path.exists() or not any(self.path.iterdir()):
            return False
        if not (self.path / "_delta_log").is_dir():
            raise LogUnreadable(f"{self.path} holds files but no Delta log.", "Restore the folder `_delta_log`.")
        return True

    def read(self, columns: Iterable[str], keep: Any = None) -> pa.Table:
        """Columns of the rows that meet a condition; an empty table where none was ever collected."""
        import pyarrow as pa
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        wanted = list(columns)
        if not self.exists():
            return self.schema.empty_table().select(wanted)
        try:
            table = DeltaTable(str(self.path))
            there = {field.name for field in table.schema().fields}
            found = table.to_pyarrow_table(columns=[name for name in wanted if name in there], filters=keep)
            for field in (field for field in self.schema if field.name in wanted and field.name not in there):
                # The table is older than the column.
                found = found.append_column(field, pa.nulls(len(found), field.type))
            return found
        except (DeltaError, pa.ArrowException, OSError) as error:
            raise LogUnreadable(
                f"The table of {self.name} cannot be read: {error}.", f"Look at {self.path}; nothing was changed."
            ) from error

    def _collect_files(self, files: list[Path]) -> int:
        import pyarrow as pa

        rows: list[dict[str, Any]] = []
        for file in files:
            good, broken = self._parse(file)
            rows.extend(good)
            if broken:
                _set_aside(file, broken)
        days = {row["day"] for row in rows}
        known = self._already_stored("spool_file", [file.name for file in files], days)
        unknown = [row for row in rows if row["spool_file"] not in known]
        # A request that was sent again, since its answer was lost on the way, was logged twice and is one row.
        again = self._already_stored("row_key", [row["row_key"] for row in unknown], days)
        fresh = list({row["row_key"]: row for row in reversed(unknown) if row["row_key"] not in again}.values())[::-1]
        if fresh:
            self._append(pa.Table.from_pylist(fresh, schema=self.schema))
        for file in files:
            file.unlink()
        return len(fresh)

    def _parse(self, file: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        good, broken = [], []
        for number, text in enumerate(file.read_text("utf-8", errors="replace").splitlines(), start=1):
            if not text.strip():
                continue
            try:
                entry = json.loads(text)
                row = self.row(entry)
                key = str(entry.get("request") or f"{file.name}:{number}")
                good.append(row | {"row_key": key, "spool_file": file.name, "line": number, "day": day_of(row["at"])})
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                broken.append({"line": number, "reason": f"{type(error).__name__}: {error}", "text": text})
        return good, broken

    def _already_stored(self, column: str, values: list[str], days: set[str]) -> set[str]:
        """Which of these values a column of the table has, looked for only in the days that the rows have."""
        import pyarrow.dataset as ds

        if not days or not values or not self.exists():
            return set()
        keep = ds.field("day").isin(sorted(days)) & ds.field(column).isin(values)
        return set(self.read([column], keep)[column].to_pylist())

    def _append(self, rows: pa.Table) -> None:
        from deltalake import write_deltalake
        from deltalake.exceptions import DeltaError

        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_deltalake(
                str(self.path), rows, mode="append", schema_mode="merge", partition_by=["day"], name=self.name
            )
        except (DeltaError, OSError) as error:
            raise no_room(self.path, error) or LogUnreadable(
                f"The log cannot be added to the table of {self.name}: {error}.",
                "The spool files are kept; try again.",
            ) from error


def waiting(spool: Path) -> Iterator[bytes]:
    """The contents of finished files. One that is collected meanwhile is passed over: its rows are in the table."""
    for file in spool.glob("*.jsonl"):
        with suppress(FileNotFoundError):
            yield file.read_bytes()


def moment_of(text: str) -> datetime:
    """A time of the log, aware; without a zone it is UTC."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def day_of(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def _set_aside(file: Path, broken: list[dict[str, Any]]) -> None:
    folder = file.parent / "refused"
    folder.mkdir(exist_ok=True)
    partial = folder / f"{file.name}.part"
    partial.write_text("".join(json.dumps(line) + "\n" for line in broken), "utf-8")
    os.replace(partial, folder / file.name)
    LOG.warning(
        "lines cannot be read and are set aside",
        file=file.name,
        lines=len(broken),
        first_line=broken[0]["line"],
        reason=broken[0]["reason"],
        folder=str(folder),
    )
