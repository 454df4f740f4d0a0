"""Long-lived programs that the platform starts: spawn one, find it again, stop all of it.

Each runs in a session of its own, is written down under `home/run` with its number and its birth (numbers are given out
again), and carries the home folder in its environment, by which whatever it left behind is found too. Which programs
there are is the business of `stack.py`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from its_platform.errors import BadInput, ServerUnavailable
from its_platform.settings import Settings, load_settings
from its_platform.telemetry import SILENT, redact

MARK = "ITS_STACK_HOME"
_LOG_LIMIT_BYTES = 50_000_000
# `Redis server v=7.0.15 …`, `prometheus, version 2.42.0+ds …`
_VERSION = re.compile(r"\b(?:v=|version )(\d+)\.(\d+)")


@dataclass(frozen=True)
class Record:
    """A program that was started. birth: which of all processes that ever had this number, as `birth_of` gives it.

    restarts: how often it was started anew since `its up`.
    """

    name: str
    pid: int
    birth: str
    address: str
    log: str
    argv: list[str]
    restarts: int = 0


def process_environment(settings: Settings, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment in which another process of ours reads the same settings."""
    environment = {**SILENT, **os.environ, **(extra or {})}
    if load_settings() != settings:
        for name, value in settings.model_dump(mode="json").items():
            for nested in [key for key in environment if key.upper().startswith(f"ITS_{name.upper()}__")]:
                del environment[nested]
            if value is None:
                environment.pop(f"ITS_{name.upper()}", None)
            else:
                environment[f"ITS_{name.upper()}"] = value if isinstance(value, str) else json.dumps(value)
    environment["ITS_HOME"] = str(settings.home.absolute())
    environment[MARK] = str(settings.home.absolute())
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def installed_server(title: str, least: str, names: Sequence[str], otherwise: str) -> str:
    """Where a server of the system's packages lies, by the names that its program may have, Debian's first.

    otherwise: how to do without. Raises `BadInput` where it is not installed, or is older than `least` (as `7.0`).
    """
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        raise BadInput(
            f"The services profile needs {title}, which is not installed.",
            f"On Debian: apt-get install {names[0]}; or {otherwise}.",
        )
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    version = _VERSION.search(said.stdout + said.stderr)
    if version is not None and (int(version[1]), int(version[2])) < tuple(map(int, least.split("."))):
        raise BadInput(
            f"The services profile needs {title} {least} or newer; {program} is {version[1]}.{version[2]}.",
            f"Install a newer one; or {otherwise}.",
        )
    return program


