"""Dagster's own tables in PostgreSQL, asked with more patience than Dagster has by itself; dagster.yaml names this."""

from __future__ import annotations

from typing import Any

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, utils


class PatientPostgresStorage(DagsterPostgresStorage):
    """Tries for 50 s to connect, not 11, in every process that opens Dagster's storage.

    A database that was killed recovers before it answers, and longer on a busy machine. A step under which Dagster's
    storage gives up has failed, and a failed training is not started again before its cool-down is over.
    """

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> PatientPostgresStorage:
        # The number of tries, each after twice the pause before it; no setting of Dagster's leads there.
        utils.retry_pg_connection_fn.__defaults__ = (7, 0.2)
        return cls(utils.pg_url_from_config(config_value), inst_data=inst_data)
