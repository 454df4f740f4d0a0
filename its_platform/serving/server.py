"""The bundled tritonserver as a process: its command, its start and its end.

Enters: settings. Leaves: a process that serves the front and every detector that a route names, on this machine's own
address only. Health is asked for in `health.py`; which version is served is decided by the release stage.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from its_platform.certificates import ensure_certificates
from its_platform.errors import BadInput, ServerUnavailable
from its_platform.serving import restricted_launch
from its_platform.serving.config import FRONT
from its_platform.serving.health import probe, revive, wait_ready
from its_platform.serving.processes import (
    STUB,
    StubProcess,
    TritonProcess,
    home_prefix,
    is_alive,
    running,
    servers,
    shared_memory_prefix,
    stubs,
    stubs_of_home,
)
from its_platform.serving.replicas import PORTS, replica_settings
from its_platform.serving.repository import SOURCES, prepare_repository, read_routes, state_folder, write_if_changed
from its_platform.settings import Settings
from its_platform.stores.cache_server import redis_url

__all__ = [
    "TritonProcess",
    "prepare_backends",
    "probe",
    "revive",
    "running",
    "shared_memory_prefix",
    "start_triton",
    "start_tritons",
    "stop_triton",
    "stop_tritons",
    "triton_command",
    "wait_ready",
]

STOP_WITHIN_S = 20.0
# What a surrounding shell may carry that would send the stub's interpreter to other packages.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP")
# A picture is more than glibc keeps of what was given back, by default: the kernel would give and clear the pages of
# each one anew, 130 to 230 faults and 0.2 to 0.6 CPU ms of tritonserver's a picture of 640 px.
KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
    # Pages of 2 MB where the kernel gives them only to those who ask: a detector walks through 100 MB a picture.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


@dataclass(frozen=True)
class _StubPython:
    version: str
    library_folder: str
    executable: Path


def triton_command(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """Prepare repository and backends; the command line and the whole environment of the server.

    Each detector that a route names is loaded at the start, so that a restart serves what was served before. A model
    that cannot be loaded does not keep the others from being served. Raises `BadInput` when the bundled server or the
    environment of its Python models is missing.
    """
    python = _stub_python(settings)
    prepare_repository(settings)
    backends = prepare_backends(settings, python.version)
    binaries = _server_files(settings) / "bin"
    models = [FRONT, *sorted({route.model for route in read_routes(settings).values()})]
    ports = settings.ports
    command = [
        str(binaries / "tritonserver"),
        f"--model-repository={settings.model_repository.resolve()}",
        f"--backend-directory={backends}",
        f"--cache-directory={_server_files(settings) / 'caches'}",
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in models),
        f"--http-address={settings.host}",
        f"--grpc-address={settings.security.triton_listen or settings.host}",
        # They have no TLS: others read them from the exporter.
        "--metrics-address=127.0.0.1",
        f"--http-port={ports.triton_http}",
        f"--grpc-port={ports.triton_grpc}",
        f"--metrics-port={ports.triton_metrics}",
        f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix(settings)}",
        # A corrupt version must take neither the healthy ones nor the server with it.
        "--strict-readiness=false",
        "--exit-on-error=false",
        "--exit-timeout-secs=15",
        "--allow-gpu-metrics=false",
        "--pinned-memory-pool-byte-size=0",
        "--log-verbose=0",
        *_tracing(settings),
    ]
    if settings.triton_tls:
        files = ensure_certificates(settings)
        command = [
            # Isolated: it needs nothing of ours, and must not be sent elsewhere by what surrounds it.
            sys.executable, "-I", restricted_launch.__file__, str(files.secret.resolve()), *command,
            # It has no TLS of its own.
            "--allow-http=false",
            "--grpc-use-ssl=true",
            "--grpc-use-ssl-mutual=true",
            f"--grpc-root-cert={files.root.resolve()}",
            f"--grpc-server-cert={files.certificate('server').resolve()}",
            f"--grpc-server-key={files.key('server').resolve()}",
        ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    environment["PATH"] = f"{python.executable.parent}:{environment.get('PATH', '/usr/bin:/bin')}"
    # The copied stub no longer lies where its own search path expects the wheel's libraries.
    libraries = settings.environments / "tritonserver" / "nvidia_pytriton.libs"
    environment["LD_LIBRARY_PATH"] = f"{python.library_folder}:{libraries}"
    # Compiled files beside the sources would give the version folders newer times, which Triton reads as a change.
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    environment["OMP_NUM_THREADS"] = "1"
    environment |= KEPT_MEMORY
    # Not in the models' configurations, which NVIDIA's container reads too: threads of a copy are a CPU's concern.
    for runtime in ("ONNX", "OPENVINO"):
        environment[f"ITS_{runtime}_THREADS"] = str(settings.serving.threads)
    # An address may hold a password, which a model's configuration would show to anyone who asks Triton.
    environment["ITS_SERVING__REDIS_URL"] = redis_url(settings) or ""
    return command, environment


def _tracing(settings: Settings) -> list[str]:
    """Have requests that bring a trace continue it, with a span for the front and one for each detector it asks."""
    if settings.serving.traces_url is None:
        return []
    return [
        "--trace-config=mode=opentelemetry",
        "--trace-config=level=TIMESTAMPS",
        # Of those that bring none, the least that there is; those that do are traced whatever it says.
        f"--trace-config=rate={2**31 - 1}",
        f"--trace-config=opentelemetry,url={settings.serving.traces_url}",
        "--trace-config=opentelemetry,resource=service.name=its-triton",
        "--trace-config=opentelemetry,bsp_schedule_delay=1000",
    ]


def prepare_backends(settings: Settings, python_version: str) -> Path:
    """The backend folder: the wheel's Python backend with the stub for `python_version` (`3.11`), and ours."""
    files = _server_files(settings)
    stub = files / "python_backend_stubs" / python_version / STUB
    if not stub.is_file():
        raise BadInput(
            f"The bundled server has no stub for Python {python_version}.",
            f"Make {settings.environments / 'triton'} with a Python from 3.8 to 3.13.",
        )
    folder = state_folder(settings) / "backends"
    (folder / "python").mkdir(parents=True, exist_ok=True)
    for source in [*(files / "backends" / "python").iterdir(), stub]:
        target = folder / "python" / source.name
        _copy_if_changed(source, target)
    for source in (SOURCES / "backends").glob("*/model.py"):
        write_if_changed(folder / source.parent.name / "model.py", source.read_bytes())
    return folder


