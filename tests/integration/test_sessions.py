"""What a session promises: one that waits (`session`), and one that lets others go on (`async_session`)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from its_platform.certificates import make_certificates
from its_platform.errors import LeaseHeld, ServerUnavailable
from its_platform.serving.processes import free_ports
from its_platform.settings import Settings, load_settings
from its_platform.stores import Stores
from its_platform.stores.async_engines import closing
from its_platform.stores.database import Database, check_fencing, dispose_engines, hold_lock
from its_platform.stores.postgres import is_running, stop_postgres
from its_platform.stores.schema import CameraRow

Run = Callable[[Database, Callable[[Session], Any]], Any]


def run_sync(database: Database, work: Callable[[Session], Any]) -> Any:
    with database.session() as session:
        return work(session)


def run_async(database: Database, work: Callable[[Session], Any]) -> Any:
    async def run() -> Any:
        async with database.async_session() as session:
            return await session.run_sync(work)

    return asyncio.run(closing(run()))


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param  # type: ignore[no-any-return]


def camera(name: str) -> CameraRow:
    return CameraRow(camera_id=name, source="sim://junction")


def add(name: str) -> Callable[[Session], None]:
    return lambda session: session.add(camera(name))


def test_it_commits_at_its_end(stores: Stores, run: Run) -> None:
    run(stores.database, add("north"))
    assert run(stores.database, lambda session: session.get(CameraRow, "north").privacy) == "none"


def test_one_that_fails_leaves_nothing(stores: Stores, run: Run) -> None:
    def add_and_fail(session: Session) -> None:
        session.add(camera("north"))
        session.flush()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(stores.database, add_and_fail)
    assert run(stores.database, lambda session: session.get(CameraRow, "north")) is None


def test_what_was_read_can_be_used_after_its_end(stores: Stores, run: Run) -> None:
    run(stores.database, add("north"))
    row = run(stores.database, lambda session: session.get(CameraRow, "north"))
    assert (row.source, row.sample_interval_s) == ("sim://junction", 1.0)


def test_times_come_back_in_utc(stores: Stores, run: Run) -> None:
    run(stores.database, add("north"))
    created = run(stores.database, lambda session: session.get(CameraRow, "north").created_at)
    assert created.utcoffset().total_seconds() == 0
    assert abs((datetime.now(UTC) - created).total_seconds()) < 3600


def test_tables_that_were_never_made_are_named_as_such(stores: Stores, run: Run) -> None:
    run(stores.database, lambda session: session.execute(sa.text("DROP TABLE cameras")))
    with pytest.raises(ServerUnavailable, match="no tables"):
        run(stores.database, lambda session: session.get(CameraRow, "north"))


def test_a_constraint_speaks_in_its_own_words(stores: Stores, run: Run) -> None:
    run(stores.database, add("north"))
    with pytest.raises(sa.exc.IntegrityError, match="pk_cameras"):
        run(stores.database, add("north"))


def test_a_lease_that_moved_on_keeps_a_late_writer_out(stores: Stores, run: Run) -> None:
    late = stores.database.lease("reconcile", "a", seconds=0)
    stores.database.lease("reconcile", "b", seconds=60)

    def write_late(session: Session) -> None:
        session.add(camera("north"))
        check_fencing(session, "reconcile", late)

    with pytest.raises(LeaseHeld):
        run(stores.database, write_late)
    assert run(stores.database, lambda session: session.get(CameraRow, "north")) is None


def test_a_lock_of_a_transaction_excludes_the_sessions_of_both_kinds(stores: Stores, run: Run) -> None:
    order: list[str] = []

    def hold_and_wait(session: Session) -> None:
        hold_lock(session, "work")
        holding.set()
        assert go_on.wait(30)
        order.append("first")

    def follow(session: Session) -> None:
        hold_lock(session, "work")
        order.append("second")

    holding, go_on = threading.Event(), threading.Event()
    first = threading.Thread(target=run_sync, args=(stores.database, hold_and_wait))
    second = threading.Thread(target=run, args=(stores.database, follow))
    first.start()
    assert holding.wait(30)
    second.start()
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    while not run_sync(stores.database, lambda session: session.scalar(waiting)):
        assert second.is_alive()
    go_on.set()
    first.join(30)
    second.join(30)
    assert order == ["first", "second"]


def test_a_server_that_is_away_is_unavailable_and_its_password_is_not_told(settings: Settings, run: Run) -> None:
    (port,) = free_ports(1)
    address = f"postgresql+psycopg2://somebody:hunter2@127.0.0.1:{port}/"
    with pytest.raises(ServerUnavailable, match="does not answer") as told:
        run(Database(settings.model_copy(update={"database_url": address})), add("north"))
    assert "hunter2" not in str(told.value)


def test_connections_that_were_cut_are_replaced(stores: Stores, run: Run) -> None:
    run(stores.database, add("north"))
    cut = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    other = sa.create_engine(stores.database.url, poolclass=sa.NullPool)
    with other.connect() as connection:
        connection.execute(cut)
    assert run(stores.database, lambda session: session.get(CameraRow, "north").camera_id) == "north"


@pytest.mark.slow
@pytest.mark.services
def test_the_first_use_starts_a_server_of_ones_own_and_makes_the_tables(tmp_path: Path, run: Run) -> None:
    home = load_settings(home=tmp_path / "home")
    try:
        run(Database(home), add("north"))
        assert is_running(home)
        stop_postgres(home)
        assert run(Database(home), lambda session: session.get(CameraRow, "north").camera_id) == "north"
    finally:
        dispose_engines()
        stop_postgres(home)


def test_many_at_once_share_the_pool_of_their_loop(stores: Stores) -> None:
    async def one() -> int:
        async with stores.database.async_session() as session:
            await session.execute(sa.text("SELECT pg_sleep(0.05)"))
            return int(await session.scalar(sa.text("SELECT pg_backend_pid()")) or 0)

    async def many() -> list[int]:
        return await asyncio.gather(*(one() for _ in range(60)))

    asked = asyncio.run(closing(many()))
    assert len(asked) == 60
    assert 1 < len(set(asked)) <= 20


def test_a_loop_that_ends_leaves_no_connection(stores: Stores) -> None:
    run_async(stores.database, add("north"))
    others = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    engine = sa.create_engine(stores.database.url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        assert connection.execute(others).scalar() == 0


@pytest.fixture
def cut_during(stores: Stores) -> Iterator[sa.Engine]:
    engine = sa.create_engine(stores.database.url, poolclass=sa.NullPool)
    yield engine
    engine.dispose()


def test_a_server_that_goes_away_in_the_midst_is_unavailable(stores: Stores, run: Run, cut_during: sa.Engine) -> None:
    def be_cut(session: Session) -> None:
        pid = session.scalar(sa.text("SELECT pg_backend_pid()"))
        with cut_during.connect() as connection:
            connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        session.execute(sa.text("SELECT 1"))

    with pytest.raises(ServerUnavailable):
        run(stores.database, be_cut)


@pytest.mark.slow
@pytest.mark.services
def test_over_tls_the_server_has_to_be_the_one_that_the_authority_names(
    servers: Settings, run: Run, tmp_path: Path
) -> None:
    encrypted = sa.text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    assert run(Database(servers), lambda session: session.scalar(encrypted)) is True
    make_certificates(tmp_path, ["127.0.0.1"], days=1)
    address = sa.engine.make_url(Database(servers).url)
    other = address.update_query_dict({"sslrootcert": str(tmp_path / "ca.pem")}).set(database="")
    mistaken = servers.model_copy(update={"database_url": other.render_as_string(hide_password=False)})
    with pytest.raises(ServerUnavailable, match="SSL error"):
        run(Database(mistaken), lambda session: session.scalar(encrypted))
