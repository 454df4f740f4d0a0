"""The machine under the platform: environments, programs, room on its disks, clock, ports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from its_platform import clock, processes
from its_platform.alerting.alertmanager import alertmanager_program
from its_platform.alerting.prometheus import prometheus_program
from its_platform.dagster_runs import CLOCK_TOLERANCE_S, ticks_ahead_s
from its_platform.doctor.finding import Finding
from its_platform.errors import ItsError
from its_platform.parts import SUPERVISOR, parts_of
from its_platform.settings import Settings
from its_platform.stores.cache_server import redis_program
from its_platform.stores.object_server import object_server_program
from its_platform.stores.postgres import client_program, is_running, server_process

LEAST_FREE_GB = 5.0
FULL_GB = 0.05


def check_environments(settings: Settings) -> list[Finding]:
    """The environments beside the platform's own; a host has no dataset versions."""
    wanted = {
        "DVC": settings.environments / "dvc" / "bin" / "dvc",
        "Triton's Python": settings.environments / "triton" / "bin" / "python",
        "Triton's server": settings.environments
        / "tritonserver"
        / "pytriton"
        / "tritonserver"
        / "bin"
        / "tritonserver",
    }
    if settings.is_host:
        del wanted["DVC"]
    missing = [f"{name} ({path})" for name, path in wanted.items() if not path.exists()]
    if missing:
        return [Finding("environments", False, f"missing: {', '.join(missing)}", "Run `make install`.")]
    version = ".".join(map(str, sys.version_info[:3]))
    return [Finding("environments", True, f"Python {version}, {', '.join(wanted)}")]


def check_programs(settings: Settings) -> list[Finding]:
    """Programs of the system that are called, and the servers that these settings have started here."""
    servers = _missing_servers(settings)
    if shutil.which("git") is None:
        return [Finding("git", False, "not installed", "Install git; dataset versions are kept in it."), *servers]
    said = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    return [Finding("git", True, said), *servers]


def _missing_servers(settings: Settings) -> list[Finding]:
    wanted: list[tuple[bool, str, Callable[[], object]]] = [
        (settings.runs_postgres, "PostgreSQL", lambda: client_program(settings, "pg_ctl")),
        (settings.runs_objects, "S3 server", lambda: object_server_program(settings)),
        (settings.runs_redis, "Redis", redis_program),
        (settings.runs_prometheus, "Prometheus", prometheus_program),
        (settings.runs_prometheus, "Alertmanager", alertmanager_program),
    ]
    found = []
    for is_wanted, name, look in wanted:
        try:
            if is_wanted:
                look()
        except ItsError as error:
            found.append(Finding(name, False, error.message, error.hint))
    return found


def check_disk(settings: Settings) -> list[Finding]:
    """Room for footage, models and logs on each disk that the home folder reaches, and whether it can be written."""
    home = settings.home.absolute()
    while not home.exists():
        home = home.parent
    if not os.access(home, os.W_OK):
        return [Finding("disk", False, f"{home} cannot be written", "Choose another home with ITS_HOME.")]
    return [_room(folder) for folder in disks(home)]


def disks(home: Path) -> list[Path]:
    """A folder on each disk that a home folder reaches; the home itself is the first."""
    found = {home.stat().st_dev: home}
    stores = ("objects", "tables", "triton", "mlartifacts", "postgres")
    for name in (*stores, "services", *(f"services/{store}" for store in stores)):
        if (home / name).exists():
            found.setdefault((home / name).stat().st_dev, home / name)
    return list(found.values())


