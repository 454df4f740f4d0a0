"""The servers of one machine, for real: up, down, a port that is taken, a server that is killed."""

from __future__ import annotations

import json
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace

import psutil
import pytest

from its_platform import processes
from its_platform.errors import BadInput, ServerUnavailable
from its_platform.pages import ask_page
from its_platform.parts import PARTS, part_named
from its_platform.processes import process_environment
from its_platform.settings import Settings
from its_platform.stack import is_up, part_status, restart_part, stack_status, start_stack, stop_stack
from its_platform.stores.postgres import is_running, server_process

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def stack(settings: Settings, require: Callable[[bool, str], None]) -> Iterator[Settings]:
    server = settings.environments / "tritonserver" / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    require(
        server.is_file() and (settings.environments / "triton" / "bin" / "python").exists(), "Triton's environments"
    )
    yield settings
    stop_stack(settings)


def test_everything_comes_up_answers_and_goes_down_without_a_remainder(stack: Settings) -> None:
    started = start_stack(stack)
    assert {one.state for one in started} == {"healthy"}
    found = stack_status(stack, with_versions=True)
    assert {one.state for one in found} == {"healthy"}
    assert [one.name for one in found if not (one.version or "")[:1].isdigit()] == []
    assert [one.name for one in found if not one.memory_mb] == []
    assert {one.restarts for one in found if one.name != "postgres"} == {0}
    for name in ("dagster", "mlflow", "evidently"):
        with urllib.request.urlopen(part_named(name).address(stack), timeout=20) as page:
            assert b"<html" in page.read(4000).lower()
    projects = json.loads(ask_page(stack, stack.ports.evidently, "/api/projects"))
    assert [one["name"] for one in projects] == ["traffic_detector"], "the page is there before the first report"
    pids = {one.name: one.pid for one in started}
    assert {one.name: one.pid for one in start_stack(stack)} == pids, "a second start leaves what runs alone"

    family = [one for pid in pids.values() if pid for one in processes.session_of(pid)]
    postgres = server_process(stack)
    assert postgres is not None
    family += [postgres, *postgres.children()]
    stopped = stop_stack(stack)
    assert set(stopped) == {*pids, "postgres"}
    assert [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
    assert processes.left_behind(stack) == []
    assert stop_stack(stack) == []


def test_a_port_that_is_taken_is_one_clear_line_and_nothing_stays_up(stack: Settings) -> None:
    with socket.socket() as taken:
        taken.bind((stack.host, stack.ports.mlflow))
        taken.listen()
        with pytest.raises(BadInput, match=f"Port {stack.ports.mlflow}, which MLflow needs") as told:
            start_stack(stack, ["mlflow", "evidently"])
    assert "ITS_PORTS__MLFLOW" in told.value.hint
    assert not is_up(stack)


def test_a_part_that_dies_at_its_start_takes_the_others_down_again(
    stack: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [sys.executable, "-c", "raise SystemExit('Error: no such option')"]
    broken = replace(part_named("evidently"), command=lambda settings: (words, process_environment(settings)))
    parts = tuple(broken if part.name == "evidently" else part for part in PARTS)
    monkeypatch.setattr("its_platform.parts.PARTS", parts)
    with pytest.raises(ServerUnavailable, match="Evidently ended while it started: Error: no such option"):
        start_stack(stack, ["mlflow", "evidently"])
    assert not is_up(stack)
    assert not is_running(stack), "the database that came up for it goes too"


def test_a_killed_server_shows_as_died_and_is_restarted(stack: Settings) -> None:
    start_stack(stack, ["evidently"])
    part = part_named("evidently")
    process = processes.find(processes.read_record(stack, "evidently"))
    assert process is not None
    process.kill()
    process.wait(10)
    assert part_status(stack, part).state == "died"
    restart_part(stack, "evidently")
    assert part_status(stack, part).state == "healthy"


def test_a_port_that_was_taken_meanwhile_leaves_the_part_to_be_started_later(stack: Settings) -> None:
    start_stack(stack, ["evidently"])
    process = processes.find(processes.read_record(stack, "evidently"))
    assert process is not None
    process.kill()
    process.wait(10)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind((stack.host, stack.ports.evidently))
        squatter.listen()
        with pytest.raises(BadInput, match=str(stack.ports.evidently)):
            restart_part(stack, "evidently", is_patient=False)
    assert part_status(stack, part_named("evidently")).state == "died", "which is what the supervisor starts again"
