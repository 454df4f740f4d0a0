"""The servers of one machine: start them in order, know how they are, stop them without a remainder.

PostgreSQL, Triton, MLflow's page, Evidently's page, Dagster's code server, page and daemon, and the supervisor that
looks after them. Everything listens on `settings.host`. What each server does is the business of the stages; how
processes are started and ended, of `processes.py`.
"""

from __future__ import annotations

import fcntl
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path

from its_platform import dagster_runs, processes
from its_platform.errors import BadInput, ItsError, LeaseHeld, NotFound, ServerUnavailable
from its_platform.processes import process_environment
from its_platform.settings import REPOSITORY, Settings
from its_platform.stores.postgres import is_running, server_process, socket_folder, stop_postgres
from its_platform.stores.prepare import dagster_environment, prepare, write_dagster_home
from its_platform.telemetry import Progress, no_progress

POSTGRES = "postgres"
SUPERVISOR = "supervisor"
_LOCK_WAIT_S = 120
# Those that start work go first, then those that it was done on.
_STOP_TOGETHER = (("dagster-daemon", "dagster", "dagster-code"), ("evidently", "mlflow", "triton"))


@dataclass(frozen=True)
class Part:
    """A server and how to start it. ports: those it listens on, by their name in `Ports`.

    command: the words and the whole environment. is_healthy asks it something and looks at the answer.
    """

    name: str
    title: str
    ports: tuple[str, ...]
    command: Callable[[Settings], tuple[list[str], dict[str, str]]]
    is_healthy: Callable[[Settings], bool]
    # Only a hang takes so long, or a machine with far more to do than it can; one that ends is told at once.
    start_timeout_s: float = 300.0
    stop_timeout_s: float = 15.0
    is_page: bool = False
    replica: int = 0
    # What has to answer before this one is started.
    after: str = ""

    def address(self, settings: Settings) -> str:
        """Where it listens; empty for one that does not."""
        if not self.ports:
            return ""
        scheme = "http://" if self.is_page else ""
        return f"{scheme}{settings.host}:{self.port_numbers(settings)[self.ports[0]]}"

    def own(self, settings: Settings) -> Settings:
        """The settings as this part reads them: a replica's have ports of its own."""
        if not self.replica:
            return settings
        from its_platform.serving.replicas import replica_settings

        return replica_settings(settings)[self.replica]

    def port_numbers(self, settings: Settings) -> dict[str, int]:
        ports = self.own(settings).ports
        return {name: getattr(ports, name) for name in self.ports}


@dataclass(frozen=True)
class PartStatus:
    """How a part is right now. state: `healthy`, `no answer`, `died` or `stopped`."""

    name: str
    title: str
    address: str
    state: str
    pid: int | None
    memory_mb: float | None
    uptime_s: float | None
    log: str
    note: str = ""

    @property
    def is_healthy(self) -> bool:
        return self.state == "healthy"


def start_stack(
    settings: Settings, parts: Sequence[str] | None = None, progress: Progress = no_progress
) -> list[PartStatus]:
    """Start what does not run yet and wait until each answers; what runs stays as it is.

    parts: names from `PARTS` (all by default); PostgreSQL always comes along. Raises `BadInput` for a port that is
    taken, `ServerUnavailable` for a part that does not come up; what this call started is then stopped again.
    """
    known = parts_of(settings)
    wanted = [part_named(name, settings) for name in parts] if parts is not None else list(known)
    wanted = [part for part in known if part in wanted]
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
            prepare(settings, progress)
            progress("servers", 1, total, "PostgreSQL")
            # Side by side, but for the supervisor, which would take those that are still starting for ill.
            for part in missing:
                if part.name != SUPERVISOR:
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
            if not had_postgres and settings.database_url is None and not processes.left_behind(settings):
                stop_postgres(settings)
            raise
    return [part_status(settings, part) for part in wanted]


def stop_stack(settings: Settings, progress: Progress = no_progress) -> list[str]:
    """Stop everything of this home in reverse order, PostgreSQL last, and leave no process; the names of what ran."""
    # First and without the lock: it may be about to start something again, and would hold us up.
    stopped = [SUPERVISOR] if processes.stop(settings, SUPERVISOR) else []
    total = len(_STOP_TOGETHER) + 2
    replicas = [part.name for part in parts_of(settings) if part.replica]
    with _held(settings):
        for done, together in enumerate(_STOP_TOGETHER):
            names = [*together, *(replicas if "triton" in together else [])]
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
        if settings.database_url is None:
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


def stack_status(settings: Settings) -> list[PartStatus]:
    """How PostgreSQL and each part are, each asked right now."""
    return [_postgres_status(settings), *(part_status(settings, part) for part in parts_of(settings))]


