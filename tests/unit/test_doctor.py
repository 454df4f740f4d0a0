"""The doctor names what is wrong and what to do, and a check that fails is a finding too."""

from __future__ import annotations

import os
import socket
from collections import namedtuple
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from sqlalchemy.exc import OperationalError

from its_platform import clock, dagster_runs, doctor, processes
from its_platform.clock import Clock
from its_platform.dagster_runs import JobRun
from its_platform.doctor import loop, machine, servers
from its_platform.doctor.finding import Finding
from its_platform.errors import ServerUnavailable
from its_platform.private_files import write_file
from its_platform.settings import Settings, load_settings
from its_platform.stack import PartStatus
from its_platform.stores.keys import Owner
from its_platform.stores.objects import S3Store, open_keys
from its_platform.supervisor import _beat
from ports import free_port_range

Usage = namedtuple("Usage", "total used free")


def ill(found: list[Finding]) -> list[Finding]:
    return [one for one in found if not one.is_well]


@pytest.mark.parametrize(
    "error",
    [
        ServerUnavailable("away", "start it"),
        OSError("no such"),
        OperationalError("SELECT 1", {}, Exception("x")),
        psutil.NoSuchProcess(7),
        TypeError("a file holds what nobody thought of"),
    ],
)
def test_a_check_that_fails_is_a_finding_with_something_to_do(settings: Settings, error: Exception) -> None:
    def check_the_odd_thing(settings: Settings) -> list[Finding]:
        raise error

    (found,) = doctor.examine(settings, (check_the_odd_thing,))
    assert (found.name, found.is_well) == ("the odd thing", False)
    assert found.finding.startswith("could not be looked at")
    assert found.remedy


def test_a_full_disk_is_named_with_its_folder(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.home.mkdir(parents=True)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage(10**12, 10**12, 2_000_000))
    (found,) = machine.check_disk(settings)
    assert found.is_severe
    assert found.finding == f"the disk under {settings.home} is full: 2 MB are free"
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage(10**12, 0, 10**12))
    assert ill(machine.check_disk(settings)) == []


def test_a_clock_that_was_set_back_is_named_by_the_sensors_that_wait_for_the_old_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = SimpleNamespace(scalar_one=lambda: datetime.now(UTC))
    connection = SimpleNamespace(execute=lambda query: now, __enter__=None)
    monkeypatch.setattr(machine, "is_running", lambda settings: True)
    monkeypatch.setattr(
        "its_platform.stores.database.Database", lambda settings: SimpleNamespace(engine=Engine(connection))
    )
    monkeypatch.setattr(machine, "ticks_ahead_s", lambda settings: 86_400.0)
    (found,) = ill(machine.check_clock(settings))
    assert "it was set back: Dagster's sensors last looked 86400 s in the future" in found.finding
    monkeypatch.setattr(machine, "ticks_ahead_s", lambda settings: -3.0)
    assert ill(machine.check_clock(settings)) == []


@pytest.mark.parametrize(("by_s", "said"), [(86_400.0, "forward by 86400 s"), (-3600.0, "back by 3600 s")])
def test_a_clock_that_was_set_is_named_with_its_seconds_until_it_is_set_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, by_s: float, said: str
) -> None:
    ahead = 0.0
    monkeypatch.setattr(clock, "offset_s", lambda: 1.7e9 + ahead)
    us = processes.Record("supervisor", os.getpid(), processes.birth_of(os.getpid()), "", "", [])
    processes.write_record(settings, us)
    assert ill(machine.check_clock(settings)) == [], "nobody has looked yet"
    seen = Clock(clock.offset_s())
    _beat(settings, seen)
    assert ill(machine.check_clock(settings)) == []
    ahead = by_s
    for _ in range(2):
        # At once, and when the supervisor has seen it too.
        (found,) = ill(machine.check_clock(settings))
        assert found.finding == f"it was set {said} while the supervisor ran"
        assert "NTP" in found.remedy
        _beat(settings, seen)
    processes.write_record(settings, replace(us, birth="another boot"))
    assert ill(machine.check_clock(settings)) == [], "the beat of a supervisor that is gone says nothing of now"
    processes.write_record(settings, us)
    ahead = 5.0
    assert ill(machine.check_clock(settings)) == []


