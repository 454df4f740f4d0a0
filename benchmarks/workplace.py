"""Where a benchmark works: a home of its own on ports of its own, and the CPU time of processes.

Enters: nothing of the person's settings but `ITS_TEST_DATA`. Leaves: settings whose home is removed at the end. What
is measured there does not belong here.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from figures import Figure, show, write
from its_platform.errors import BadInput
from its_platform.serving.processes import free_ports
from its_platform.settings import Ports, Settings, load_settings
from its_platform.stores.object_server import INNER_PORTS
from its_platform.telemetry import Progress, silence_tools, terminal_progress

if TYPE_CHECKING:
    from its_platform.stores import Stores


def own_environment(home: Path) -> dict[str, str]:
    """The environment of a platform at `home` on free ports, without any other setting of the person's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ITS_") or name == "ITS_TEST_DATA"}
    names = [name for name in Ports.model_fields if name != "objects_inner"]
    numbers = dict(zip(names, free_ports(len(names)), strict=True)) | {"objects_inner": free_row(INNER_PORTS)}
    ports = {f"ITS_PORTS__{name.upper()}": str(port) for name, port in numbers.items()}
    return {**kept, **ports, "ITS_HOME": str(home)}


def free_row(count: int) -> int:
    """The first of so many ports in a row on 127.0.0.1 that nobody listens on, below those the system gives out."""
    while True:
        first = random.randrange(20_000, 32_000 - count)
        with ExitStack() as held, suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


@contextmanager
def own_home() -> Iterator[Settings]:
    """Settings of a home that is there for this benchmark alone; its PostgreSQL is stopped with the block."""
    from its_platform.stores.database import dispose_engines
    from its_platform.stores.postgres import stop_postgres

    before = dict(os.environ)
    home = Path(tempfile.mkdtemp(prefix="its-bench-"))
    try:
        own = own_environment(home)
        os.environ.clear()
        os.environ.update(own)
        silence_tools()
        settings = load_settings(home=home)
        try:
            yield settings
        finally:
            dispose_engines()
            stop_postgres(settings)
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(home, ignore_errors=True)


def open_own_stores(settings: Settings) -> Stores:
    """The stores of such a home, with PostgreSQL running and the platform's own tables made: no MLflow, no Dagster."""
    from its_platform.stores import open_stores
    from its_platform.stores.database import migrate
    from its_platform.stores.postgres import start_postgres

    start_postgres(settings)
    stores = open_stores(settings)
    migrate(stores.database.engine)
    return stores


def why_no_services() -> str:
    """What the services profile lacks on this machine, in words; empty where it has everything."""
    from its_platform.parts import parts_of
    from its_platform.stores.postgres import client_program

    with own_home() as settings:
        services = settings.model_copy(update={"profile": "services"})
        try:
            client_program(services, "pg_ctl")
            for part in parts_of(services):
                if part.is_store or part.name in ("alertmanager", "prometheus"):
                    # Which looks for the program and writes its configuration, into a home that is thrown away.
                    part.command(services)
        except BadInput as missing:
            return str(missing)
    return ""


def test_data() -> Path | None:
    """The real footage at `ITS_TEST_DATA`, where it is there."""
    folder = os.environ.get("ITS_TEST_DATA")
    return Path(folder) if folder and (Path(folder) / "videos").is_dir() else None


def cpu_ms_of(pids: Iterable[int]) -> float:
    """CPU milliseconds, user and system, that these processes have used so far; one that is gone counts as none.

    By the kernel's clock of each process, which knows nanoseconds where `/proc/PID/stat` counts ticks of ten
    milliseconds: a few pictures take no more.
    """
    total_s = 0.0
    for pid in pids:
        try:
            # What clock_getcpuclockid(3) gives for a process.
            total_s += time.clock_gettime((~pid << 3) | 2)
        except OSError:
            continue
    return total_s * 1000


def command_of(topic: str) -> str:
    return f"python benchmarks/{topic}.py"


def run_alone(measure: Callable[[Progress], list[Figure]], words: Sequence[str] | None = None) -> int:
    """What each script does when it is run: measure, print the table, write the figures where `--out` says.

    1 when a floor is not kept.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--out", type=Path, help="write the figures to this file")
    asked = parser.parse_args(words)
    with ExitStack() as stack:
        figures = measure(stack.enter_context(terminal_progress()))
    show(figures, Console(width=None if sys.stdout.isatty() else 150))
    if asked.out:
        write(figures, asked.out)
    return 0 if all(figure.passed for figure in figures) else 1