def spawn(
    settings: Settings,
    name: str,
    argv: list[str],
    environment: Mapping[str, str],
    address: str,
    where: Path,
    restarts: int = 0,
) -> Record:
    """Start a program in its own session, its words in `home/log/<name>.log`.

    Raises `ServerUnavailable`, and `OSError` where it cannot be written down; it is ended then.
    """
    log = settings.logs / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    rotate(log)
    with log.open("ab") as file:
        try:
            process = subprocess.Popen(
                argv, cwd=where, env=dict(environment), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise ServerUnavailable(
                f"{name} cannot be started: {argv[0]}: {error.strerror}.", "Run `make install`."
            ) from error
    record = Record(name, process.pid, birth_of(process.pid), address, str(log), [*argv], restarts)
    try:
        write_record(settings, record)
    except OSError:
        # A disk that is full: nobody would look after it, and it would hold its ports against the next try.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return record


def rotate(log: Path) -> None:
    """Have a log of more than 50 MB begin anew, and what it held lie in `<name>.log.1`, in place of what lay there.

    Its writer need not be told, as long as it appends; what it says between the copy and the cut is lost.
    """
    if not log.is_file() or log.stat().st_size <= _LOG_LIMIT_BYTES:
        return
    unfinished = log.with_suffix(".log.part")
    try:
        # Some logs are their owner's alone to read, and so are their copies from the first byte on.
        unfinished.touch(mode=0o600)
        shutil.copy(log, unfinished)
        unfinished.replace(log.with_suffix(".log.1"))
        os.truncate(log, 0)
    except OSError:
        # No room: a log that is too long must keep no server from starting.
        unfinished.unlink(missing_ok=True)


def write_record(settings: Settings, record: Record) -> None:
    """Write down that this program was started."""
    path = _path(settings, record.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(asdict(record), indent=1))
    unfinished.replace(path)


def read_record(settings: Settings, name: str) -> Record | None:
    """What was written down about a program, whether it still runs or not."""
    try:
        return Record(**json.loads(_path(settings, name).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def forget(settings: Settings, name: str) -> None:
    _path(settings, name).unlink(missing_ok=True)


def find(record: Record | None) -> psutil.Process | None:
    """The program's process while it runs; a zombie, or another program under its number, is not it."""
    if record is None:
        return None
    try:
        process = psutil.Process(record.pid)
        is_it = birth_of(record.pid) == record.birth and process.status() != psutil.STATUS_ZOMBIE
        return process if is_it else None
    except psutil.Error:
        return None


def birth_of(pid: int) -> str:
    """The boot of the machine and the ticks since then at which a process was born; empty for one that is gone.

    The time of day would not do: it moves when somebody sets the clock, and every server would count as dead.
    """
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except (OSError, IndexError):
        return ""
    return f"{boot}:{ticks}"


def age_s(process: psutil.Process) -> float:
    """Seconds that a process has lived, by a clock that nobody sets. Raises `psutil.NoSuchProcess`."""
    ticks = birth_of(process.pid).rpartition(":")[2]
    if not ticks:
        raise psutil.NoSuchProcess(process.pid)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")


def stop(settings: Settings, name: str, timeout_s: float = 15.0) -> bool:
    """End a program with everything that it started, and wait until all are gone; whether it was running.

    What a program left that was itself killed is ended too. From then on it is one that nobody started.
    """
    was_running = end(settings, name, timeout_s)
    forget(settings, name)
    return was_running


def end(settings: Settings, name: str, timeout_s: float = 15.0) -> bool:
    """The same, but it stays written down, as one that has died: for who starts it anew, and may fail at first."""
    record = read_record(settings, name)
    process = find(record)
    if record is None:
        return False
    family = session_of(record.pid)
    if process is None:
        # Its number may lead another session by now.
        family = [one for one in family if _is_marked(one, settings)]
    if family:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(record.pid, signal.SIGTERM)
        _end(family, timeout_s)
    return process is not None


def session_of(leader: int) -> list[psutil.Process]:
    """The processes of the session that a program leads: itself, and what it started, orphans among them.

    Not its descendants: what the supervisor starts anew leads a session of its own and outlives the supervisor.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == leader:
                found.append(process)
    return found


def left_behind(settings: Settings) -> list[psutil.Process]:
    """Every process that carries this home's mark: what the stack started, and what those started in turn."""
    found = [one for one in psutil.process_iter() if one.pid != os.getpid() and _is_marked(one, settings)]
    # A command that was itself started by a marked process is not to end its own parents.
    mine = {parent.pid for parent in psutil.Process().parents()}
    return [process for process in found if process.pid not in mine]


def is_ours(settings: Settings, pid: int) -> bool:
    """Whether a process of this number runs that the stack of this home started, or that one of those started."""
    try:
        return _is_marked(psutil.Process(pid), settings)
    except psutil.Error:
        return False


def end_all(processes: Iterable[psutil.Process], timeout_s: float = 10.0) -> None:
    """End processes politely, then firmly, and wait until they are gone."""
    processes = list(processes)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _end(processes, timeout_s)


def memory_mb(family: Iterable[psutil.Process]) -> float:
    """Resident memory of some processes together; pages that they share count once for each."""
    total = 0
    for process in family:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total / 1e6


def port_owner(host: str, port: int) -> str | None:
    """Who listens on a port, in words, or None when it is free. Raises `BadInput` where nothing of ours may listen."""
    import socket

    with socket.socket() as probe:
        # As servers do it: connections that are only winding down do not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise BadInput(
                    f"Nothing of ours can listen on {host}:{port}: {error.strerror or error}.",
                    "ITS_HOST is to be an address of this machine, and ports below 1024 are its administrator's.",
                ) from error
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                return f"{process.name()}, process {process.pid}"
    return "another program"


def tail(log: Path, lines: int = 1) -> str:
    """The last words of a log that say something, on one line; without secrets, which not every server keeps back."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8000))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    said = [line.strip() for line in text.splitlines() if line.strip()]
    worrying = [line for line in said if "rror" in line or "FATAL" in line]
    # Before it is cut, or a secret could be left without the name that it is known by.
    shown: str = redact(None, "", {"said": " | ".join((worrying or said)[-lines:])})["said"]
    return shown[-400:]


def _path(settings: Settings, name: str) -> Path:
    return settings.home / "run" / f"{name}.json"


def _is_marked(process: psutil.Process, settings: Settings) -> bool:
    try:
        is_dead = process.status() == psutil.STATUS_ZOMBIE
        return not is_dead and process.environ().get(MARK) == str(settings.home.absolute())
    except (psutil.Error, OSError):
        return False


def _end(processes: Iterable[psutil.Process], timeout_s: float) -> None:
    alive = _wait_gone(processes, timeout_s)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    alive = _wait_gone(alive, 10)
    if alive:
        raise ServerUnavailable(
            f"Process {alive[0].pid} does not end.", "It may hang in the kernel; `ps` shows its state."
        )


def _wait_gone(processes: Iterable[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those that still run after so long. A zombie is gone: it holds nothing, and its parent may take its time."""
    alive, deadline = list(processes), time.monotonic() + timeout_s
    while True:
        alive = [process for process in alive if not _is_gone(process)]
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.1)


def _is_gone(process: psutil.Process) -> bool:
    # One that this process started stays a zombie until it is waited for here.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    try:
        if not process.is_running():
            return True
        # Its first thread may have ended before the others, which then still hold what the process had open.
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True
