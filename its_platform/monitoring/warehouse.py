"""The warehouse that dbt builds the marts in: a DuckDB file, or a database of the platform's PostgreSQL.

Enter the tables that the stages wrote: the index of frames, the labels, the log of predictions (Delta), the releases
(PostgreSQL). Out come the same rows as tables of the schema `sources`, whose nested columns are JSON. The Delta tables
are only ever added to, so that a load reads the files that are new; a table whose files were put together is read
again as a whole. Everything in the warehouse can be made anew from the tables. What the marts hold is dbt's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from its_platform.errors import PermanentError, TransientError
from its_platform.settings import Settings
from its_platform.stores.schema import ReleaseRow

if TYPE_CHECKING:
    from its_platform.stores import Stores

DATABASE = "warehouse"
DUCKDB_OPTIONS = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
_LOADS = "sources.loads"


class SourceUnreadable(PermanentError):
    """A table that the marts are built from is there and cannot be read: nothing may be concluded from it."""


class WarehouseUnreadable(PermanentError):
    """The warehouse itself is damaged."""


class WarehouseBusy(TransientError):
    """Another program has the warehouse open."""


@dataclass(frozen=True)
class Source:
    """One table of the schema `sources`.

    columns: names and types, in words that DuckDB and PostgreSQL share. expressions: how DuckDB makes a column that
    is not taken as it is.
    """

    name: str
    columns: Mapping[str, str]
    expressions: Mapping[str, str] = field(default_factory=dict)

    @property
    def table(self) -> str:
        return f"sources.{self.name}"

    @property
    def all_columns(self) -> dict[str, str]:
        return {**self.columns, "load_number": "bigint"}

    def selection(self, load_number: int) -> str:
        """The rows of the relation `arrived` as this table holds them, in DuckDB's SQL."""
        made = [f"{self.expressions.get(name, name)} AS {name}" for name in self.columns]
        return f"SELECT {', '.join(made)}, {load_number} AS load_number FROM arrived"


# In the order of loading. Labels come before the frames that they are about, for a frame that is added in between may
# lack its labels, but no label its frame.
SOURCES = (
    Source(
        "labels",
        {
            "frame_hash": "text",
            "review": "text",
            "is_reviewed": "boolean",
            "source": "text",
            "created_at": "timestamptz",
            "boxes": "text",
        },
        # What the marts count by; corners stay in the table of labels.
        {"boxes": "to_json([{'class_name': box.class_name, 'origin': box.origin} for box in boxes])"},
    ),
    Source(
        "frames",
        {
            "camera_id": "text",
            "captured_at": "timestamptz",
            "frame_hash": "text",
            "light": "text",
            "weather": "text",
            "brightness": "double precision",
            "sharpness": "double precision",
            "is_frozen": "boolean",
            "ingested_at": "timestamptz",
        },
    ),
    Source(
        "predictions",
        {
            "row_key": "text",
            "captured_at": "timestamptz",
            "logged_at": "timestamptz",
            "camera_id": "text",
            "model": "text",
            "version": "integer",
            "stage": "text",
            "purpose": "text",
            "light": "text",
            "counts": "text",
            "objects": "integer",
            "latency_ms": "double precision",
            "is_cached": "boolean",
        },
        {"captured_at": '"at"', "objects": "n"},
    ),
)
RELEASES = Source(
    "releases",
    {
        "id": "bigint",
        "stage": "text",
        "model_name": "text",
        "version": "integer",
        "model": "text",
        "since": "timestamptz",
        "until": "timestamptz",
        "released_by": "text",
    },
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one load brought. `is_anew`: the table was emptied before."""

    source: str
    rows: int
    is_anew: bool


class Warehouse(Protocol):
    """What loading and looking need; everything happens in one transaction, committed by `open_warehouse`."""

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement; the rows that it gives, if it gives any."""

    def add(self, source: Source, arrived: Any, load_number: int) -> None:
        """Append an Arrow table or dataset to the source's table."""


def warehouse_file(settings: Settings) -> Path:
    """The DuckDB file."""
    return settings.warehouse / "warehouse.duckdb"


def load_sources(stores: Stores) -> list[Loaded]:
    """Bring the sources up to date, all in one transaction.

    Raises `SourceUnreadable`, `WarehouseBusy`, `WarehouseUnreadable`, and `ServerUnavailable` where the database is
    away.
    """
    releases = _releases(stores)
    with open_warehouse(stores.settings) as warehouse:
        _create_tables(warehouse)
        [(load_number,)] = warehouse.run(f"SELECT coalesce(max(load_number), 0) + 1 FROM {_LOADS}")
        loaded = [_load_delta(warehouse, source, stores.tables / source.name, load_number) for source in SOURCES]
        # Numbers never go back, even where a table was moved away: increments go by them.
        warehouse.run(f"DELETE FROM {_LOADS} WHERE source = ''")
        warehouse.run(f"INSERT INTO {_LOADS} VALUES ('', '', {load_number})")
        warehouse.run(f"DELETE FROM {RELEASES.table}")
        warehouse.add(RELEASES, releases, load_number)
    return [*loaded, Loaded(RELEASES.name, releases.num_rows, True)]


def count_rows(settings: Settings, schema: str) -> dict[str, int]:
    """How many rows each table of a schema has."""
    with open_warehouse(settings) as warehouse:
        names = warehouse.run(
            f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}' ORDER BY table_name"
        )
        return {name: int(warehouse.run(f"SELECT count(*) FROM {schema}.{name}")[0][0]) for (name,) in names}