class Engine:
    """An engine whose connection is what it is given."""

    def __init__(self, connection: object) -> None:
        self.connection = connection

    def connect(self) -> Engine:
        return self

    def __enter__(self) -> object:
        return self.connection

    def __exit__(self, *error: object) -> None:
        pass


def test_a_database_that_is_gone_under_a_running_stack_is_no_database_that_was_not_started(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ill(servers.check_database(settings)) == []
    monkeypatch.setattr(servers, "is_up", lambda settings: True)
    (found,) = ill(servers.check_database(settings))
    assert "its server is gone" in found.finding


@pytest.mark.parametrize(
    ("state", "uptime_s", "note", "said"),
    [
        ("died", None, "GET /health 200 OK", "has died"),
        ("died", None, "Error: no space", "has died: Error: no space"),
        ("no answer", 4.0, "", "was started 4 s ago and does not answer yet"),
        ("no answer", 4000.0, "", "runs and does not answer"),
    ],
)
def test_a_server_that_is_ill_is_named_with_its_reason_where_it_gave_one(
    state: str, uptime_s: float | None, note: str, said: str
) -> None:
    status = PartStatus("mlflow", "MLflow", "", state, None, None, uptime_s, "mlflow.log", note)
    found = servers._of_part(load_settings(), status)
    assert (found.name, found.is_well, found.finding) == ("MLflow", False, said)
    assert "The supervisor sees to it" in found.remedy


@pytest.mark.parametrize(("state", "cure"), [("died", "`its up` starts it"), ("no answer", "`its down` and `its up`")])
def test_a_supervisor_that_died_or_hangs_is_not_said_to_come_back_by_itself(state: str, cure: str) -> None:
    status = PartStatus("supervisor", "Supervisor", "", state, None, None, None, "supervisor.log")
    remedy = servers._of_part(load_settings(), status).remedy
    assert remedy.startswith(cure)
    assert "nothing else revives it" in remedy


@pytest.mark.parametrize(
    ("run", "lost", "said", "named"),
    [
        (JobRun("abcdefghij", "learn", "SUCCESS"), False, "", ""),
        (JobRun("abcdefghij", "learn", "STARTED"), False, "", ""),
        (JobRun("abcdefghij", "learn", "STARTED"), True, "", "the process of run abcdefgh is gone"),
        (JobRun("abcdefghij", "learn", "FAILURE"), False, "no labels", "run abcdefgh failed: no labels"),
        (JobRun("abcdefghij", "ingest", "STARTED"), False, "the disk is full", "run abcdefgh meets: the disk is full"),
        (JobRun("abcdefghij", "learn", "QUEUED", is_repeat=True), False, "", "an earlier run was cut off"),
    ],
)
def test_a_run_that_failed_lost_its_process_or_tries_again_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, run: JobRun, lost: bool, said: str, named: str
) -> None:
    monkeypatch.setattr(loop, "is_running", lambda settings: True)
    monkeypatch.setattr(dagster_runs, "cut_off_runs", lambda settings: [run] if lost else [])
    monkeypatch.setattr(dagster_runs, "latest_runs", lambda settings: [run])
    monkeypatch.setattr(dagster_runs, "what_it_says", lambda settings, run_id: said)
    found = ill(loop.check_runs(settings))
    assert [named in one.finding for one in found] == ([True] if named else [])
    assert all(one.remedy and one.name == f"job {run.job}" for one in found)


def test_a_broken_version_in_the_repository_is_named(settings: Settings) -> None:
    assert ill(loop.check_model_repository(settings)) == []
    (settings.model_repository / "detector-yolo-onnx-320" / "9").mkdir(parents=True)
    (found,) = ill(loop.check_model_repository(settings))
    assert "version 9 of detector-yolo-onnx-320 is half written" in found.finding


def test_a_wish_that_is_refused_is_named_with_what_serves_and_the_way_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = SimpleNamespace(stage="production", wished=2, served=1, in_the_way="accuracy_floor failed")
    monkeypatch.setattr(loop, "is_running", lambda settings: True)
    monkeypatch.setattr("its_platform.release.status", lambda stores: [stage])
    (found,) = ill(loop.check_releases(settings))
    assert "version 2 is asked for at production and not served: accuracy_floor failed" in found.finding
    assert "version 1 goes on" in found.finding
    assert "its release promote 1" in found.remedy
    stage.in_the_way = None
    assert ill(loop.check_releases(settings)) == []