def part_status(settings: Settings, part: Part) -> PartStatus:
    """How one part is."""
    record = processes.read_record(settings, part.name)
    process = processes.find(record)
    log = str(settings.logs / f"{part.name}.log")
    if process is None:
        note = processes.tail(Path(log)) if record else ""
        return PartStatus(
            part.name, part.title, part.address(settings), "died" if record else "stopped", None, None, None, log, note
        )
    is_healthy = _asks_well(settings, part)
    return PartStatus(
        part.name,
        part.title,
        part.address(settings),
        "healthy" if is_healthy else "no answer",
        process.pid,
        round(processes.memory_mb(processes.session_of(process.pid)), 1),
        round(processes.age_s(process), 1),
        log,
        "" if is_healthy else processes.tail(Path(log)),
    )


def restart_part(settings: Settings, name: str, is_patient: bool = True) -> None:
    """Stop a part, if it runs, and start it anew; `is_patient` waits until it answers. Raises `ServerUnavailable`."""
    part = part_named(name, settings)
    with _held(settings):
        processes.stop(settings, part.name, part.stop_timeout_s)
        _stop_triton_remains(settings, part)
        _check_ports(settings, part)
        _spawn(settings, part)
    if is_patient:
        _wait_healthy(settings, part)


def parts_of(settings: Settings) -> tuple[Part, ...]:
    """The parts that these settings ask for: `PARTS`, and one for each further Triton behind the first."""
    found: list[Part] = []
    for part in PARTS:
        found.append(part)
        if part.name == "triton":
            further = range(1, settings.serving.replicas)
            found += [replace(part, name=f"triton-{n + 1}", title=f"Triton {n + 1}", replica=n) for n in further]
    return tuple(found)


def part_named(name: str, settings: Settings | None = None) -> Part:
    """The part of this name; those of further Tritons are known where settings are given. Raises `NotFound`."""
    known = PARTS if settings is None else parts_of(settings)
    for part in known:
        if part.name == name:
            return part
    raise NotFound(f"The stack has no part {name}.", f"It has {', '.join(part.name for part in known)}.")


def _spawn(settings: Settings, part: Part) -> None:
    # What its last life left, where that was ended by force.
    processes.stop(settings, part.name, part.stop_timeout_s)
    if part.name == "dagster-daemon":
        write_dagster_home(settings)
        if dagster_runs.has_runs_under_way(settings) or dagster_runs.ticks_ahead_s(settings) > 0:
            dagster_runs.settle(settings)
    argv, environment = part.command(part.own(settings))
    processes.spawn(settings, part.name, argv, environment, part.address(settings), REPOSITORY)


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
    except (ItsError, OSError, ValueError):
        return False


def _check_ports(settings: Settings, part: Part) -> None:
    for name, port in part.port_numbers(settings).items():
        owner = processes.port_owner(settings.host, port)
        if owner is not None:
            raise BadInput(
                f"Port {port}, which {part.title} needs, is taken by {owner}.",
                f"Stop that, or choose another with ITS_PORTS__{'TRITON_REPLICAS' if part.replica else name.upper()}.",
            )


