"""Steps that are no rows: recorded once, while the database is away and whatever dies in between."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime
from typing import IO

import pytest

from its_platform.errors import BadInput
from its_platform.stores import Stores, journal
from its_platform.stores.journal import Journal
from its_platform.stores.keys import Owner
from its_platform.stores.objects import open_keys
from tests.integration.trail import chain, rows, said, without_database

NORTH = Owner.of("north", datetime(2026, 5, 1, tzinfo=UTC))


def test_a_key_is_destroyed_and_recorded_once_while_the_database_is_away(stores: Stores) -> None:
    away = without_database(stores)
    open_keys(stores.settings).for_sealing(NORTH)
    open_keys(away).destroy(NORTH, "ann", "asked for")
    assert open_keys(away).destroyed() == {NORTH}
    assert Journal(away).waiting() == 1
    assert len(rows(stores)) == 1
    (file,) = Journal(away).folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    kept = file.read_bytes()
    assert Journal(stores.settings).settle() == 1
    # As if it had been killed between the row and the end of the file.
    file.write_bytes(kept)
    Journal(stores.settings).settle()
    assert said(stores)[1:] == [("key.destroyed", "north/2026-05-01", "done")]
    assert (rows(stores)[1].by, rows(stores)[1].why) == ("ann", "asked for")
    assert not any(Journal(away).folder.iterdir())
    assert chain(stores).broken is None


def test_what_waited_keeps_its_time_and_is_entered_by_the_next_step(stores: Stores) -> None:
    away = without_database(stores)
    Journal(away).note("certificate.issued", "north")
    between = datetime.now(UTC)
    Journal(stores.settings).note("certificate.issued", "south")
    assert [row.subject for row in rows(stores)] == ["north", "south"]
    assert rows(stores)[0].at < between < rows(stores)[1].at


def test_a_step_whose_process_was_killed_is_on_record_as_cut_off(stores: Stores) -> None:
    program = (
        "import sys, time; from its_platform.settings import load_settings;"
        "from its_platform.stores.journal import Journal\n"
        "with Journal(load_settings()).step('key.rotated', 'master key', 'ann'):\n"
        "    print('begun', flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "ITS_DATABASE_URL": str(stores.settings.database_url)}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "begun\n"
        assert Journal(stores.settings).settle() == 0
        assert Journal(stores.settings).waiting() == 0
        assert rows(stores) == []
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert Journal(stores.settings).waiting() == 1
    assert Journal(stores.settings).settle() == 1
    assert said(stores) == [("key.rotated", "master key", "cut_off")]


def test_a_step_that_cannot_be_recorded_is_not_begun_unless_it_is_vital(stores: Stores) -> None:
    folder = Journal(stores.settings).folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    done: list[str] = []
    with pytest.raises(OSError), Journal(stores.settings).step("key.destroyed", "north/2026-05-01"):
        done.append("destroyed")
    with Journal(stores.settings).step("stack.stopped", "here", is_vital=True):
        done.append("stopped")
    assert done == ["stopped"]


def test_a_line_of_which_only_a_part_was_taken_records_nothing(stores: Stores) -> None:
    done: list[str] = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As on a disk that fills up in the midst of a line.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="No space left"), Journal(stores.settings).step("key.destroyed", "north"):
            done.append("destroyed")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done == []
    assert Journal(stores.settings).settle(is_asked=True) == 0
    assert rows(stores) == []


def test_the_error_of_a_step_is_kept_without_secrets(stores: Stores) -> None:
    place = "s3+https://key:hunter2@host/b"

    def fail() -> None:
        with Journal(stores.settings).step("dataset.pushed", place) as detail:
            detail["password"] = "hunter2"
            raise BadInput(f"{place} refuses password=hunter2.")

    with pytest.raises(BadInput):
        fail()
    (row,) = rows(stores)
    assert row.outcome == "failed"
    assert "refuses" in row.detail["error"]
    assert "hunter2" not in json.dumps([row.subject, row.detail])


def test_a_step_that_begins_while_another_process_enters_what_waits_is_recorded(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, entered = fcntl.flock, []

    def late(file: IO[bytes], how: int) -> None:
        if not entered:
            # The new file is there, and not held by its step yet.
            entered.append(True)
            Journal(stores.settings).settle()
        lock(file, how)

    monkeypatch.setattr(journal.fcntl, "flock", late)
    with Journal(stores.settings).step("key.rotated", "master key"):
        pass
    assert said(stores) == [("key.rotated", "master key", "done")]
    assert not any(Journal(stores.settings).folder.iterdir())


def test_a_file_of_a_step_that_was_never_begun_is_no_record(stores: Stores) -> None:
    folder = Journal(stores.settings).folder
    folder.mkdir(parents=True)
    (folder / "20260501T080000000000-a.jsonl").write_text('{"event": "half of a li')
    assert Journal(stores.settings).settle() == 0
    assert not any(folder.iterdir())
    assert rows(stores) == []
