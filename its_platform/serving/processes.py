"""The processes of this home's Triton, as the machine sees them: the server, and a stub for each Python instance.

Enters: settings. Leaves: process ids with what each one runs. They are found by the paths in their command lines, which
no other home shares, so nothing of anybody else's is ever named. Starting and ending them does not belong here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from its_platform.settings import Settings

STUB = "triton_python_backend_stub"


@dataclass(frozen=True)
class TritonProcess:
    """A running server."""

    pid: int
    log: Path


@dataclass(frozen=True)
class StubProcess:
    """The process of one instance of one version of a model."""

    pid: int
    model: str
    version: int


def running(settings: Settings) -> TritonProcess | None:
    """The server of this home with these ports, whoever started it; None when there is none."""
    port = f"--grpc-port={settings.ports.triton_grpc}"
    return next((process for process, arguments in _servers(settings) if port in arguments), None)


def servers(settings: Settings) -> list[TritonProcess]:
    """Every server of this home, whatever its ports are."""
    return [process for process, _ in _servers(settings)]


def stubs(settings: Settings) -> list[StubProcess]:
    """The living stubs of the server with these ports; one that was killed is not among them."""
    mark = shared_memory_prefix(settings)
    return [stub for stub, arguments in _stubs(settings) if any(mark in one for one in arguments)]


def stubs_of_home(settings: Settings) -> list[StubProcess]:
    """The living stubs of every server of this home."""
    return [stub for stub, _ in _stubs(settings)]


def free_ports(count: int) -> list[int]:
    """TCP ports on 127.0.0.1 that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def shared_memory_prefix(settings: Settings) -> str:
    """Names the shared memory of this home's server with these ports, so that two on a machine never meet."""
    owner = f"{settings.home.resolve()}:{settings.ports.triton_grpc}"
    return f"{home_prefix(settings)}{hashlib.sha256(owner.encode()).hexdigest()[:6]}_"


def home_prefix(settings: Settings) -> str:
    """What the shared memory of every server of this home begins with."""
    return f"its_{hashlib.sha256(str(settings.home.resolve()).encode()).hexdigest()[:10]}_"


def resident_bytes(pid: int) -> int:
    """What a process keeps in memory, shared libraries and all; 0 for one that is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process and its threads have taken; 0 for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not yet waited for does not."""
    return _state(pid) not in {"", "Z"}


def is_halted(pid: int) -> bool:
    """Whether a process is there and was stopped by a signal: it lives, holds its requests and answers none."""
    return _state(pid) in {"T", "t"}


def rests(pid: int) -> int | None:
    """How often a process's main thread gave the processor away by itself; None for a process that is gone.

    A stub does so whenever it waits for its next request. One that hangs, in a lock or in a loop, does not.
    """
    try:
        lines = Path(f"/proc/{pid}/task/{pid}/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    except (OSError, IndexError, ValueError, StopIteration):
        return None


def _state(pid: int) -> str:
    """The kernel's letter for what a process does; empty for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return ""


def _servers(settings: Settings) -> Iterator[tuple[TritonProcess, list[str]]]:
    repository = f"--model-repository={settings.model_repository.resolve()}"
    for pid, arguments in _processes():
        if arguments[0].endswith("/tritonserver") and repository in arguments:
            yield TritonProcess(pid, settings.logs / "triton.log"), arguments


def _stubs(settings: Settings) -> Iterator[tuple[StubProcess, list[str]]]:
    repository = settings.model_repository.resolve()
    binary = str(repository.parent / "backends" / "python" / STUB)
    for pid, arguments in _processes():
        if arguments[0] == binary and len(arguments) > 1:
            with contextlib.suppress(ValueError):
                model, version, *_ = Path(arguments[1]).relative_to(repository).parts
                yield StubProcess(pid, model, int(version)), arguments


def _processes() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if arguments[0] and is_alive(int(entry.name)):
                    yield int(entry.name), arguments
