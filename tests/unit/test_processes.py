"""A process is known by its number and its birth, whatever the clock says."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from its_platform import processes
from its_platform.settings import Settings


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def record_of(pid: int, birth: str) -> processes.Record:
    return processes.Record("sleeper", pid, birth, "", "", [])


def test_a_clock_that_is_set_takes_no_living_process_for_dead(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of(sleeper.pid, processes.birth_of(sleeper.pid))
    monkeypatch.setattr("time.time", lambda: 0.0)
    # The kernel's time of boot moves with the clock, and with it the time of birth that is made from it.
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: 86_400.0)
    found = processes.find(record)
    assert found is not None
    assert 0 <= processes.age_s(found) < 60


def test_a_number_that_was_given_out_again_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    boot, _, ticks = processes.birth_of(sleeper.pid).rpartition(":")
    assert processes.find(record_of(sleeper.pid, f"{boot}:{int(ticks) - 100}")) is None
    assert processes.find(record_of(sleeper.pid, f"another-boot:{ticks}")) is None


def test_a_process_that_is_gone_has_no_birth(sleeper: subprocess.Popen[bytes]) -> None:
    process = psutil.Process(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert processes.birth_of(sleeper.pid) == ""
    with pytest.raises(psutil.NoSuchProcess):
        processes.age_s(process)


def test_a_program_that_cannot_be_written_down_is_not_left_running(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(settings: Settings, record: processes.Record) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(processes, "write_record", full)
    argv, environment = [sys.executable, "-c", "import time; time.sleep(60)"], processes.process_environment(settings)
    with pytest.raises(OSError, match="No space left"):
        processes.spawn(settings, "sleeper", argv, environment, "", settings.home)
    assert processes.left_behind(settings) == []


def long_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(processes, "_LOG_LIMIT_BYTES", 10)
    log = folder / "mlflow.log"
    log.write_text("what was said before\n")
    log.chmod(0o600)
    return log


def test_a_log_that_is_too_long_begins_anew_under_the_writer_that_has_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = long_log(tmp_path, monkeypatch)
    with log.open("ab", buffering=0) as writer:
        processes.rotate(log)
        writer.write(b"new\n")
    assert log.read_text() == "new\n"
    before = tmp_path / "mlflow.log.1"
    assert before.read_text() == "what was said before\n"
    assert before.stat().st_mode & 0o077 == 0, "the copy is nobody else's to read either"
    processes.rotate(log)
    assert log.read_text() == "new\n", "it is short enough"


def test_a_log_that_there_is_no_room_to_keep_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = long_log(tmp_path, monkeypatch)

    def fill(source: Path, target: Path) -> None:
        target.write_text("what was")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copy", fill)
    processes.rotate(log)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.log"]
    assert log.read_text() == "what was said before\n"


def test_the_last_words_of_a_server_hold_no_secret(tmp_path: Path) -> None:
    log = tmp_path / "mlflow.log"
    log.write_text(f"INFO started\nError: no answer from postgresql://its:hidden@db/its?token=hidden&{'x' * 390}\n")
    assert processes.tail(log).endswith("xxx")
    assert "hidden" not in processes.tail(log)
    log.write_text("Error: no answer from postgresql://its:hidden@db/its\n")
    assert processes.tail(log) == "Error: no answer from postgresql://its:***@db/its"