@contextmanager
def open_warehouse(settings: Settings) -> Iterator[Warehouse]:
    """The warehouse of these settings in a transaction of its own, made if it is not there."""
    settings.warehouse.mkdir(parents=True, exist_ok=True)
    opened = _open_postgres(settings) if settings.warehouse_target == "postgres" else _open_duckdb(settings)
    with opened as warehouse:
        yield warehouse


def _create_tables(warehouse: Warehouse) -> None:
    warehouse.run("CREATE SCHEMA IF NOT EXISTS sources")
    warehouse.run(f"CREATE TABLE IF NOT EXISTS {_LOADS} (source text, file text, load_number bigint)")
    for source in (*SOURCES, RELEASES):
        there = warehouse.run(
            "SELECT column_name FROM information_schema.columns "
            f"WHERE table_schema = 'sources' AND table_name = '{source.name}' ORDER BY ordinal_position"
        )
        if there and [name for (name,) in there] != list(source.all_columns):
            # Made by another version of this code. The views on it go too; dbt makes them again.
            warehouse.run(f"DROP TABLE {source.table} CASCADE")
            # No file has this name, so that the table is loaded as a whole.
            warehouse.run(f"UPDATE {_LOADS} SET file = '' WHERE source = '{source.name}'")
            there = []
        if not there:
            columns = ", ".join(f"{name} {kind}" for name, kind in source.all_columns.items())
            warehouse.run(f"CREATE TABLE {source.table} ({columns})")


def _load_delta(warehouse: Warehouse, source: Source, path: Path, load_number: int) -> Loaded:
    """Add the rows of the Delta table's files that were not loaded yet; load all of it where loaded ones are gone."""
    import pyarrow as pa
    import pyarrow.dataset as ds
    from deltalake.exceptions import DeltaError

    known = {file for (file,) in warehouse.run(f"SELECT file FROM {_LOADS} WHERE source = '{source.name}'")}
    try:
        table = _delta_dataset(path)
        fragments = {} if table is None else {fragment.path: fragment for fragment in table.get_fragments()}
        is_anew = not known <= fragments.keys()
        if is_anew:
            warehouse.run(f"DELETE FROM {source.table}")
            warehouse.run(f"DELETE FROM {_LOADS} WHERE source = '{source.name}'")
        fresh = sorted(fragments if is_anew else fragments.keys() - known)
        if table is None or not fresh:
            return Loaded(source.name, 0, is_anew)
        chosen = [fragments[file] for file in fresh]
        arrived = ds.FileSystemDataset(chosen, _whole(table.schema, source), table.format, table.filesystem)
        rows = arrived.count_rows()
        warehouse.add(source, arrived, load_number)
    except (DeltaError, OSError, pa.ArrowException) as error:
        first = str(error).strip().split("\n")[0][:200]
        raise SourceUnreadable(
            f"The table at {path} cannot be read: {first}.", "Restore the folder from a backup."
        ) from error
    values = ", ".join(f"('{source.name}', '{_quoted(file)}', {load_number})" for file in fresh)
    warehouse.run(f"INSERT INTO {_LOADS} VALUES {values}")
    return Loaded(source.name, rows, is_anew)


def _whole(schema: Any, source: Source) -> Any:
    """The schema of a Delta table with the columns that it is older than; their values are null."""
    import pyarrow as pa

    kinds = _arrow_kinds()
    for name, kind in source.columns.items():
        if name not in source.expressions and name not in schema.names:
            schema = schema.append(pa.field(name, kinds[kind]))
    return schema


