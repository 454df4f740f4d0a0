"""Dagster's runs, as its own tables hold them: for whoever may not import Dagster and asks also while its page is down.

Only read here. A database that nobody has made yet holds no runs; one that does not answer is an error. Beside them,
what a record that is made in a run keeps of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from its_platform.errors import ServerUnavailable
from its_platform.settings import Settings
from its_platform.stores.database import Database, database_url
from its_platform.telemetry import correlation

DECISION_TAG = "its/decision"
"""The tag of a run that names, by its key, the decision which it carries out."""
MADE_BY = "dagster_run"
"""Under this name a record keeps the run in which it was made."""


@dataclass(frozen=True)
class DagsterRun:
    """One run of a job. Times are UTC, None until they are known. `tags`: those of the platform (`its/...`)."""

    run_id: str
    job: str
    status: str
    started: datetime | None
    ended: datetime | None
    tags: dict[str, str] = field(default_factory=dict)


def made_by() -> dict[str, str]:
    """What a record that is made now keeps of its Dagster run, under `MADE_BY`; nothing outside of one."""
    run = correlation().get("run")
    return {MADE_BY: run} if run else {}


def dagster_runs(settings: Settings) -> list[DagsterRun]:
    """Every run there was, oldest first. Raises `ServerUnavailable`."""
    address = database_url(settings, "dagster")
    # Asked first: to connect to a database that is missing would make it.
    with Database(settings).session() as session:
        wanted = sa.text("SELECT 1 FROM pg_database WHERE datname = :name")
        if session.execute(wanted, {"name": make_url(address).database}).scalar() is None:
            return []
    engine = sa.create_engine(address, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            if connection.execute(sa.text("SELECT to_regclass('run_tags')")).scalar() is None:
                return []
            rows: Sequence[Any] = connection.execute(
                sa.text("SELECT run_id, pipeline_name, status, start_time, end_time FROM runs ORDER BY id")
            ).all()
            tags: dict[str, dict[str, str]] = {}
            of_ours: Sequence[Any] = connection.execute(
                sa.text("SELECT run_id, key, value FROM run_tags WHERE key LIKE 'its/%'")
            ).all()
            for run_id, key, value in of_ours:
                tags.setdefault(run_id, {})[key] = value
    except sa.exc.SQLAlchemyError as error:
        first = str(error).strip().splitlines()[0]
        raise ServerUnavailable(f"Dagster's runs cannot be read: {first}", "`its doctor` says more.") from error
    return [
        DagsterRun(run_id, str(job), str(status), _utc(start), _utc(end), tags.get(run_id, {}))
        for run_id, job, status, start, end in rows
    ]


def _utc(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
