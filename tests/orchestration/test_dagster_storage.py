"""Dagster's tables in the home's database: how long it waits for the server, and how many connections it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster_postgres import utils

from its_platform.dagster_storage import PatientPostgresStorage
from its_platform.settings import load_settings
from its_platform.stores.database import dispose_engines
from its_platform.stores.postgres import stop_postgres
from its_platform.stores.prepare import dagster_environment, prepare

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    settings = load_settings(home=tmp_path_factory.mktemp("dagster") / "home")
    try:
        prepare(settings)
        yield dagster_environment(settings)
    finally:
        dispose_engines()
        stop_postgres(settings)


@pytest.fixture(autouse=True)
def home(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(utils.retry_pg_connection_fn, "__defaults__", utils.retry_pg_connection_fn.__defaults__)


def ask(instance: dg.DagsterInstance) -> list[int]:
    """The server's processes that answered the tables of runs, events and ticks."""
    storage = instance.get_ref().storage
    assert isinstance(storage, PatientPostgresStorage)
    answered = []
    for part in (storage._run_storage, storage._schedule_storage):
        with part.connect() as connection:
            answered.append(connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())
    with storage._event_log_storage._connect() as connection:
        answered.append(connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())
    return answered


def test_whoever_opens_it_bears_a_database_that_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    with dg.DagsterInstance.get() as instance:
        assert instance.get_runs_count() == 0
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)

    def recovering() -> str:
        if sum(waited) < 20:
            raise sa.exc.OperationalError("SELECT 1", None, Exception("the database system is starting up"))
        return "connected"

    assert utils.retry_pg_connection_fn(recovering) == "connected"


def test_all_that_a_process_asks_goes_over_one_connection() -> None:
    answered: set[int] = set()
    for _ in range(3):
        with dg.DagsterInstance.get() as instance:
            instance.get_instigator_state("no such sensor", "no such selector")
            answered.update(ask(instance))
    assert len(answered) == 1


def test_a_connection_that_the_server_dropped_is_replaced() -> None:
    with dg.DagsterInstance.get() as instance:
        (dropped,) = set(ask(instance))
        with instance.get_ref().storage._run_storage.connect() as connection:
            engine = sa.create_engine(connection.engine.url, poolclass=sa.NullPool)
        with engine.connect() as other:
            assert other.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": dropped}).scalar_one()
        assert instance.get_runs_count() == 0
        assert dropped not in ask(instance)


def test_what_a_sensor_keeps_is_there_for_the_next_that_opens_it() -> None:
    with dg.DagsterInstance.get() as instance:
        storage = instance.get_ref().storage
        assert storage is not None
        assert storage.schedule_storage.has_instigators_table()
        assert storage.schedule_storage.supports_batch_queries
        instance.daemon_cursor_storage.set_cursor_values({"looked": "7"})
    with dg.DagsterInstance.get() as instance:
        assert instance.daemon_cursor_storage.get_cursor_values({"looked"}) == {"looked": "7"}
