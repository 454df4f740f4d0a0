"""The embedded PostgreSQL: who starts it, what a kill does to it, where its socket lies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from its_platform.settings import Settings, load_settings
from its_platform.stores import open_stores
from its_platform.stores.database import Database, dispose_engines
from its_platform.stores.postgres import (
    data_folder,
    is_running,
    log_file,
    server_process,
    socket_folder,
    socket_name,
    start_postgres,
    stop_postgres,
)
from its_platform.stores.schema import CameraRow

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(900)]

ASK = """
import sys
from pathlib import Path
import sqlalchemy as sa
from its_platform.settings import load_settings
from its_platform.stores.database import Database
with Database(load_settings(home=Path(sys.argv[1]))).engine.connect() as connection:
    print(connection.execute(sa.text("SELECT pg_postmaster_start_time()")).scalar_one())
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Settings]:
    settings = load_settings(home=tmp_path / "home")
    yield settings
    dispose_engines()
    stop_postgres(settings)


def write_one(settings: Settings) -> None:
    with Database(settings).engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE IF NOT EXISTS kept (n int)"))
        connection.execute(sa.text("INSERT INTO kept VALUES (1)"))


def count(settings: Settings) -> int:
    with Database(settings).engine.connect() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM kept")).scalar_one())


def test_two_processes_that_start_it_at_once_meet_on_one_server(home: Settings) -> None:
    asked = [
        subprocess.Popen([sys.executable, "-c", ASK, str(home.home)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = {process.communicate()[0].strip() for process in asked}
    assert len(answers) == 1
    assert answers != {""}
    assert is_running(home), "it outlives the processes that started it"


def test_its_words_lie_with_those_of_the_parts_and_go_on_after_the_log_was_emptied(home: Settings) -> None:
    def refused(word: str) -> None:
        with Database(home).engine.connect() as connection, pytest.raises(sa.exc.DBAPIError):
            connection.execute(sa.text(f"SELECT 1 FROM {word}"))

    refused("first_word")
    log = log_file(home)
    assert log == home.logs / "postgres.log"
    assert "first_word" in log.read_text()
    os.truncate(log, 0)
    refused("second_word")
    assert log.read_text().lstrip().startswith("2")
    assert "second_word" in log.read_text()
    assert "first_word" not in log.read_text()


def test_a_killed_server_is_started_by_the_next_use_with_its_rows(home: Settings) -> None:
    write_one(home)
    before = server_process(home)
    assert before is not None
    os.kill(before.pid, signal.SIGKILL)
    psutil.wait_procs([before], timeout=10)
    assert count(home) == 1
    after = server_process(home)
    assert after is not None
    assert after.pid != before.pid


def test_a_pid_file_that_names_another_program_does_not_keep_it_down(home: Settings) -> None:
    write_one(home)
    dispose_engines()
    pid_file = data_folder(home) / "postmaster.pid"
    words = pid_file.read_text().splitlines()
    stop_postgres(home)
    pid_file.write_text("\n".join([str(os.getpid()), *words[1:]]) + "\n")
    assert server_process(home) is None
    assert count(home) == 1


def test_a_making_that_was_cut_off_is_begun_again(home: Settings) -> None:
    leftover = data_folder(home) / "unfinished" / "base"
    leftover.mkdir(parents=True)
    start_postgres(home)
    assert is_running(home)
    assert not (data_folder(home) / "unfinished").exists()


def test_stopping_leaves_no_process_and_a_second_stop_does_nothing(home: Settings) -> None:
    start_postgres(home)
    process = server_process(home)
    assert process is not None
    family = [process, *process.children(recursive=True)]
    stop_postgres(home)
    assert not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    stop_postgres(home)
    assert not is_running(home)


def test_a_deep_home_gets_a_short_socket_that_goes_with_the_server(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / ("deep" * 20) / ("er" * 20))
    assert len(os.fsencode(socket_folder(settings) / socket_name(settings))) <= 100
    try:
        write_one(settings)
        assert count(settings) == 1
    finally:
        dispose_engines()
        stop_postgres(settings)
    assert not socket_folder(settings).exists()


def test_a_home_may_have_spaces_in_its_name(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "a home of mine")
    try:
        write_one(settings)
        assert count(settings) == 1
    finally:
        dispose_engines()
        stop_postgres(settings)


def test_the_first_use_makes_the_tables_and_a_later_one_finds_them(home: Settings) -> None:
    stores = open_stores(home)
    with stores.database.session() as session:
        assert session.get(CameraRow, "north") is None
        session.add(CameraRow(camera_id="north", source="sim://junction"))
    dispose_engines()
    with stores.database.session() as session:
        assert session.get(CameraRow, "north") is not None


def test_tables_of_an_older_version_are_brought_up_by_the_first_use(home: Settings) -> None:
    with Database(home).engine.begin() as connection:
        newest = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    dispose_engines()
    with Database(home).engine.connect() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one() == newest
        assert connection.execute(sa.text("SELECT count(*) FROM cameras")).scalar_one() == 0