def _postgres_status(settings: Settings) -> PartStatus:
    if settings.database_url is not None:
        from its_platform.stores.database import Database

        try:
            with Database(settings).engine.connect():
                state = "healthy"
        except (ItsError, OSError) as error:
            return PartStatus(POSTGRES, "PostgreSQL", "as set", "stopped", None, None, None, "", str(error))
        return PartStatus(POSTGRES, "PostgreSQL", "as set", state, None, None, None, "")
    process, is_answering = server_process(settings), is_running(settings)
    state = "healthy" if is_answering else "stopped" if process is None else "no answer"
    return PartStatus(
        POSTGRES,
        "PostgreSQL",
        str(socket_folder(settings)),
        state,
        process.pid if process else None,
        round(processes.memory_mb([process, *process.children()]), 1) if process else None,
        round(processes.age_s(process), 1) if process else None,
        str(settings.home / "postgres" / "server.log"),
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
    address = part_named("dagster").address(settings)
    request = urllib.request.Request(
        f"{address}/graphql",
        json.dumps({"query": query, "variables": variables or {}}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with _direct().open(request, timeout=20) as answer:
            read = json.load(answer)
    except (OSError, ValueError) as error:
        raise ServerUnavailable(f"Dagster's page at {address} does not answer.", "`its doctor` says more.") from error
    if read.get("errors"):
        raise ServerUnavailable(f"Dagster's page refuses a question: {read['errors'][0].get('message')}")
    data: dict[str, dict] = read["data"]
    return data


def _direct() -> urllib.request.OpenerDirector:
    # Our own servers are never asked through a proxy.
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _answers(path: str, port: str) -> Callable[[Settings], bool]:
    def ask(settings: Settings) -> bool:
        address = f"http://{settings.host}:{getattr(settings.ports, port)}{path}"
        try:
            with _direct().open(address, timeout=5) as answer:
                return 200 <= answer.status < 300
        except urllib.error.HTTPError:
            return False

    return ask


def _beats(settings: Settings) -> bool:
    """Whether the daemon has given a sign of life since it was started."""
    import sqlalchemy as sa

    from its_platform.stores.database import database_url

    record = processes.read_record(settings, "dagster-daemon")
    engine = sa.create_engine(database_url(settings, "dagster"), poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            last = connection.execute(sa.text("SELECT max(timestamp) FROM daemon_heartbeats")).scalar()
    except sa.exc.SQLAlchemyError:
        return False
    process = processes.find(record)
    if last is None or process is None:
        return False
    since_s = time.time() - (last if last.tzinfo else last.replace(tzinfo=UTC)).timestamp()
    # It beats every half minute and counts as dead, by Dagster's own measure, after five. A beat of the future is one
    # from before the clock was set back.
    return since_s < min(processes.age_s(process), 300)


def _supervises(settings: Settings) -> bool:
    record = processes.read_record(settings, SUPERVISOR)
    try:
        beat = json.loads((settings.home / "run" / "supervisor-beat.json").read_text())
    except (OSError, ValueError):
        return False
    return bool(record and beat["pid"] == record.pid)


def _program(name: str) -> str:
    path = Path(sys.executable).with_name(name)
    if not path.is_file():
        raise ServerUnavailable(f"The program {name} is not installed beside {sys.executable}.", "Run `make install`.")
    return str(path)


def _triton(settings: Settings) -> tuple[list[str], dict[str, str]]:
    from its_platform.serving.repository import broken_versions
    from its_platform.serving.server import triton_command

    if broken_versions(settings):
        from its_platform.release import mend
        from its_platform.stores import open_stores

        # Triton would load nothing of that model. Where it cannot be mended now, the supervisor tries again.
        with suppress(ItsError):
            mend(open_stores(settings))
    argv, environment = triton_command(settings)
    return argv, {**environment, processes.MARK: str(settings.home.absolute())}


def _mlflow(settings: Settings) -> tuple[list[str], dict[str, str]]:
    from its_platform.stores.registry import Registry

    registry = Registry(settings)
    argv = [
        _program("mlflow"), "server", "--host", settings.host, "--port", str(settings.ports.mlflow), "--workers", "1",
        "--default-artifact-root", registry.artefacts.as_uri(), "--no-serve-artifacts",
    ]  # fmt: skip
    # In the environment, since a command line is there for everyone to read.
    extra = {
        "MLFLOW_BACKEND_STORE_URI": registry.tracking_uri,
        "MLFLOW_REGISTRY_STORE_URI": registry.tracking_uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return argv, process_environment(settings, extra)


def _evidently(settings: Settings) -> tuple[list[str], dict[str, str]]:
    workspace = settings.home.absolute() / "evidently"
    workspace.mkdir(parents=True, exist_ok=True)
    argv = [
        _program("evidently"), "ui", "--host", settings.host, "--port", str(settings.ports.evidently),
        "--workspace", str(workspace),
    ]  # fmt: skip
    return argv, process_environment(settings)


def _code(settings: Settings) -> tuple[list[str], dict[str, str]]:
    argv = [
        _program("dagster"), "code-server", "start", "-h", settings.host, "-p", str(settings.ports.dagster_code),
        "-m", "its_platform.definitions", "--location-name", "its_platform",
    ]  # fmt: skip
    return argv, process_environment(settings, dagster_environment(settings))


def _serves_code(settings: Settings) -> bool:
    """Whether the code is loaded: the server's own health is that of its child, which loads it."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(f"{settings.host}:{settings.ports.dagster_code}") as channel:
        try:
            asked = health_pb2.HealthCheckRequest(service="DagsterApi")
            answer = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=5)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _dagster(settings: Settings) -> tuple[list[str], dict[str, str]]:
    argv = [
        _program("dagster-webserver"), "-h", settings.host, "-p", str(settings.ports.dagster),
        "-w", str(REPOSITORY / "workspace.yaml"),
    ]  # fmt: skip
    return argv, process_environment(settings, dagster_environment(settings))


def _daemon(settings: Settings) -> tuple[list[str], dict[str, str]]:
    argv = [_program("dagster-daemon"), "run", "-w", str(REPOSITORY / "workspace.yaml")]
    return argv, process_environment(settings, dagster_environment(settings))


def _supervisor(settings: Settings) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "its_platform.supervisor"], process_environment(settings)


def _is_triton_ready(settings: Settings) -> bool:
    from its_platform.serving.health import probe

    results = probe(settings)
    return bool(results) and results[0].is_healthy


PARTS: tuple[Part, ...] = (
    Part(
        "triton", "Triton", ("triton_grpc", "triton_http", "triton_metrics"), _triton, _is_triton_ready,
        stop_timeout_s=25,
    ),
    Part("mlflow", "MLflow", ("mlflow",), _mlflow, _answers("/health", "mlflow"), is_page=True),
    Part("evidently", "Evidently", ("evidently",), _evidently, _answers("/api/projects", "evidently"), is_page=True),
    Part("dagster-code", "Dagster's code server", ("dagster_code",), _code, _serves_code),
    Part(
        "dagster", "Dagster", ("dagster",), _dagster, _answers("/server_info", "dagster"),
        is_page=True, after="dagster-code",
    ),
    Part("dagster-daemon", "Dagster's daemon", (), _daemon, _beats, stop_timeout_s=20, after="dagster-code"),
    Part(SUPERVISOR, "Supervisor", (), _supervisor, _supervises),
)  # fmt: skip


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
