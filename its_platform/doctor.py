"""Look for what keeps the platform from working, and say what a person can do about it.

Each check looks at one thing as it is right now and gives one finding. Nothing is changed here; what mends by itself
is mended by `supervisor.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from its_platform import processes
from its_platform.errors import ItsError
from its_platform.settings import Settings
from its_platform.stack import PARTS, PartStatus, dagster_query, is_up, part_status
from its_platform.stores import versions
from its_platform.stores.postgres import is_running, server_process

LEAST_FREE_GB = 5.0
_NOT_UP = "not started; `its up` starts it"


@dataclass(frozen=True)
class Finding:
    """What one check found. is_severe: the platform cannot do its work as it is."""

    name: str
    is_well: bool
    finding: str
    remedy: str = ""
    is_severe: bool = True


def examine(settings: Settings) -> list[Finding]:
    """Every check, in the order in which things depend on each other. A check that itself fails is a finding too."""
    found: list[Finding] = []
    for check in CHECKS:
        try:
            found.extend(check(settings))
        except (ItsError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            name = check.__name__.removeprefix("check_").replace("_", " ")
            found.append(Finding(name, False, f"could not be looked at: {error}", getattr(error, "hint", "")))
    return found


def check_environments(settings: Settings) -> list[Finding]:
    """The three environments beside the platform's own."""
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
    missing = [f"{name} ({path})" for name, path in wanted.items() if not path.exists()]
    if missing:
        return [Finding("environments", False, f"missing: {', '.join(missing)}", "Run `make install`.")]
    version = ".".join(map(str, sys.version_info[:3]))
    return [Finding("environments", True, f"Python {version}, {', '.join(wanted)}")]


def check_programs(settings: Settings) -> list[Finding]:
    """Programs of the system that are called."""
    if shutil.which("git") is None:
        return [Finding("git", False, "not installed", "Install git; dataset versions are kept in it.")]
    said = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    return [Finding("git", True, said)]


def check_disk(settings: Settings) -> list[Finding]:
    """Room for footage, models and logs, and whether the home folder can be written."""
    folder = settings.home.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    if not os.access(folder, os.W_OK):
        return [Finding("disk", False, f"{folder} cannot be written", "Choose another home with ITS_HOME.")]
    enough = free >= LEAST_FREE_GB
    remedy = f"Make room, or choose another home with ITS_HOME; {LEAST_FREE_GB:.0f} GB are wanted."
    return [Finding("disk", enough, f"{free:.1f} GB free at {folder}", remedy, is_severe=free < 1)]


def check_clock(settings: Settings) -> list[Finding]:
    """A clock that is far off files frames and reports under the wrong time."""
    now = datetime.now(UTC)
    if not 2025 <= now.year <= 2100:
        return [Finding("clock", False, f"the clock says {now:%Y-%m-%d %H:%M} UTC", "Set the system's clock.")]
    if settings.database_url is not None or is_running(settings):
        import sqlalchemy as sa

        from its_platform.stores.database import Database

        with Database(settings).engine.connect() as connection:
            there: datetime = connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
        off = (datetime.now(UTC) - there).total_seconds()
        if abs(off) > 5:
            return [Finding("clock", False, f"{off:+.0f} s from the database's clock", "Set both by NTP.")]
    ahead = _newest_file(settings.home / "run") - time.time()
    if ahead > 60:
        return [Finding("clock", False, f"files of this home are {ahead:.0f} s in the future", "Set the clock by NTP.")]
    return [Finding("clock", True, f"{now:%Y-%m-%d %H:%M:%S} UTC")]


def check_ports(settings: Settings) -> list[Finding]:
    """Ports that a part would need and that another program holds."""
    wrong = []
    for part in PARTS:
        if processes.find(processes.read_record(settings, part.name)) is not None:
            continue
        for name in part.ports:
            port = getattr(settings.ports, name)
            owner = processes.port_owner(settings.host, port)
            if owner is not None:
                remedy = f"Stop that, or choose another with ITS_PORTS__{name.upper()}."
                wrong.append(Finding("ports", False, f"{port}, for {part.title}, is taken by {owner}", remedy))
    numbers = [getattr(settings.ports, name) for part in PARTS for name in part.ports]
    return wrong or [Finding("ports", True, ", ".join(map(str, sorted(numbers))))]


