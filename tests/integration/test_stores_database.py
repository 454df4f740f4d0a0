"""The database on a real PostgreSQL: locks, leases, and who makes it. Sessions are in `test_sessions.py`."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy.exc import IntegrityError

from its_platform.errors import LeaseHeld
from its_platform.stores import Stores
from its_platform.stores.database import Database, create_database
from its_platform.stores.schema import ReleaseRow


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


def test_a_lease_given_back_is_free_at_once(stores: Stores) -> None:
    fencing = stores.database.lease("reconcile", "a", seconds=60)
    stores.database.release_lease("reconcile", fencing)
    assert stores.database.lease("reconcile", "b", seconds=60) == fencing + 1


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
