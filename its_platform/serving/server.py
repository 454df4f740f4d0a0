"""The bundled tritonserver as a process: its command, its start and its end.

Enters: settings. Leaves: a process that serves the front and every detector that a route names, on this machine's own
address only. Health is asked for in `health.py`; which version is served is decided by the release stage.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from its_platform.errors import BadInput, ServerUnavailable
from its_platform.serving.config import FRONT
from its_platform.serving.health import probe, revive, wait_ready
from its_platform.serving.processes import STUB, TritonProcess, is_alive, running, stubs
from its_platform.serving.repository import SOURCES, prepare_repository, read_routes, state_folder, write_if_changed
from its_platform.settings import Settings

__all__ = [
    "TritonProcess",
    "prepare_backends",
    "probe",
    "revive",
    "running",
    "start_triton",
    "stop_triton",
    "triton_command",
    "wait_ready",
]

STOP_WITHIN_S = 20.0
# What a surrounding shell may carry that would send the stub's interpreter to other packages.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP")


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
        *(f"--{name}-address={settings.host}" for name in ("http", "grpc", "metrics")),
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
    ]
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    environment["PATH"] = f"{python.executable.parent}:{environment.get('PATH', '/usr/bin:/bin')}"
    # The copied stub no longer lies where its own search path expects the wheel's libraries.
    libraries = settings.environments / "tritonserver" / "nvidia_pytriton.libs"
    environment["LD_LIBRARY_PATH"] = f"{python.library_folder}:{libraries}"
    # Compiled files beside the sources would give the version folders newer times, which Triton reads as a change.
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    environment["OMP_NUM_THREADS"] = "1"
    # An address may hold a password, which a model's configuration would show to anyone who asks Triton.
    environment["ITS_SERVING__REDIS_URL"] = settings.serving.redis_url or ""
    return command, environment


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


def shared_memory_prefix(settings: Settings) -> str:
    """Names this home's shared memory, so that two servers on a machine never meet."""
    return f"its_{hashlib.sha256(str(settings.home.resolve()).encode()).hexdigest()[:10]}_"


def start_triton(settings: Settings, wait_s: float = 90.0) -> TritonProcess:
    """Start the server in a process group of its own and wait until the front answers.

    Raises `BadInput` when it runs already or a port is taken, `ServerUnavailable` when it ends or stays silent; the
    last lines of its log are in the message.
    """
    if running(settings) is not None:
        raise BadInput("Triton runs already for this home.", "See it with `its serving status`.")
    _check_ports(settings)
    _clear_remains(settings)
    command, environment = triton_command(settings)
    settings.logs.mkdir(parents=True, exist_ok=True)
    log = settings.logs / "triton.log"
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
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGTERM)
        if not _wait_gone(found.pid, within_s):
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)
            _wait_gone(found.pid, 5.0)
    _clear_remains(settings)
    return found is not None


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
    for stub in stubs(settings):
        with contextlib.suppress(ProcessLookupError):
            os.kill(stub.pid, signal.SIGKILL)
    for region in Path("/dev/shm").glob(f"{shared_memory_prefix(settings)}*"):
        region.unlink(missing_ok=True)


def _check_ports(settings: Settings) -> None:
    ports = settings.ports
    for name in ("triton_http", "triton_grpc", "triton_metrics"):
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
