"""The servers of one machine: start them in order, know how they are, stop them without a remainder.

Which servers there are is in `parts.py`; how processes are started and ended, in `processes.py`.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from its_platform import certificates, dagster_runs, processes
from its_platform.errors import BadInput, ItsError, LeaseHeld, ServerUnavailable
from its_platform.pages import ask_page, page_address
from its_platform.parts import SUPERVISOR, Part, part_named, parts_of
from its_platform.running_versions import running_version
from its_platform.settings import REPOSITORY, Settings
from its_platform.stores import postgres
from its_platform.stores.postgres import is_running, server_process, socket_folder, stop_postgres
from its_platform.stores.prepare import prepare, write_dagster_home
from its_platform.telemetry import Progress, get_log, no_progress

LOG = get_log(__name__)
POSTGRES = "postgres"
_SHOWN = "shows it now"
_LOCK_WAIT_S = 120
# What would tell of it goes first, then those that start work, then those that it was done on.
_STOP_TOGETHER = (
    ("prometheus", "alertmanager", "metrics"),
    ("dagster-daemon", "dagster", "dagster-code", "sync"),
    ("evidently", "mlflow", "triton"),
    ("redis", "objects"),
)


@dataclass(frozen=True)
class PartStatus:
    """How a part is right now. state: `healthy`, `no answer`, `died` or `stopped`.

    note: of one that is well, what it has to say; else the last words of its log. memory_mb: resident, of all its
    processes. restarts: since `its up`; None where nobody counts them. version: of the program, where it was asked for.
    """

    name: str
    title: str
    address: str
    state: str
    pid: int | None
    memory_mb: float | None
    uptime_s: float | None
    log: str
    note: str = ""
    restarts: int | None = None
    version: str | None = None

    @property
    def is_healthy(self) -> bool:
        return self.state == "healthy"


def start_stack(
    settings: Settings, parts: Sequence[str] | None = None, progress: Progress = no_progress
) -> list[PartStatus]:
    """Start what does not run yet and wait until each answers; what runs stays as it is.

    parts: names from `PARTS` (all by default); PostgreSQL and the other stores always come along. Raises `BadInput`
    for a port that is taken, a program that is missing or a certificate that expired and that others have to renew,
    `ServerUnavailable` for a part that does not come up; what this call started is then stopped again.
    """
    known = parts_of(settings)
    wanted = [part_named(name, settings) for name in parts] if parts is not None else list(known)
    wanted = [part for part in known if part in wanted or part.is_store]
    _renew_expired(settings)
    with _held(settings):
        missing = [part for part in wanted if processes.find(processes.read_record(settings, part.name)) is None]
        for part in missing:
            # What a life that was ended by force left may still hold its ports.
            processes.stop(settings, part.name, part.stop_timeout_s)
            _stop_triton_remains(settings, part)
            _check_ports(settings, part)
        had_postgres = is_running(settings)
        started: list[Part] = []
        total = len(wanted) + 1
        try:
            for part in (part for part in missing if part.is_store):
                progress("servers", 0, total, part.title)
                started.append(part)
                _spawn(settings, part)
                _wait_healthy(settings, part)
            if not settings.is_host:
                prepare(settings, progress)
            progress("servers", 1, total, "PostgreSQL")
            # Side by side, but for the supervisor, which would take those that are still starting for ill.
            for part in missing:
                if part.name != SUPERVISOR and not part.is_store:
                    if part.after in {one.name for one in wanted}:
                        _wait_healthy(settings, part_named(part.after, settings))
                    started.append(part)
                    _spawn(settings, part)
            for done, part in enumerate(wanted, start=2):
                progress("servers", done - 1, total, part.title)
                if part.name == SUPERVISOR and part in missing:
                    started.append(part)
                    _spawn(settings, part)
                _wait_healthy(settings, part)
            if any(part.name == "dagster" for part in missing):
                # Its page would ask every newcomer for an address to send news to.
                dagster_query(settings, "mutation { setNuxSeen }")
            progress("servers", total, total, "all answer")
        except BaseException:
            # An interrupt too: half a stack is worse than none.
            for part in reversed(started):
                processes.stop(settings, part.name, part.stop_timeout_s)
            if not had_postgres and settings.runs_postgres and not processes.left_behind(settings):
                stop_postgres(settings)
            raise
    return [part_status(settings, part) for part in wanted]


def start_stores(settings: Settings) -> None:
    """Start the servers that things are kept in, and make nothing in them: for who brings what was kept elsewhere."""
    with _held(settings):
        if settings.runs_postgres:
            postgres.start_postgres(settings)
        for part in parts_of(settings):
            if part.is_store and processes.find(processes.read_record(settings, part.name)) is None:
                _check_ports(settings, part)
                _spawn(settings, part)
                _wait_healthy(settings, part)


def stop_stack(settings: Settings, progress: Progress = no_progress) -> list[str]:
    """Stop everything of this home in reverse order, PostgreSQL last, and leave no process; the names of what ran."""
    # First and without the lock: it may be about to start something again, and would hold us up.
    stopped = [SUPERVISOR] if processes.stop(settings, SUPERVISOR) else []
    total = len(_STOP_TOGETHER) + 2
    parts = parts_of(settings)
    known, replicas = {part.name for part in parts}, [part.name for part in parts if part.replica]
    with _held(settings):
        for done, together in enumerate(_STOP_TOGETHER):
            names = [name for name in together if name in known] + (replicas if "triton" in together else [])
            if not names:
                continue
            progress("stopping", done, total, ", ".join(part_named(name, settings).title for name in names))
            with ThreadPoolExecutor(len(names)) as pool:
                ran = pool.map(
                    lambda name: processes.stop(settings, name, part_named(name, settings).stop_timeout_s), names
                )
                stopped += [name for name, was_running in zip(names, ran, strict=True) if was_running]
        progress("stopping", total - 2, total, "what was left behind")
        _stop_all_tritons(settings)
        processes.end_all(processes.left_behind(settings))
        progress("stopping", total - 1, total, "PostgreSQL")
        if settings.runs_postgres:
            from its_platform.stores.database import dispose_engines

            if server_process(settings) is not None:
                stopped.append(POSTGRES)
            dispose_engines()
            stop_postgres(settings)
    progress("stopping", total, total, "nothing runs")
    return stopped


def is_up(settings: Settings) -> bool:
    """Whether any server of the stack runs (PostgreSQL alone does not count: any command starts it)."""
    return any(processes.find(processes.read_record(settings, part.name)) is not None for part in parts_of(settings))


def stack_status(settings: Settings, with_versions: bool = False) -> list[PartStatus]:
    """How PostgreSQL and each part are, each asked right now.

    Side by side, but for the Tritons: their client has a loop, of which one runs at a time.
    """
    parts = parts_of(settings)
    tritons = [part for part in parts if part.name == "triton" or part.replica]
    with ThreadPoolExecutor(len(parts) + 1) as pool:
        first = [] if settings.is_host else [pool.submit(_postgres_status, settings)]
        others = {
            part.name: pool.submit(part_status, settings, part, with_versions) for part in parts if part not in tritons
        }
        asked = pool.submit(lambda: {part.name: part_status(settings, part, with_versions) for part in tritons})
        found = {name: future.result() for name, future in others.items()} | asked.result()
        return [*(future.result() for future in first), *(found[part.name] for part in parts)]


def part_status(settings: Settings, part: Part, with_version: bool = False) -> PartStatus:
    """How one part is; `with_version` asks one that answers for the version of its program too."""
    record = processes.read_record(settings, part.name)
    process = processes.find(record)
    log = str(settings.logs / f"{part.name}.log")
    if process is not None:
        is_healthy = _asks_well(settings, part)
        # One that ends while it is asked has died.
        with suppress(psutil.NoSuchProcess):
            return PartStatus(
                part.name,
                part.title,
                part.address(settings),
                "healthy" if is_healthy else "no answer",
                process.pid,
                round(processes.memory_mb(processes.session_of(process.pid)), 1),
                round(processes.age_s(process), 1),
                log,
                _note(settings, part) if is_healthy else processes.tail(Path(log)),
                record.restarts if record else None,
                running_version(part.own(settings), part.name) if is_healthy and with_version else None,
            )
    note = processes.tail(Path(log)) if record else ""
    return PartStatus(
        part.name, part.title, part.address(settings), "died" if record else "stopped", None, None, None, log, note,
        record.restarts if record else None,
    )  # fmt: skip


def restart_part(settings: Settings, name: str, is_patient: bool = True, seen: processes.Record | None = None) -> None:
    """Stop a part, if it runs, and start it anew; `is_patient` waits until it answers.

    seen: what was found dead. Nothing happens where somebody else has started it since.

    Raises `ServerUnavailable`, and `BadInput` where somebody else has taken its port.
    """
    part = part_named(name, settings)
    with _held(settings):
        record = processes.read_record(settings, part.name)
        if seen is not None and record != seen:
            return
        # Not forgotten: as one that nobody started, the supervisor would not try it again where this fails.
        processes.end(settings, part.name, part.stop_timeout_s)
        _stop_triton_remains(settings, part)
        _check_ports(settings, part)
        _spawn(settings, part, record.restarts + 1 if record else 0)
    if is_patient:
        _wait_healthy(settings, part)


def renew_certificates(settings: Settings, names: Sequence[str], days: int) -> dict[str, str]:
    """Issue the home's certificates anew and have what runs show them; what each part does, by name.

    Raises `BadInput` where the authority is not here, `ServerUnavailable` for a server that keeps its old one.
    """
    had_ended = bool(certificates.expired_certificates(settings.certificates))
    certificates.renew_certificates(settings.certificates, names, days)
    told = {}
    if settings.profile == "services" and settings.runs_postgres and is_running(settings):
        postgres.renew_certificate(settings)
        told[POSTGRES] = _SHOWN
    for part in parts_of(settings):
        is_triton = part.name == "triton" or bool(part.replica)
        if processes.find(processes.read_record(settings, part.name)) is None:
            continue
        if part.reads_certificates:
            if not part.is_page or part.is_tls(settings):
                told[part.name] = _SHOWN
        elif had_ended and (part.is_store or (is_triton and settings.triton_tls)):
            # Nobody who could tell it of the new one trusts the one that it shows.
            restart_part(settings, part.name)
            told[part.name] = "was started anew with it"
        elif part.renew is not None:
            part.renew(settings)
            told[part.name] = _SHOWN
        elif part.name == "objects":
            told[part.name] = "shows it within five hours, or after a restart"
        elif is_triton and settings.triton_tls:
            told[part.name] = "shows it after a restart"
    return told


def _renew_expired(settings: Settings) -> None:
    """Nobody trusts a server whose certificate has ended: issue new ones, or say who has to."""
    ended = certificates.expired_certificates(settings.certificates) if settings.uses_certificates else []
    if not ended:
        return
    files, what = certificates.Certificates(settings.certificates), certificates.what_expired(settings.certificates)
    if files.root in [one.file for one in ended] or not files.key("ca").is_file():
        raise BadInput(f"No server would be trusted: {what}.", certificates.EXPIRED_HINT)
    LOG.warning("certificates are issued anew", expired=what)
    renew_certificates(settings, certificates.server_names(settings), certificates.DAYS)


def _spawn(settings: Settings, part: Part, restarts: int = 0) -> None:
    # What its last life left, where that was ended by force.
    processes.end(settings, part.name, part.stop_timeout_s)
    if part.name == "dagster-daemon":
        write_dagster_home(settings)
        if dagster_runs.has_runs_under_way(settings) or dagster_runs.ticks_ahead_s(settings) > 0:
            dagster_runs.settle(settings)
    argv, environment = part.command(part.own(settings))
    processes.spawn(settings, part.name, argv, environment, part.address(settings), REPOSITORY, restarts)


def _wait_healthy(settings: Settings, part: Part) -> None:
    deadline = time.monotonic() + part.start_timeout_s
    log = settings.logs / f"{part.name}.log"
    while not _asks_well(settings, part):
        if processes.find(processes.read_record(settings, part.name)) is None:
            raise ServerUnavailable(
                f"{part.title} ended while it started: {processes.tail(log) or 'no word from it'}", f"Read {log}."
            )
        if time.monotonic() > deadline:
            raise ServerUnavailable(f"{part.title} did not answer within {part.start_timeout_s:.0f} s.", f"Read {log}.")
        time.sleep(0.3)


def _asks_well(settings: Settings, part: Part) -> bool:
    try:
        return part.is_healthy(part.own(settings))
    except (ItsError, OSError, ValueError, psutil.Error):
        return False


def _note(settings: Settings, part: Part) -> str:
    """What a part that is well has to say."""
    try:
        return part.says(settings) if part.says is not None else ""
    except (ItsError, OSError) as error:
        return str(error)


def _check_ports(settings: Settings, part: Part) -> None:
    for name, port in part.port_numbers(settings).items():
        owner = processes.port_owner(settings.host, port)
        if owner is not None:
            raise BadInput(
                f"Port {port}, which {part.title} needs, is taken by {owner}.",
                f"Stop that, or choose another with {part.port_setting(name)}.",
            )


def _postgres_status(settings: Settings) -> PartStatus:
    from its_platform.stores import database

    problem, is_there = "", not settings.runs_postgres or is_running(settings)
    if is_there:
        try:
            database.ask(settings)
        except ItsError as error:
            problem = str(error)
    if not settings.runs_postgres:
        state = "no answer" if problem else "healthy"
        return PartStatus(POSTGRES, "PostgreSQL", "as set", state, None, None, None, "", problem)
    process = server_process(settings)
    memory_mb = uptime_s = None
    if process is not None:
        try:
            memory_mb = round(processes.memory_mb([process, *process.children()]), 1)
            uptime_s = round(processes.age_s(process), 1)
        except psutil.NoSuchProcess:
            process = None
    state = "stopped" if process is None and not is_there else "healthy" if is_there and not problem else "no answer"
    return PartStatus(
        POSTGRES,
        "PostgreSQL",
        f"{settings.host}:{settings.ports.postgres}"
        if settings.profile == "services"
        else str(socket_folder(settings)),
        state,
        process.pid if process else None,
        memory_mb,
        uptime_s,
        str(postgres.log_file(settings)),
        problem,
        version=postgres.server_version(settings) if state == "healthy" else None,
    )


def _stop_triton_remains(settings: Settings, part: Part) -> None:
    """What a Triton left that is to be started; its neighbours serve on."""
    if part.name == "triton" or part.replica:
        from its_platform.serving.server import stop_triton

        stop_triton(part.own(settings))


def _stop_all_tritons(settings: Settings) -> None:
    from its_platform.serving.server import stop_tritons

    stop_tritons(settings)


def dagster_query(settings: Settings, query: str, variables: dict[str, object] | None = None) -> dict[str, dict]:
    """Ask Dagster's page by GraphQL. Raises `ServerUnavailable` when it does not answer, or answers with errors."""
    asked = {"query": query, "variables": variables or {}}
    try:
        read = json.loads(ask_page(settings, settings.ports.dagster, "/graphql", asked, within_s=20))
    except (OSError, ValueError) as error:
        address = page_address(settings, settings.ports.dagster)
        raise ServerUnavailable(f"Dagster's page at {address} does not answer.", "`its doctor` says more.") from error
    if read.get("errors"):
        raise ServerUnavailable(f"Dagster's page refuses a question: {read['errors'][0].get('message')}")
    data: dict[str, dict] = read["data"]
    return data


@contextmanager
def _held(settings: Settings) -> Iterator[None]:
    """One starter or stopper of this home's servers at a time."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "stack.lock").open("w") as file:
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LeaseHeld(
                        "Someone else is still starting or stopping the servers.", "Try again in a moment."
                    ) from None
                time.sleep(0.2)
        yield
