"""What the platform says about itself while it works, and silence towards the outside.

`Progress` is how long work reports; a terminal, Dagster's log and a JSON-lines file each give their own. Every
tool's own telemetry is switched off by `silence_tools`, which each process calls first.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from its_platform.errors import BadInput

SILENT = {
    "DO_NOT_TRACK": "1",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_DISABLE_AUTO_LOGGING": "true",
    "YOLO_OFFLINE": "1",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_VERBOSE": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    # What is wrong with a picture is told by us, in one line.
    "OPENCV_LOG_LEVEL": "SILENT",
}


def silence_tools() -> None:
    """Switch off the telemetry and the self-updates of every tool, for this process and its children."""
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)


class Progress(Protocol):
    """Told how far a task is. `total` is None where it is not known beforehand."""

    def __call__(self, task: str, done: float, total: float | None = None, note: str = "") -> None: ...


def no_progress(task: str, done: float, total: float | None = None, note: str = "") -> None:
    """A `Progress` that says nothing."""


@contextmanager
def terminal_progress() -> Iterator[Progress]:
    """A Rich bar a task on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=Console(stderr=True), transient=False) as bars:
        tasks: dict[str, int] = {}

        def report(task: str, done: float, total: float | None = None, note: str = "") -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total, note=note)
            bars.update(tasks[task], completed=done, total=total, note=note)  # type: ignore[arg-type]

        yield report


def log_progress(log: logging.Logger, every_s: float = 5.0) -> Progress:
    """A `Progress` for a log: the first word on a task, the last, and one every `every_s` seconds between."""
    last: dict[str, float] = {}

    def report(task: str, done: float, total: float | None = None, note: str = "") -> None:
        now = time.monotonic()
        if task not in last or done == total or now - last[task] >= every_s:
            last[task] = now
            log.info("%s: %g%s %s", task, done, f" of {total:g}" if total else "", note)

    return report


def append_jsonl(path: Path, **fields: object) -> None:
    """Add one JSON object as a line, in one write, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(fields, default=str) + "\n")


def parse_time(text: str | None) -> datetime | None:
    """An ISO 8601 time as UTC; a time without a zone is UTC. Raises `BadInput`."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"{text!r} is not a time.", "Write it like 2026-05-01T08:00:00+00:00.") from error
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
