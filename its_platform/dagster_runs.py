"""Dagster's runs and sensors as its database tells of them, without importing Dagster.

Enters: settings. Leaves: which runs lost their process, how the latest run of each job stands, whether sensors wait for
a time that the clock was set back from. What has to change is changed by `its_platform.interrupted`, a program of its
own that knows Dagster.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from its_platform import processes
from its_platform.errors import ServerUnavailable
from its_platform.processes import process_environment
from its_platform.settings import Settings
from its_platform.stores.database import database_url
from its_platform.stores.prepare import dagster_environment

UNDER_WAY = ("STARTING", "STARTED", "CANCELING")
SETTLE_WITHIN_S = 120
# Clocks of one machine differ by nothing; a sensor that began this far ahead began before the clock was set back.
CLOCK_TOLERANCE_S = 60.0


@dataclass(frozen=True)
class JobRun:
    """A run of a job. is_repeat: whether Dagster started it for one that was cut off."""

    run_id: str
    job: str
    status: str
    is_repeat: bool = False


def cut_off_runs(settings: Settings) -> list[JobRun]:
    """Runs that are said to be under way and whose process is gone. Raises `ServerUnavailable`.

    Dagster's own watch over them ends with the first read that the database does not answer.
    """
    query = """
        SELECT r.run_id, r.pipeline_name, r.status, e.event FROM runs r
        JOIN event_logs e ON e.run_id = r.run_id AND e.dagster_event_type = 'ENGINE_EVENT'
        WHERE r.status IN ('STARTED', 'CANCELING') ORDER BY e.id
    """
    workers: dict[JobRun, int] = {}
    with _connected(settings) as connection:
        rows: Sequence[Any] = connection.execute(sa.text(query)).all()
        for run_id, job, status, event in rows:
            number = _worker(json.loads(event))
            if number is not None:
                workers[JobRun(run_id, job, status)] = number
    return [run for run, number in workers.items() if not processes.is_ours(settings, number)]


def latest_runs(settings: Settings) -> list[JobRun]:
    """The newest run of each job. Raises `ServerUnavailable`."""
    query = """
        SELECT DISTINCT ON (r.pipeline_name) r.run_id, r.pipeline_name, r.status,
          EXISTS (SELECT 1 FROM run_tags t WHERE t.run_id = r.run_id AND t.key = 'dagster/parent_run_id')
        FROM runs r ORDER BY r.pipeline_name, r.id DESC
    """
    with _connected(settings) as connection:
        rows: Sequence[Any] = connection.execute(sa.text(query)).all()
    return [JobRun(*row) for row in rows]


def what_it_says(settings: Settings, run_id: str) -> str:
    """Why a run failed, or what a step of it tries again; empty where its log says neither."""
    query = """
        SELECT event FROM event_logs WHERE run_id = :run
        AND dagster_event_type IN ('STEP_FAILURE', 'STEP_UP_FOR_RETRY', 'PIPELINE_FAILURE', 'ASSET_CHECK_EVALUATION')
        ORDER BY id DESC LIMIT 20
    """
    with _connected(settings) as connection:
        events = [json.loads(row[0]) for row in connection.execute(sa.text(query), {"run": run_id})]
    said = [words for event in events if (words := _reason(event))]
    # The run's own failure names the step that failed; the step's names the reason.
    telling = [words for words in said if not words.startswith("Steps failed")]
    return (telling or said or [""])[0]


def ticks_ahead_s(settings: Settings) -> float:
    """How far in the future Dagster's sensors last looked: until then none looks again. Raises `ServerUnavailable`."""
    with _connected(settings) as connection:
        bodies = [json.loads(row[0]) for row in connection.execute(sa.text("SELECT instigator_body FROM instigators"))]
    ticks = [(body.get("job_specific_data") or {}).get("last_tick_start_timestamp") or 0.0 for body in bodies]
    return max([*ticks, 0.0]) - time.time() if ticks else 0.0


def has_runs_under_way(settings: Settings) -> bool:
    """Whether any run is said to be under way. Raises `ServerUnavailable`."""
    names = ", ".join(f"'{name}'" for name in UNDER_WAY)
    with _connected(settings) as connection:
        return bool(connection.execute(sa.text(f"SELECT count(*) FROM runs WHERE status IN ({names})")).scalar())


def settle(settings: Settings, runs: Sequence[str] = ()) -> None:
    """Report runs as failed, so that Dagster repeats them (all under way when none is named), and free its sensors.

    Sensors that wait for a time that the clock was set back from look again at once. Raises `ServerUnavailable`.
    """
    done = subprocess.run(
        [sys.executable, "-m", "its_platform.interrupted", *runs],
        env=process_environment(settings, dagster_environment(settings)),
        capture_output=True,
        text=True,
        timeout=SETTLE_WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        told = done.stderr.strip().splitlines()
        raise ServerUnavailable(f"The interrupted runs could not be settled: {told[-1] if told else 'no word'}")


@contextmanager
def _connected(settings: Settings) -> Iterator[Connection]:
    engine = sa.create_engine(database_url(settings, "dagster"), poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        first = str(error).strip().splitlines()[0]
        raise ServerUnavailable(f"Dagster's database does not answer: {first}", "`its doctor` says more.") from error


def _worker(event: dict[str, Any]) -> int | None:
    """The process number in an engine event that names the run's process, None in any other."""
    data = (event.get("dagster_event") or {}).get("event_specific_data") or {}
    for entry in data.get("metadata_entries") or []:
        text = str((entry.get("entry_data") or {}).get("text", ""))
        if entry.get("label") == "pid" and text.isdigit():
            return int(text)
    return None


def _reason(event: dict[str, Any]) -> str:
    told = event.get("dagster_event") or {}
    data = told.get("event_specific_data") or {}
    if told.get("event_type_value") == "ASSET_CHECK_EVALUATION":
        return "" if data.get("success", True) else f"{data.get('check_name')}: {data.get('description')}"
    failure = data.get("user_failure_data") or {}
    if failure.get("description"):
        return str(failure["description"]).strip()
    error = data.get("error") or {}
    while error.get("cause"):
        error = error["cause"]
    words = str(error.get("message") or "").strip().splitlines()
    return words[-1] if words else str(told.get("message") or "").strip()
