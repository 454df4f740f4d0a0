"""What is said of parts that end at an odd moment."""

from __future__ import annotations

import sys
from dataclasses import replace

import psutil
import pytest

from its_platform import processes
from its_platform.parts import part_named
from its_platform.settings import Settings
from its_platform.stack import part_status


@pytest.mark.parametrize("is_noticed", [True, False])
def test_a_part_that_ends_while_it_is_asked_has_died(settings: Settings, is_noticed: bool) -> None:
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    record = processes.spawn(settings, "mlflow", argv, processes.process_environment(settings), "", settings.home)

    def end(settings: Settings) -> bool:
        process = psutil.Process(record.pid)
        process.kill()
        process.wait()
        if is_noticed:
            raise psutil.NoSuchProcess(record.pid)
        return False

    part = replace(part_named("mlflow"), is_healthy=end)
    status = part_status(settings, part)
    assert (status.state, status.pid, status.memory_mb) == ("died", None, None)
