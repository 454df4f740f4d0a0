"""Dagster's tables in the home's database: which storage dagster.yaml names, and how long it waits for its server."""

from __future__ import annotations

import time
from pathlib import Path

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


def test_whoever_opens_it_bears_a_database_that_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(home=tmp_path / "home")
    monkeypatch.setattr(utils.retry_pg_connection_fn, "__defaults__", utils.retry_pg_connection_fn.__defaults__)
    try:
        prepare(settings)
        for name, value in dagster_environment(settings).items():
            monkeypatch.setenv(name, value)
        with dg.DagsterInstance.get() as instance:
            assert isinstance(instance.get_ref().storage, PatientPostgresStorage)
            assert instance.get_runs_count() == 0
    finally:
        dispose_engines()
        stop_postgres(settings)

    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)

    def recovering() -> str:
        if sum(waited) < 20:
            raise sa.exc.OperationalError("SELECT 1", None, Exception("the database system is starting up"))
        return "connected"

    assert utils.retry_pg_connection_fn(recovering) == "connected"
