"""Dagster's own tables in PostgreSQL, asked with more patience and fewer connections than Dagster has by itself.

dagster.yaml names this. By itself Dagster opens a connection for each question, and its daemon and sensors ask some
dozens a second; and whoever opens its storage, as every look of a sensor does, has PostgreSQL list the tables. Here the
connections of a process are kept, and what cannot change is asked once.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresScheduleStorage, utils
from sqlalchemy import Connection, Engine

KEPT_CONNECTIONS = 4


@dataclass
class _Known:
    """What the storages of a process share for one database: connections, and which tables and indexes there are."""

    engine: Engine
    tables: set[str] = field(default_factory=set)
    schedule_indexes: dict[str, bool] = field(default_factory=dict)
    run_indexes: dict[str, bool] = field(default_factory=dict)
    event_indexes: dict[str, bool] = field(default_factory=dict)


class PatientPostgresStorage(DagsterPostgresStorage):
    """Tries for 50 s to connect, not 11, in every process that opens Dagster's storage.

    A database that was killed recovers before it answers, and longer on a busy machine. A step under which Dagster's
    storage gives up has failed, and a failed training is not started again before its cool-down is over.
    """

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        known = _known(postgres_url)
        super().__init__(postgres_url, "all" not in known.tables, inst_data)
        known.tables.add("all")
        runs, events = self._run_storage, self._event_log_storage
        schedules = self._schedule_storage = _Schedules(postgres_url, known)
        runs._engine = events._engine = schedules._engine = known.engine
        runs._index_migration_cache, events._secondary_index_cache = known.run_indexes, known.event_indexes

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> PatientPostgresStorage:
        # The number of tries, each after twice the pause before it; no setting of Dagster's leads there.
        utils.retry_pg_connection_fn.__defaults__ = (7, 0.2)
        return cls(utils.pg_url_from_config(config_value), inst_data)


class _Schedules(PostgresScheduleStorage):
    """The ticks of sensors and schedules; what it has found to be there it does not look for again."""

    def __init__(self, postgres_url: str, known: _Known) -> None:
        self._known = known
        super().__init__(postgres_url, should_autocreate_tables=False)

    def has_built_index(self, migration_name: str) -> bool:
        indexes = self._known.schedule_indexes
        if not indexes.get(migration_name):
            indexes[migration_name] = super().has_built_index(migration_name)
        return indexes[migration_name]

    def has_instigators_table(self) -> bool:
        return "instigators" in self._known.tables or super().has_instigators_table()

    def _has_instigators_table(self, conn: Connection) -> bool:
        if "instigators" not in self._known.tables and super()._has_instigators_table(conn):
            self._known.tables.add("instigators")
        return "instigators" in self._known.tables


@functools.cache
def _known(postgres_url: str) -> _Known:
    # A server that was started anew has dropped what is kept: asked first, such a connection is replaced.
    engine = utils.create_pg_engine(
        postgres_url,
        isolation_level="AUTOCOMMIT",
        pool_size=KEPT_CONNECTIONS,
        max_overflow=-1,
        pool_pre_ping=True,
        pool_recycle=1800,
    )
    return _Known(engine)
