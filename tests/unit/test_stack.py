"""What is said of parts that end at an odd moment, and of a database that does not answer."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace

import psutil
import pytest

from its_platform import processes
from its_platform.metrics.machine import parts
from its_platform.parts import part_named
from its_platform.settings import Settings
from its_platform.stack import POSTGRES, PartStatus, part_status, stack_status
from its_platform.stores.postgres import socket_folder, socket_name


def postgres_status(settings: Settings) -> PartStatus:
    (found,) = [one for one in stack_status(settings) if one.name == POSTGRES]
    return found


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


def test_a_database_of_somebody_else_that_is_away_keeps_nobody_from_the_state_of_the_others(settings: Settings) -> None:
    away = settings.model_copy(update={"database_url": "postgresql+psycopg2://its:hidden@127.0.0.1:1/"})
    status = postgres_status(away)
    assert status.state == "no answer"
    assert "does not answer: connection to server" in status.note
    assert "hidden" not in status.note
    assert not any(metric.samples for metric in parts(away)), "nobody here started it"


def test_a_database_that_takes_connections_and_answers_nothing_is_not_well(settings: Settings) -> None:
    assert postgres_status(settings).state == "stopped"
    folder = socket_folder(settings)
    folder.mkdir(parents=True)
    # As a server does that hangs: the kernel takes the connection.
    with socket.socket(socket.AF_UNIX) as hangs:
        hangs.bind(str(folder / socket_name(settings)))
        hangs.listen()
        status = postgres_status(settings)
    assert status.state == "no answer"
    assert "timeout" in status.note