def test_a_window_without_a_report_is_not_called_free_of_drift(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = datetime(2026, 5, 1, tzinfo=UTC)
    monkeypatch.setattr(loop, "is_running", lambda settings: True)
    monkeypatch.setattr(
        "its_platform.monitoring.windows.next_window", lambda stores: (since, since + timedelta(hours=1))
    )
    (found,) = ill(loop.check_drift_reports(settings))
    assert "has no report; no drift was ruled out" in found.finding


def test_rows_that_the_front_lost_are_counted_once_and_with_their_reasons(settings: Settings) -> None:
    settings.spool.mkdir(parents=True)
    (settings.spool / "lost.json").write_text('{"lost": 5, "reasons": {"OSError": 3, "queue is full": 2}}')
    (found,) = ill(loop.check_prediction_log(settings))
    assert found.finding == "5 rows lost (OSError: 3, queue is full: 2)"


def test_a_doctor_starts_no_database(settings: Settings) -> None:
    for check in loop.CHECKS:
        assert ill(check(settings)) == []
    assert not (settings.home / "postgres").exists()


def test_what_a_bucket_lacks_is_named(settings: Settings, s3_address: str) -> None:
    S3Store(s3_address).create_bucket()
    (found,) = servers.check_objects(settings.model_copy(update={"objects_url": s3_address}))
    assert not found.is_well
    assert "bucket has no versions of what is replaced or deleted, no expiry" in found.finding
    here = settings.objects.model_copy(update={"expire_here": True})
    (found,) = servers.check_objects(settings.model_copy(update={"objects_url": s3_address, "objects": here}))
    assert "expiry" not in found.finding, "the supervisor sees to it"
    assert servers.check_objects(settings) == [], "a folder is no bucket"


def test_a_redis_of_somebody_elses_that_is_away_is_named_without_its_password(settings: Settings) -> None:
    assert servers.check_shared_answers(settings) == []
    away = settings.serving.model_copy(update={"redis_url": "redis://:hidden@127.0.0.1:1/0"})
    (found,) = ill(servers.check_shared_answers(settings.model_copy(update={"serving": away})))
    assert "Redis does not answer" in found.finding
    assert "hidden" not in found.finding
    assert not found.is_severe, "the front answers without it"


def test_keys_that_are_lost_changed_or_open_to_others_are_named(settings: Settings) -> None:
    keys = open_keys(settings)
    assert "none yet" in servers.check_keys(settings)[0].finding
    keys.for_sealing(None)
    keys.for_sealing(Owner("north", date(2026, 5, 1)))
    assert servers.check_keys(settings)[0].finding == f"2 keys of cameras and days in {keys.folder}"
    master = next((keys.folder / "master").glob("*.key"))
    master.chmod(0o644)
    (found,) = ill(servers.check_keys(settings))
    assert found.remedy == f"chmod 600 {master}"
    master.unlink()
    (found,) = doctor.examine(settings, (servers.check_keys,))
    assert "The master key" in found.finding
    assert "its keys import" in found.remedy
    plain = settings.model_copy(update={"objects": settings.objects.model_copy(update={"sealed": False})})
    assert "not encrypted" in ill(servers.check_keys(plain))[0].finding


def test_each_server_that_is_wanted_and_not_installed_is_named_with_what_to_do(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = settings.model_copy(update={"profile": "services", "environments": tmp_path})
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/git" if name == "git" else None)
    monkeypatch.setattr("its_platform.stores.postgres._SYSTEM_PROGRAMS", ())
    found = ill(machine.check_programs(own))
    assert [one.name for one in found] == ["PostgreSQL", "S3 server", "Redis", "Prometheus", "Alertmanager"]
    assert all("not installed" in one.finding and one.remedy for one in found)
    metrics = own.metrics.model_copy(update={"prometheus": False})
    others = {"database_url": "postgresql+psycopg2://its@db/", "objects_url": "file:///objects", "metrics": metrics}
    assert [one.name for one in ill(machine.check_programs(own.model_copy(update=others)))] == ["Redis"]
    assert ill(machine.check_programs(settings)) == [], "the embedded profile has its own"


@pytest.mark.parametrize(
    ("program", "said", "told"),
    [
        ("redis-server", "Redis server v=6.2.14 sha=00000000:0", "needs Redis 7.0 or newer"),
        ("prometheus", "prometheus, version 2.9.2 (branch: HEAD)", "needs Prometheus 2.24 or newer"),
        ("prometheus-alertmanager", "alertmanager, version 0.21.0+ds", "needs Alertmanager 0.22 or newer"),
    ],
)
def test_a_server_that_is_too_old_is_named_with_its_version(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, said: str, told: str
) -> None:
    own = settings.model_copy(update={"profile": "services"})
    old = tmp_path / program
    old.write_text(f"#!/bin/sh\necho '{said}'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = next(one for one in ill(machine.check_programs(own)) if one.name in told)
    assert told in found.finding
    assert str(old) in found.finding
    assert "Install a newer one" in found.remedy


def test_a_port_that_another_holds_is_named_for_postgresql_too(settings: Settings) -> None:
    own = settings.model_copy(update={"profile": "services"})
    with socket.create_server((own.host, own.ports.postgres)):
        (found,) = ill(machine.check_ports(own))
        assert f"{own.ports.postgres}, for PostgreSQL, is taken by" in found.finding
        assert "ITS_PORTS__POSTGRES" in found.remedy
        assert ill(machine.check_ports(settings)) == []


def test_a_port_of_a_further_triton_is_chosen_by_the_setting_of_all_of_them(settings: Settings) -> None:
    serving = settings.serving.model_copy(update={"replicas": 2})
    first = free_port_range(3)
    own = settings.model_copy(
        update={"serving": serving, "ports": settings.ports.model_copy(update={"triton_replicas": first})}
    )
    with socket.create_server((own.host, first + 1)):
        (found,) = ill(machine.check_ports(own))
    assert f"{first + 1}, for Triton 2, is taken by" in found.finding
    assert "ITS_PORTS__TRITON_REPLICAS" in found.remedy


def test_an_address_that_is_not_this_machines_is_no_port_that_another_holds(settings: Settings) -> None:
    # Of the block that is kept for documents.
    (found,) = doctor.examine(settings.model_copy(update={"host": "192.0.2.1"}), (machine.check_ports,))
    assert "can listen on 192.0.2.1:" in found.finding
    assert "Cannot assign requested address" in found.finding
    assert "taken" not in found.finding


@pytest.mark.parametrize(
    "name",
    [
        "services/passwords/redis",
        "services/redis/redis.conf",
        "services/objects/identities.json",
        "services/objects/security.toml",
        "services/alertmanager/web.yml",
        "data/.dvc/config.local",
        "certificates/ca.key",
        "certificates/repository.secret",
        "signing/hosts.key",
    ],
)
def test_a_secret_that_others_can_read_is_named(settings: Settings, name: str) -> None:
    path = settings.home / name
    path.parent.mkdir(parents=True)
    (path.parent / ".lock").touch(0o644)
    write_file(path, b"x", is_secret=True)
    # What hosts were told last is for everybody.
    (settings.home / "signing").mkdir(exist_ok=True)
    (settings.home / "signing" / "told.json").touch(0o644)
    assert ill(servers.check_secrets(settings)) == []
    path.chmod(0o640)
    (found,) = ill(servers.check_secrets(settings))
    assert found.remedy == f"chmod 600 {path}"


def test_settings_that_others_can_read_are_named_where_they_hold_a_secret(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    path = settings.home / "settings.yaml"
    path.write_text("training: {epochs: 3}\n")
    path.chmod(0o644)
    assert ill(servers.check_secrets(settings)) == []
    path.write_text("backup: {url: 's3+https://key:hidden@copies.example.org/its'}\n")
    (found,) = ill(servers.check_secrets(settings))
    assert found.finding == f"{path} can be read by others"
    assert "hidden" not in found.finding
    path.chmod(0o600)
    assert ill(servers.check_secrets(settings)) == []
