"""What each part of a running stack holds: memory, CPU time, file descriptors, threads.

Enters: the settings of a home whose servers run. Leaves: a `Footprint` for each part. A part is all processes of its
session, and PostgreSQL its first process with all that come of it. How that is judged does not belong here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from its_platform import processes
from its_platform.parts import parts_of
from its_platform.settings import Settings
from its_platform.stack import POSTGRES
from its_platform.stores.postgres import server_process


@dataclass(frozen=True)
class Footprint:
    """What the processes of one part hold together.

    memory_mb: each page that several of them have counts by its share; resident memory where the kernel does not tell
    shares (is_shared_out). segments_mb: of it, what lies in segments of shared memory. files: of
    the descriptors, how many name a regular file that no other of the same process names. cpu_s: user and system, of
    processes that have ended too. pid: of the first one.
    """

    pid: int
    memory_mb: float
    is_shared_out: bool
    cpu_s: float
    descriptors: int
    threads: int
    segments_mb: float = 0.0
    files: int = 0


def footprints(settings: Settings) -> dict[str, Footprint]:
    """Each part of this home that runs, by its name."""
    found = {}
    server = server_process(settings)
    if server is not None:
        # Each backend leads a session of its own.
        found[POSTGRES] = footprint_of([server, *server.children(recursive=True)])
    for part in parts_of(settings):
        process = processes.find(processes.read_record(settings, part.name))
        if process is not None:
            found[part.name] = footprint_of([process, *_others(process.pid)])
    return found


def footprint_of(family: Iterable[psutil.Process]) -> Footprint:
    """Of some processes, the first of which stands for them; one that ends meanwhile counts for nothing."""
    first = 0
    memory_mb, segments_mb, cpu_s, descriptors, files, threads, is_shared_out = 0.0, 0.0, 0.0, 0, 0, 0, True
    for process in family:
        first = first or process.pid
        with contextlib.suppress(psutil.Error, OSError):
            held_mb, of_segments_mb, is_exact = memory_of(process.pid)
            times = process.cpu_times()
            opened, running = process.num_fds(), process.num_threads()
            different = len({file.path for file in process.open_files()})
            memory_mb, is_shared_out = memory_mb + held_mb, is_shared_out and is_exact
            segments_mb, files = segments_mb + of_segments_mb, files + different
            # Its children's are of those that it has seen end: the living tell their own.
            cpu_s += times.user + times.system + times.children_user + times.children_system
            descriptors, threads = descriptors + opened, threads + running
    return Footprint(first, memory_mb, is_shared_out, cpu_s, descriptors, threads, segments_mb, files)


def memory_of(pid: int) -> tuple[float, float, bool]:
    """Megabytes of a process, of them in segments of shared memory, and whether shared pages count by their share.

    Raises `OSError`, `psutil.Error`.
    """
    try:
        told = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except PermissionError:
        return psutil.Process(pid).memory_info().rss / 1e6, 0.0, False
    lines = (line.split() for line in told.splitlines())
    held_mb = {line[0]: int(line[1]) * 1024 / 1e6 for line in lines if line[0] in ("Pss:", "Pss_Shmem:")}
    if "Pss:" in held_mb:
        return held_mb["Pss:"], held_mb.get("Pss_Shmem:", 0.0), True
    return psutil.Process(pid).memory_info().rss / 1e6, 0.0, False


def _others(leader: int) -> list[psutil.Process]:
    return [process for process in processes.session_of(leader) if process.pid != leader]
