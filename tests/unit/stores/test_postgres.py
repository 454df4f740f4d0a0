"""Which of the system's programs are taken, and whose server is whose."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from its_platform.errors import BadInput, ServerUnavailable
from its_platform.settings import Settings
from its_platform.stores import postgres
from its_platform.stores.postgres import client_program, data_folder, renew_certificate, server_process, stop_postgres


def test_a_server_that_somebody_else_runs_is_backed_up_with_the_clients_alone(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = {"profile": "services", "database_url": "postgresql+psycopg2://its@db/"}
    own = settings.model_copy(update=elsewhere)
    monkeypatch.setattr(postgres, "_SYSTEM_PROGRAMS", (f"{tmp_path}/*/bin",))
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(BadInput, match="pg_dump is not installed") as refused:
        client_program(own, "pg_dump")
    assert "postgresql-client" in refused.value.hint
    # What Debian's postgresql-client brings; the server, and pg_ctl with it, is another package.
    for version in ("9", "15"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "pg_dump").touch()
    assert client_program(own, "pg_dump") == tmp_path / "15" / "bin" / "pg_dump"
    with pytest.raises(BadInput, match="needs PostgreSQL's server"):
        client_program(settings.model_copy(update={"profile": "services"}), "pg_ctl")


@contextmanager
def a_postgres(place: Path, works_in: Path, data: Path) -> Iterator[int]:
    """The number of a process called postgres, which the pid file of a data folder names; it ends with the block."""
    program = place / "postgres"
    shutil.copy(str(shutil.which("sleep")), program)
    with subprocess.Popen([program, "60"], cwd=works_in) as process:
        try:
            (data / "postmaster.pid").write_text(f"{process.pid}\n{data}\n")
            yield process.pid
        finally:
            process.kill()


def test_another_homes_server_under_the_number_that_ours_had_is_not_ours(settings: Settings, tmp_path: Path) -> None:
    data, elsewhere = data_folder(settings), tmp_path / "another"
    data.mkdir(parents=True)
    elsewhere.mkdir()
    (tmp_path / "link").symlink_to(settings.home)
    linked = settings.model_copy(update={"home": tmp_path / "link"})
    for folder, is_ours in ((elsewhere, False), (data, True)):
        with a_postgres(tmp_path, folder, data) as pid:
            found = server_process(settings), server_process(linked)
            assert [one is not None and one.pid == pid for one in found] == [is_ours, is_ours]


def test_a_server_whose_programs_were_removed_is_stopped_all_the_same(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings.model_copy(update={"profile": "services"})
    data = data_folder(own)
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("13\n")
    with a_postgres(tmp_path, data, data) as pid:
        monkeypatch.setattr(postgres, "_SYSTEM_PROGRAMS", ())
        monkeypatch.setattr("shutil.which", lambda name: None)
        stop_postgres(own)
        assert not psutil.pid_exists(pid)


def test_a_server_that_cannot_be_told_of_its_new_certificate_is_not_said_to_show_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings.model_copy(update={"profile": "services"})
    data_folder(own).mkdir(parents=True)
    programs = tmp_path / "15" / "bin"
    programs.mkdir(parents=True)
    (programs / "pg_ctl").write_text('#!/bin/sh\necho "pg_ctl: PID file does not exist" >&2\nexit 1\n')
    (programs / "pg_ctl").chmod(0o755)
    monkeypatch.setattr(postgres, "_SYSTEM_PROGRAMS", (str(programs),))
    monkeypatch.setattr(postgres, "_system_user", lambda data, programs: None)
    with pytest.raises(ServerUnavailable, match="shows its old certificate: pg_ctl: PID file does not exist"):
        renew_certificate(own)