def _arrow_kinds() -> dict[str, Any]:
    """Arrow's types for those that the columns of a source are given in."""
    import pyarrow as pa

    return {
        "bigint": pa.int64(),
        "integer": pa.int32(),
        "double precision": pa.float64(),
        "boolean": pa.bool_(),
        "timestamptz": pa.timestamp("us", tz="UTC"),
        "text": pa.string(),
    }


def _delta_dataset(path: Path) -> Any:
    """The table as an Arrow dataset; None if nothing was ever written."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    if not path.exists() or not any(entry.is_file() for entry in path.rglob("*")):
        return None
    try:
        return DeltaTable(str(path)).to_pyarrow_dataset()
    except TableNotFoundError as error:
        # The first writer may be between its first file and its first commit; else someone removed the log.
        raise WarehouseBusy(f"{path} holds files and no Delta log.", "Try again; else restore `_delta_log`.") from error


def _releases(stores: Stores) -> Any:
    """Every release as an Arrow table; a handful of rows, so that they are loaded whole each time."""
    import pyarrow as pa

    with stores.database.session() as session:
        found = session.execute(sa.select(ReleaseRow).order_by(ReleaseRow.id)).scalars().all()
        rows = [
            {**{name: getattr(row, name, None) for name in RELEASES.columns}, "released_by": row.by} for row in found
        ]
    kinds = _arrow_kinds()
    return pa.Table.from_pylist(rows, pa.schema([(name, kinds[kind]) for name, kind in RELEASES.columns.items()]))


def _quoted(text: str) -> str:
    return text.replace("'", "''")


class _DuckDB:
    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        return list(self.connection.execute(statement).fetchall())

    def add(self, source: Source, arrived: Any, load_number: int) -> None:
        self.connection.register("arrived", arrived)
        self.connection.execute(f"INSERT INTO {source.table} {source.selection(load_number)}")
        self.connection.unregister("arrived")


@contextmanager
def _open_duckdb(settings: Settings) -> Iterator[Warehouse]:
    import duckdb

    file = warehouse_file(settings)
    try:
        connection = duckdb.connect(str(file), config=dict(DUCKDB_OPTIONS))
    except duckdb.IOException as error:
        if "lock" in str(error):
            raise WarehouseBusy(
                f"Another program has {file} open.", "Close it; a reader keeps a writer out too."
            ) from error
        raise _damaged(file, error) from error
    except duckdb.Error as error:
        raise _damaged(file, error) from error
    with connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.begin()
        yield _DuckDB(connection)
        connection.commit()


def _damaged(file: Path, error: Exception) -> WarehouseUnreadable:
    first = str(error).strip().split("\n")[0][:200]
    return WarehouseUnreadable(
        f"The warehouse {file} cannot be opened: {first}.", "Remove the file; the next build makes it anew."
    )


class _Postgres:
    def __init__(self, connection: Any, scratch: Path) -> None:
        self.connection = connection
        self.scratch = scratch

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def add(self, source: Source, arrived: Any, load_number: int) -> None:
        import duckdb

        # The same selection as for DuckDB, then PostgreSQL's own way to take in many rows.
        with duckdb.connect(config=dict(DUCKDB_OPTIONS)) as through:
            through.execute("SET TimeZone = 'UTC'")
            through.register("arrived", arrived)
            through.execute(
                f"COPY ({source.selection(load_number)}) TO '{_quoted(str(self.scratch))}' (FORMAT csv, HEADER false)"
            )
        try:
            with self.scratch.open("rb") as file, self.connection.cursor() as cursor:
                columns = ", ".join(source.all_columns)
                cursor.copy_expert(f"COPY {source.table} ({columns}) FROM STDIN (FORMAT csv)", file)
        finally:
            self.scratch.unlink(missing_ok=True)


@contextmanager
def _open_postgres(settings: Settings) -> Iterator[Warehouse]:
    from its_platform.errors import ServerUnavailable
    from its_platform.stores.database import create_database, database_url

    create_database(settings, DATABASE)
    engine = sa.create_engine(database_url(settings, DATABASE), poolclass=sa.NullPool)
    try:
        connection = engine.raw_connection()
    except sa.exc.OperationalError as error:
        raise ServerUnavailable("The database of the marts does not answer.", "`its doctor` says more.") from error
    try:
        yield _Postgres(connection, settings.warehouse / "load.csv")
        connection.commit()
    finally:
        # Takes back what was not committed.
        connection.close()
