"""What the platform says about itself while it works, and silence towards the outside.

`get_log` is the one way to log, `configure_logs` decides once for a process how that is written, `correlated` names
the run, the camera or the request that everything said meanwhile belongs to. `Progress` is how long work reports; a
terminal, Dagster's log and a JSON-lines file each give their own. Every tool's own telemetry is switched off by
`silence_tools`, which each process calls first.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO

from its_platform.errors import BadInput

if TYPE_CHECKING:
    from structlog.typing import Processor

LogFormat = Literal["auto", "json", "text"]
REDACTED = "***"
_SECRET_NAME = re.compile(
    r"(^|[_.-])(pass(word|wd|phrase)?|pwd|secret|token|authorization|cookie|credentials?|webhook"
    r"|(api|access|secret|private|admin|signing)[_-]?key)s?$",
    re.I,
)
# `scheme://user:password@host`, and `password=…` in what a server or a driver says.
_SECRET_IN_TEXT = (
    (re.compile(r"(\w://[^\s:/@]*):[^\s/@]+@"), rf"\1:{REDACTED}@"),
    (
        re.compile(
            r"((?:\b|_|\bPG)(?:password|passwd|pwd|pass(?==)|secret|token|(?:api|access|secret)[_-]?key)"
            r"[\"']?\s*[=:]\s*[\"']?)[^\s&\"',;}]+",
            re.I,
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"\b((?:Basic|Bearer)\s+)[\w.~+/=-]{8,}"), rf"\1{REDACTED}"),
)

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


class Log:
    """A module's log: `LOG.warning("what happened", part="triton", reason=...)`, facts by name, no sentences made of
    them.

    structlog comes with the first word: half a second of imports is too much for a command that says none.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, event: str, **facts: object) -> None:
        self._say("info", event, facts)

    def warning(self, event: str, **facts: object) -> None:
        self._say("warning", event, facts)

    def error(self, event: str, **facts: object) -> None:
        self._say("error", event, facts)

    def exception(self, event: str, **facts: object) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._say("exception", event, facts)

    def _say(self, method: str, event: str, facts: Mapping[str, object]) -> None:
        getattr(_structured(self._name), method)(event, **facts)


def get_log(name: str) -> Log:
    """The log of the module of this name."""
    return Log(name)


@cache
def _structured(name: str) -> Any:
    import structlog

    if not logging.getLogger().handlers:
        # A command in a terminal, which has more to say to its user than this; or a server of Dagster's.
        configure_logs(Path(sys.argv[0]).stem, level="WARNING")
    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def configure_logs(process: str, format: LogFormat = "auto", level: str = "INFO", stream: TextIO | None = None) -> None:
    """Have this process write its log, and that of its libraries: JSON lines, or for people where a terminal reads.

    process: what it is, in every line. level: of the platform's own words; of libraries warnings are written. stream:
    standard error unless given. Called once, before the first word.
    """
    import structlog

    stream = stream or sys.stderr
    is_text = format == "text" or (format == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        redact,
    ]
    rendered: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=stream.isatty())]
        if is_text
        else [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer(default=str)]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.contextvars.merge_contextvars, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *shared,
                lambda logger, method, event: {"process": process, **event},
                *rendered,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # What libraries tell of their own good health fills a log, and says nothing of the platform.
    root.setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.getLogger("its_platform").setLevel(level)


def redact(logger: Any, method: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """A processor of structlog's that leaves no secret in a line: by the names of facts, and by what secrets look like
    in text."""
    return {name: REDACTED if _SECRET_NAME.search(name) and value else _clean(value) for name, value in event.items()}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        for pattern, instead in _SECRET_IN_TEXT:
            value = pattern.sub(instead, value)
        return value
    if isinstance(value, Mapping):
        return redact(None, "", {str(name): entry for name, entry in value.items()})
    if isinstance(value, list | tuple):
        return [_clean(entry) for entry in value]
    return value


@contextmanager
def correlated(**ids: str) -> Iterator[None]:
    """Have every line of the log carry these until the block ends: `run`, `camera`, `request`."""
    import structlog

    with structlog.contextvars.bound_contextvars(**ids):
        yield


def correlation() -> dict[str, str]:
    """What the work that goes on here belongs to."""
    import structlog

    return {name: str(value) for name, value in structlog.contextvars.get_contextvars().items()}


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