def check_database(settings: Settings) -> list[Finding]:
    """The server, and whether the tables are those of this code."""
    if settings.database_url is None and not is_running(settings):
        ill = server_process(settings) is not None
        remedy = f"Read {settings.home / 'postgres' / 'server.log'}, then `its down` and `its up`."
        return [Finding("database", not ill, "does not take connections" if ill else "not started", remedy)]
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    from its_platform.stores.database import MIGRATIONS, Database

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    wanted = ScriptDirectory.from_config(config).get_current_head()
    with Database(settings).engine.connect() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
        server = connection.connection.dbapi_connection.server_version  # type: ignore[union-attr]
    if present != wanted:
        finding = f"its tables are of step {present or 'none'}, the code wants {wanted}"
        return [Finding("database", False, finding, "Run `its up`.")]
    return [Finding("database", True, f"PostgreSQL {server // 10000}, tables of step {present}")]


def check_data_repository(settings: Settings) -> list[Finding]:
    """Whether every committed dataset version reached the remote."""
    names = versions.list_versions(settings)
    if not names:
        return [Finding("data repository", True, "no dataset version yet")]
    for name in names:
        versions.prove(settings, name)
    return [Finding("data repository", True, f"{len(names)} versions, each read back from the remote")]


def check_servers(settings: Settings) -> list[Finding]:
    """Each part of the stack, by asking it."""
    return [_of_part(settings, part_status(settings, part)) for part in PARTS if part.name != "dagster-daemon"]


def check_dagster_daemon(settings: Settings) -> list[Finding]:
    """The daemon's heartbeats, and whether the definitions load."""
    part = next(part for part in PARTS if part.name == "dagster-daemon")
    status = part_status(settings, part)
    if not status.is_healthy:
        return [_of_part(settings, status)]
    told = dagster_query(
        settings,
        "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } }"
        " workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError"
        " { __typename ... on PythonError { message } } } } } }",
    )
    found = []
    beats = told["instance"]["daemonHealth"]["allDaemonStatuses"]
    silent = [beat["daemonType"] for beat in beats if beat["required"] and not beat["healthy"]]
    remedy = f"Read {status.log}; `its down` and `its up` start it anew."
    found.append(Finding("Dagster's daemon", not silent, f"silent: {silent}" if silent else "every part beats", remedy))
    for entry in told["workspaceOrError"].get("locationEntries", []):
        loaded = entry["locationOrLoadError"] or {}
        is_well = loaded.get("__typename") == "RepositoryLocation"
        said = (loaded.get("message") or "loading").strip().splitlines()[-1]
        finding = "load" if is_well else f"do not load: {said}"
        found.append(
            Finding("definitions", is_well, finding, "Mend the module that is named, then reload it on the page.")
        )
    return found


def check_prediction_log(settings: Settings) -> list[Finding]:
    """Rows of the front's log that were lost for want of room."""
    path = settings.spool / "lost.json"
    if not path.is_file():
        return [Finding("prediction log", True, "no row lost")]
    read = json.loads(path.read_text())
    lost = sum(value for value in read.values() if isinstance(value, int)) if isinstance(read, dict) else int(read)
    remedy = "Raise ITS_SERVING__SPOOL_ROWS, or collect more often."
    return [Finding("prediction log", lost == 0, f"{lost} rows lost", remedy, is_severe=False)]


def check_leftovers(settings: Settings) -> list[Finding]:
    """Processes of an earlier start that nobody looks after any more."""
    if is_up(settings):
        return []
    left = processes.left_behind(settings)
    names = ", ".join(f"{process.name()} ({process.pid})" for process in left[:5])
    return [Finding("leftovers", not left, names or "none", "`its down` ends them.", is_severe=False)]


CHECKS: tuple[Callable[[Settings], list[Finding]], ...] = (
    check_environments,
    check_programs,
    check_disk,
    check_ports,
    check_database,
    check_clock,
    check_data_repository,
    check_servers,
    check_dagster_daemon,
    check_prediction_log,
    check_leftovers,
)


def _of_part(settings: Settings, status: PartStatus) -> Finding:
    if status.is_healthy:
        return Finding(status.title, True, f"answers{f' at {status.address}' if status.address else ''}")
    if status.state == "stopped":
        return Finding(status.title, not is_up(settings), _NOT_UP, "Run `its up`.", is_severe=False)
    what = "has died" if status.state == "died" else "runs and does not answer"
    remedy = f"Read {status.log}; `its up` starts what is missing, `its down` and `its up` all of it."
    return Finding(status.title, False, f"{what}{f': {status.note}' if status.note else ''}", remedy)


def _newest_file(folder: Path) -> float:
    return max((path.stat().st_mtime for path in folder.glob("*") if path.is_file()), default=0.0)
