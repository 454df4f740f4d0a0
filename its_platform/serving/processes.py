"""The processes of this home's Triton, as the machine sees them: the server, and a stub for each Python instance.

Enters: settings. Leaves: process ids with what each one runs. They are found by the paths in their command lines, which
no other home shares, so nothing of anybody else's is ever named. Starting and ending them does not belong here.
"""

from __future__ import annotations

import contextlib
import os
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
    """The server of this home, whoever started it; None when there is none."""
    repository = f"--model-repository={settings.model_repository.resolve()}"
    for pid, arguments in _processes():
        if arguments[0].endswith("/tritonserver") and repository in arguments:
            return TritonProcess(pid, settings.logs / "triton.log")
    return None


def stubs(settings: Settings) -> list[StubProcess]:
    """The living stubs of this home; one that was killed is not among them."""
    repository = settings.model_repository.resolve()
    binary = str(repository.parent / "backends" / "python" / STUB)
    found = []
    for pid, arguments in _processes():
        if arguments[0] == binary and len(arguments) > 1:
            with contextlib.suppress(ValueError):
                model, version, *_ = Path(arguments[1]).relative_to(repository).parts
                found.append(StubProcess(pid, model, int(version)))
    return found


def resident_bytes(pid: int) -> int:
    """What a process keeps in memory, shared libraries and all; 0 for one that is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not yet waited for does not."""
    return _state(pid) not in {"", "Z"}


def is_halted(pid: int) -> bool:
    """Whether a process is there and was stopped by a signal: it lives, holds its requests and answers none."""
    return _state(pid) in {"T", "t"}


def _state(pid: int) -> str:
    """The kernel's letter for what a process does; empty for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return ""


def _processes() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if arguments[0] and is_alive(int(entry.name)):
                    yield int(entry.name), arguments