def _room(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 1e9
    remedy = f"Make room, or choose another home with ITS_HOME; {LEAST_FREE_GB:.0f} GB are wanted."
    if free < FULL_GB:
        remedy = f"Make room on the disk of {folder}; what could not be written is then written by itself."
        return Finding("disk", False, f"the disk under {folder} is full: {free * 1000:.0f} MB are free", remedy)
    return Finding("disk", free >= LEAST_FREE_GB, f"{free:.1f} GB free at {folder}", remedy, is_severe=free < 1)


def check_clock(settings: Settings) -> list[Finding]:
    """A clock that is far off files frames and reports under the wrong time."""
    now = datetime.now(UTC)
    if not 2025 <= now.year <= 2100:
        return [Finding("clock", False, f"the clock says {now:%Y-%m-%d %H:%M} UTC", "Set the system's clock.")]
    if not settings.runs_postgres or is_running(settings):
        import sqlalchemy as sa

        from its_platform.stores.database import Database

        with Database(settings).engine.connect() as connection:
            there: datetime = connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
        off = (datetime.now(UTC) - there).total_seconds()
        if abs(off) > 5:
            return [Finding("clock", False, f"{off:+.0f} s from the database's clock", "Set both by NTP.")]
    ahead = _newest_file(settings.home / "run") - time.time()
    if ahead > CLOCK_TOLERANCE_S:
        return [Finding("clock", False, f"files of this home are {ahead:.0f} s in the future", "Set the clock by NTP.")]
    if is_running(settings) and settings.runs_postgres and (waits := ticks_ahead_s(settings)) > CLOCK_TOLERANCE_S:
        told = f"it was set back: Dagster's sensors last looked {waits:.0f} s in the future"
        remedy = (
            "Set it by NTP. The supervisor restarts Dagster's daemon within 10 s; without one, `its down`, `its up`."
        )
        return [Finding("clock", False, told, remedy)]
    if by_s := _set_by_s(settings):
        return [Finding("clock", False, *_step_told(by_s))]
    return [Finding("clock", True, f"{now:%Y-%m-%d %H:%M:%S} UTC")]


def _set_by_s(settings: Settings) -> float:
    """By how much the clock was set since the supervisor began to look, forward positive; 0 where nobody looks."""
    record = processes.read_record(settings, SUPERVISOR)
    if record is None or processes.find(record) is None:
        return 0.0
    try:
        beat = json.loads((settings.home / "run" / "supervisor-beat.json").read_text())
        if beat["pid"] != record.pid:
            return 0.0
        set_by_s = beat["clock_set_by_s"] + clock.step_s(beat["clock_offset_s"], clock.offset_s())
    except (OSError, ValueError, KeyError):
        # It has not looked yet.
        return 0.0
    return float(set_by_s) if abs(set_by_s) > clock.TOLERANCE_S else 0.0


def _step_told(by_s: float) -> tuple[str, str]:
    """What is said of a clock that was set, and what to do."""
    if by_s < 0:
        told, meanwhile = "back", "pauses that lie in the future count as over"
    else:
        told = "forward"
        meanwhile = "cool-downs count as over, certificates may as expired, and retention may remove too early"
    return (
        f"it was set {told} by {abs(by_s):.0f} s while the supervisor ran",
        f"Set it by NTP; meanwhile {meanwhile}. Where it is right now, `its down`, `its up` take it as it is.",
    )


def check_ports(settings: Settings) -> list[Finding]:
    """Ports that a part would need and that another program holds."""
    wrong = []
    for part in parts_of(settings):
        if processes.find(processes.read_record(settings, part.name)) is not None:
            continue
        for name, port in part.port_numbers(settings).items():
            owner = processes.port_owner(settings.host, port)
            if owner is not None:
                remedy = f"Stop that, or choose another with {part.port_setting(name)}."
                wrong.append(Finding("ports", False, f"{port}, for {part.title}, is taken by {owner}", remedy))
    numbers = [port for part in parts_of(settings) for port in part.port_numbers(settings).values()]
    # No part of the stack; the embedded one listens on no port.
    if settings.profile == "services" and settings.runs_postgres:
        port = settings.ports.postgres
        numbers.append(port)
        owner = processes.port_owner(settings.host, port) if server_process(settings) is None else None
        if owner is not None:
            remedy = "Stop that, or choose another with ITS_PORTS__POSTGRES."
            wrong.append(Finding("ports", False, f"{port}, for PostgreSQL, is taken by {owner}", remedy))
    return wrong or [Finding("ports", True, ", ".join(map(str, sorted(numbers))))]


def _newest_file(folder: Path) -> float:
    return max((path.stat().st_mtime for path in folder.glob("*") if path.is_file()), default=0.0)


CHECKS: tuple[Callable[[Settings], list[Finding]], ...] = (
    check_environments,
    check_programs,
    check_disk,
    check_ports,
    check_clock,
)
