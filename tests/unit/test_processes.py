"""A process is known by its number and its birth, whatever the clock says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from its_platform import processes


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
