"""The database on a real PostgreSQL: transactions, locks, leases, and the tables against their description."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from its_platform.errors import LeaseHeld, ServerUnavailable
from its_platform.stores import Stores
from its_platform.stores.database import Database, check_fencing, create_database, migrate
from its_platform.stores.schema import Base, CameraRow, ReleaseRow


def camera(name: str) -> CameraRow:
    return CameraRow(camera_id=name, source="sim://junction")


def test_a_session_commits_at_its_end(stores: Stores) -> None:
    with stores.database.session() as session:
        session.add(camera("north"))
    with stores.database.session() as session:
        assert session.get(CameraRow, "north").privacy == "none"


def test_a_session_that_fails_leaves_nothing(stores: Stores) -> None:
    def add_and_fail() -> None:
        with stores.database.session() as session:
            session.add(camera("north"))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        add_and_fail()
    with stores.database.session() as session:
        assert session.get(CameraRow, "north") is None


def test_times_come_back_in_utc(stores: Stores) -> None:
    with stores.database.session() as session:
        session.add(camera("north"))
    with stores.database.session() as session:
        created = session.get(CameraRow, "north").created_at
    assert created.utcoffset().total_seconds() == 0
    assert abs((datetime.now(UTC) - created).total_seconds()) < 3600


def test_a_stage_has_one_open_release_at_a_time(stores: Stores) -> None:
    def release(version: int) -> ReleaseRow:
        return ReleaseRow(
            stage="production", model_name="m", version=version, digest="d", endpoint="e", model="f", by="test"
        )

    with stores.database.session() as session:
        session.add(release(1))
    with pytest.raises(IntegrityError), stores.database.session() as session:
        session.add(release(2))


def test_an_advisory_lock_excludes_others_until_it_is_left(stores: Stores) -> None:
    refused: list[str] = []

    def try_it() -> None:
        try:
            with stores.database.lock("work", wait_s=0):
                refused.append("got in")
        except LeaseHeld as error:
            refused.append(str(error))

    with stores.database.lock("work"):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert "work" in refused[0]
    with stores.database.lock("work", wait_s=0):
        pass


def test_waiting_for_a_lock_ends_at_the_given_time(stores: Stores) -> None:
    other = Database(stores.settings)
    with stores.database.lock("work"), pytest.raises(LeaseHeld), other.lock("work", wait_s=0.2):
        pytest.fail("two held the lock")


def test_a_lease_is_renewed_by_its_holder_and_refused_to_others(stores: Stores) -> None:
    first = stores.database.lease("reconcile", "a", seconds=60)
    assert stores.database.lease("reconcile", "a", seconds=60) == first
    with pytest.raises(LeaseHeld):
        stores.database.lease("reconcile", "b", seconds=60)


def test_a_lease_that_ran_out_changes_hands_with_a_higher_number(stores: Stores) -> None:
    first = stores.database.lease("reconcile", "a", seconds=0)
    assert stores.database.lease("reconcile", "b", seconds=60) > first


def test_a_late_holder_cannot_write_under_a_lease_that_moved_on(stores: Stores) -> None:
    late = stores.database.lease("reconcile", "a", seconds=0)
    current = stores.database.lease("reconcile", "b", seconds=60)

    def write_late() -> None:
        with stores.database.session() as session:
            session.add(camera("north"))
            check_fencing(session, "reconcile", late)

    with pytest.raises(LeaseHeld):
        write_late()
    with stores.database.session() as session:
        check_fencing(session, "reconcile", current)
        assert session.get(CameraRow, "north") is None


def test_a_lease_given_back_is_free_at_once(stores: Stores) -> None:
    fencing = stores.database.lease("reconcile", "a", seconds=60)
    stores.database.release_lease("reconcile", fencing)
    assert stores.database.lease("reconcile", "b", seconds=60) == fencing + 1


def test_the_migrations_make_the_tables_that_the_code_describes(stores: Stores) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    migrate(stores.database.engine)
    with stores.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_two_makers_of_a_database_meet_without_an_error(stores: Stores) -> None:
    made: list[bool] = []
    threads = [
        threading.Thread(target=lambda: made.append(create_database(stores.settings, "dagster"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False, False, True]


def test_tables_that_were_never_made_are_named_as_such(stores: Stores) -> None:
    with stores.database.session() as session:
        session.execute(sa.text("DROP TABLE cameras"))
    with pytest.raises(ServerUnavailable, match="no tables"), stores.database.session() as session:
        session.get(CameraRow, "north")
