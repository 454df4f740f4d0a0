"""The servers of one machine: what each is, how it is started, what it listens on, and how one asks whether it is well.

In the services profile an S3 server, Redis, the exporter of figures, Prometheus and Alertmanager; Triton, MLflow's
page, Evidently's page, Dagster's code server, page and daemon, and the supervisor that looks after them. PostgreSQL is
`stores/postgres.py`'s, since any command starts it. Everything listens on `settings.host`. What each server does is the
business of the stages.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path

from its_platform import processes
from its_platform.alerting.access import ask
from its_platform.alerting.alertmanager import alertmanager_command, is_alertmanager_well
from its_platform.alerting.prometheus import is_prometheus_well, prometheus_command
from its_platform.errors import ItsError, NotFound, ServerUnavailable
from its_platform.pages import ask_page, started_with_tls, uvicorn_words
from its_platform.processes import process_environment
from its_platform.settings import REPOSITORY, Settings
from its_platform.stores import cache_server
from its_platform.stores.cache_server import is_redis_well, redis_command
from its_platform.stores.object_server import INNER_PORTS, is_object_server_well, object_server_command
from its_platform.stores.prepare import dagster_environment

SUPERVISOR = "supervisor"
PORTS_IN_ROW = {"objects_inner": INNER_PORTS}
# One look of the supervisor may wait two minutes for who starts or stops servers, and three for PostgreSQL to start.
_LONGEST_LOOK_S = 300.0


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
    is_tls: Callable[[Settings], bool] = lambda settings: settings.pages_tls
    replica: int = 0
    # What is kept in it is made before the others start, which need it.
    is_store: bool = False
    is_wanted: Callable[[Settings], bool] = lambda settings: True
    # Has it show a new certificate without a restart.
    renew: Callable[[Settings], None] | None = None
    # It looks at the file with each connection, and need not be told.
    reads_certificates: bool = False
    # What has to answer before this one is started.
    after: str = ""
    # Whether a home that only serves what another one releases runs it too.
    is_on_host: bool = False
    # What there is to say of it while it is well.
    says: Callable[[Settings], str] | None = None

    def address(self, settings: Settings) -> str:
        """Where it listens; empty for one that does not."""
        if not self.ports:
            return ""
        scheme = ("https://" if self.is_tls(settings) else "http://") if self.is_page else ""
        return f"{scheme}{settings.host}:{self.port_numbers(settings)[self.ports[0]]}"

    def own(self, settings: Settings) -> Settings:
        """The settings as this part reads them: a replica's have ports of its own."""
        if not self.replica:
            return settings
        from its_platform.serving.replicas import replica_settings

        return replica_settings(settings)[self.replica]

    def port_numbers(self, settings: Settings) -> dict[str, int]:
        ports = self.own(settings).ports
        return {
            f"{name} + {n}" if n else name: getattr(ports, name) + n
            for name in self.ports
            for n in range(PORTS_IN_ROW.get(name, 1))
        }

    def port_setting(self, name: str) -> str:
        """The variable that chooses one of `port_numbers`; those of replicas follow from the first of them."""
        return f"ITS_PORTS__{'TRITON_REPLICAS' if self.replica else name.split()[0].upper()}"


def parts_of(settings: Settings) -> tuple[Part, ...]:
    """Those of `PARTS` that these settings ask for, and one for each further Triton behind the first."""
    found: list[Part] = []
    for part in PARTS:
        if not part.is_wanted(settings) or (settings.is_host and not part.is_on_host):
            continue
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


def _answers(path: str, port: str) -> Callable[[Settings], bool]:
    def ask(settings: Settings) -> bool:
        ask_page(settings, getattr(settings.ports, port), path)
        return True

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
    """Whether the supervisor has begun a look, and not so long ago that it must hang in it."""
    record = processes.read_record(settings, SUPERVISOR)
    try:
        beat = json.loads((settings.home / "run" / "supervisor-beat.json").read_text())
    except (OSError, ValueError):
        return False
    return bool(record and beat["pid"] == record.pid and time.monotonic() - beat["at"] < _LONGEST_LOOK_S)


def _program(name: str) -> str:
    path = Path(sys.executable).with_name(name)
    if not path.is_file():
        raise ServerUnavailable(f"The program {name} is not installed beside {sys.executable}.", "Run `make install`.")
    return str(path)