def start_triton(settings: Settings, wait_s: float = 90.0, name: str = "triton") -> TritonProcess:
    """Start the server in a process group of its own, its words in `name.log`, and wait until the front answers.

    Raises `BadInput` when it runs already or a port is taken, `ServerUnavailable` when it ends or stays silent; the
    last lines of its log are in the message.
    """
    if running(settings) is not None:
        raise BadInput("Triton runs already for this home.", "See it with `its serving status`.")
    _check_ports(settings)
    _clear_remains(settings)
    command, environment = triton_command(settings)
    settings.logs.mkdir(parents=True, exist_ok=True)
    log = settings.logs / f"{name}.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        wait_ready(settings, wait_s, is_alive=lambda: process.poll() is None)
    except ServerUnavailable as error:
        stop_triton(settings)
        raise ServerUnavailable(f"{error.message} Its log ends: {_tail(log)}", f"Read {log}.") from error
    return TritonProcess(process.pid, log)


def stop_triton(settings: Settings, within_s: float = STOP_WITHIN_S) -> bool:
    """End the server and wait for it (5 to 7 s are usual); False when none ran. Orphaned stubs go with it."""
    found = running(settings)
    if found is not None:
        _end(found, within_s)
    _clear_remains(settings)
    return found is not None


def start_tritons(settings: Settings) -> list[TritonProcess]:
    """Start every replica. Raises as `start_triton`; what this call started is then stopped again."""
    started: list[Settings] = []
    found = []
    try:
        for number, own in enumerate(replica_settings(settings), start=1):
            found.append(start_triton(own, name="triton" if number == 1 else f"triton-{number}"))
            started.append(own)
    except BaseException:
        for own in started:
            stop_triton(own)
        raise
    return found


def stop_tritons(settings: Settings, within_s: float = STOP_WITHIN_S) -> int:
    """End every server of this home, also one on ports that the settings no longer name; how many there were."""
    found = servers(settings)
    with ThreadPoolExecutor(max(len(found), 1)) as pool:
        list(pool.map(lambda process: _end(process, within_s), found))
    _kill(stubs_of_home(settings))
    _forget_memory(home_prefix(settings))
    return len(found)


def _end(process: TritonProcess, within_s: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    if not _wait_gone(process.pid, within_s):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        _wait_gone(process.pid, 5.0)


def _wait_gone(pid: int, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if not is_alive(pid):
            return True
        time.sleep(0.1)
    return False


def _clear_remains(settings: Settings) -> None:
    """Stubs whose server is gone ignore a polite signal, and a killed server leaves its shared memory behind."""
    _kill(stubs(settings))
    _forget_memory(shared_memory_prefix(settings))


def _kill(found: Iterable[StubProcess]) -> None:
    for stub in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(stub.pid, signal.SIGKILL)


def _forget_memory(prefix: str) -> None:
    for region in Path("/dev/shm").glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


def _check_ports(settings: Settings) -> None:
    ports = settings.ports
    for name in PORTS:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((settings.host, getattr(ports, name)))
            except OSError as error:
                raise BadInput(
                    f"Port {getattr(ports, name)} on {settings.host} is taken.",
                    f"Choose another with ITS_PORTS__{name.upper()}.",
                ) from error


def _server_files(settings: Settings) -> Path:
    return settings.environments / "tritonserver" / "pytriton" / "tritonserver"


def _stub_python(settings: Settings) -> _StubPython:
    executable = settings.environments / "triton" / "bin" / "python"
    if not executable.exists() or not (_server_files(settings) / "bin" / "tritonserver").is_file():
        raise BadInput(f"Triton is not installed in {settings.environments}.", "Run `make install`.")
    question = (
        "import json, sys, sysconfig; v = sysconfig.get_config_var; "
        "print(json.dumps(['%d.%d' % sys.version_info[:2], v('LIBDIR'), v('INSTSONAME'), sys.base_prefix]))"
    )
    answer = subprocess.run([str(executable), "-I", "-c", question], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise BadInput(f"{executable} does not run.", "Make it again with `make install`.")
    version, folder, library, prefix = json.loads(answer.stdout)
    # A Python that was unpacked elsewhere than it was built for names the folder of its build.
    for candidate in (folder, f"{prefix}/lib"):
        if candidate and (Path(candidate) / library).is_file() and library.startswith("libpython"):
            return _StubPython(version, candidate, executable)
    raise BadInput(
        f"The Python {version} of {executable.parent.parent} has no shared libpython, which Triton's stub needs.",
        "Use a Python built with --enable-shared (Debian's, or uv's own).",
    )


def _copy_if_changed(source: Path, target: Path) -> None:
    if target.is_file() and target.read_bytes() == source.read_bytes():
        return
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy2(source, partial)
    partial.replace(target)


def _tail(log: Path, lines: int = 3) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    worrying = [line for line in text[-200:] if line.startswith("E") or "rror" in line]
    return " | ".join((worrying or text)[-lines:])