def _triton(settings: Settings) -> tuple[list[str], dict[str, str]]:
    from its_platform.serving.repository import broken_versions
    from its_platform.serving.server import triton_command

    # A host has no registry; its sync agent fetches anew what is not whole.
    if broken_versions(settings) and not settings.is_host:
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
        "--default-artifact-root", registry.artefacts.as_uri(), "--no-serve-artifacts", *uvicorn_words(settings),
    ]  # fmt: skip
    # In the environment, since a command line is there for everyone to read.
    extra = {
        "MLFLOW_BACKEND_STORE_URI": registry.tracking_uri,
        "MLFLOW_REGISTRY_STORE_URI": registry.tracking_uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return argv, process_environment(settings, extra)


def _evidently(settings: Settings) -> tuple[list[str], dict[str, str]]:
    argv = [
        "-m", "its_platform.monitoring.page_server", "ui", "--host", settings.host,
        "--port", str(settings.ports.evidently), "--workspace", str(settings.evidently_workspace.absolute()),
    ]  # fmt: skip
    return started_with_tls(settings, argv), process_environment(settings)


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
    return started_with_tls(settings, argv), process_environment(settings, dagster_environment(settings))


def _daemon(settings: Settings) -> tuple[list[str], dict[str, str]]:
    argv = [_program("dagster-daemon"), "run", "-w", str(REPOSITORY / "workspace.yaml")]
    return argv, process_environment(settings, dagster_environment(settings))


def _metrics(settings: Settings) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "its_platform.metrics"], process_environment(settings)


def _measures(settings: Settings) -> bool:
    return ask(settings, settings.ports.metrics, "/healthy") == b"well\n"


def _sync(settings: Settings) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "its_platform.cli", "serving", "sync", "--watch"], process_environment(settings)


def _follows(settings: Settings) -> bool:
    from its_platform.release.hosts.agent import is_following

    return is_following(settings)


def _last_pass(settings: Settings) -> str:
    from its_platform.release.hosts.agent import words_of_last_pass

    return words_of_last_pass(settings)


def _supervisor(settings: Settings) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "its_platform.supervisor"], process_environment(settings)


def _is_triton_ready(settings: Settings) -> bool:
    from its_platform.serving.health import probe

    results = probe(settings)
    return bool(results) and results[0].is_healthy


PARTS: tuple[Part, ...] = (
    Part(
        "objects", "S3 server", ("objects", "objects_inner"), object_server_command, is_object_server_well,
        stop_timeout_s=30, is_store=True, is_wanted=lambda settings: settings.runs_objects,
    ),
    Part(
        "redis", "Redis", ("redis",), redis_command, is_redis_well,
        is_store=True, is_wanted=lambda settings: settings.runs_redis, renew=cache_server.renew_certificate,
    ),
    Part(
        "triton", "Triton", ("triton_grpc", "triton_http", "triton_metrics"), _triton, _is_triton_ready,
        stop_timeout_s=25, is_on_host=True,
    ),
    Part(
        "sync", "Sync agent", (), _sync, _follows, stop_timeout_s=60, is_wanted=lambda settings: settings.is_host,
        is_on_host=True, after="triton", says=_last_pass,
    ),
    Part(
        "mlflow", "MLflow", ("mlflow",), _mlflow, _answers("/health", "mlflow"), is_page=True, reads_certificates=True,
    ),
    Part(
        "evidently", "Evidently", ("evidently",), _evidently, _answers("/api/projects", "evidently"),
        is_page=True, reads_certificates=True,
    ),
    Part("dagster-code", "Dagster's code server", ("dagster_code",), _code, _serves_code),
    Part(
        "dagster", "Dagster", ("dagster",), _dagster, _answers("/server_info", "dagster"),
        is_page=True, reads_certificates=True, after="dagster-code",
    ),
    Part("dagster-daemon", "Dagster's daemon", (), _daemon, _beats, stop_timeout_s=20, after="dagster-code"),
    Part(
        "metrics", "Exporter of figures", ("metrics",), _metrics, _measures,
        reads_certificates=True, is_wanted=lambda settings: settings.runs_metrics,
    ),
    Part(
        "alertmanager", "Alertmanager", ("alertmanager",), alertmanager_command, is_alertmanager_well,
        is_page=True, is_tls=lambda settings: True, reads_certificates=True,
        is_wanted=lambda settings: settings.runs_prometheus,
    ),
    Part(
        "prometheus", "Prometheus", ("prometheus",), prometheus_command, is_prometheus_well,
        is_page=True, is_tls=lambda settings: True, reads_certificates=True,
        is_wanted=lambda settings: settings.runs_prometheus,
    ),
    Part(SUPERVISOR, "Supervisor", (), _supervisor, _supervises, is_on_host=True),
)  # fmt: skip
