"""How commands print facts: a table for people, JSON for programs, from the same data.

Nothing but presentation belongs here; what is printed comes from the stages.
"""

from __future__ import annotations

import dataclasses
import json as json_module
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

PIPE_COLUMNS = 140

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]


def emit(
    data: object,
    json: bool = False,
    table: Callable[[], RenderableType] | None = None,
    pipe_columns: int = PIPE_COLUMNS,
) -> None:
    """Print facts to standard output: as JSON, or as `table()` where given, or as a plain table of the data."""
    if json:
        sys.stdout.write(json_module.dumps(plain(data), indent=2, ensure_ascii=False) + "\n")
        return
    from rich.console import Console

    # A pipe or a file has no width of its own, and 80 columns would break names in two.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else pipe_columns
    Console(width=width).print(table() if table is not None else _default_table(plain(data)))


def say(text: str) -> None:
    """A line for people, to standard error, so that `--json` output stays clean."""
    from rich.console import Console

    Console(stderr=True, soft_wrap=True).print(text)


def say_warnings(name: str, warnings: Sequence[str], most: int = 10) -> None:
    """A line for each of the first warnings about what is called `name`, and how many more there are."""
    from rich.markup import escape

    told = [escape(one_line(warning)) for warning in warnings[:most]]
    told += [f"and {len(warnings) - most} more."] if len(warnings) > most else []
    for line in told:
        say(f"[yellow]{escape(one_line(name))}[/]: {line}")


def one_line(text: str) -> str:
    """The text on one line that every terminal takes: line breaks, control characters and stray bytes as escapes.

    File names may hold any of them, and a message names files.
    """
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in readable)


def rows_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None, title: str = "") -> Table:
    """A Rich table of rows; columns in the given order, or in that of the first row."""
    from rich.table import Table

    names = list(columns or (rows[0] if rows else ["nothing yet"]))
    table = Table(title=title or None, header_style="bold")
    for name in names:
        is_number = bool(rows) and all(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
    return table


def plain(value: object) -> Any:
    """The value as JSON can say it: dataclasses and models as objects, times as ISO text, not-a-number as null."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return plain(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, Iterable):
        return [plain(entry) for entry in value]
    if hasattr(value, "item"):
        return plain(value.item())
    return str(value)


def _default_table(data: Any) -> RenderableType:
    if isinstance(data, list) and all(isinstance(row, dict) for row in data):
        return rows_table(data)
    if isinstance(data, dict):
        return rows_table([{"fact": key, "value": entry} for key, entry in data.items()], ["fact", "value"])
    return str(data)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_cell(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_cell(entry) for entry in value)
    from rich.markup import escape

    return escape(str(plain(value)))
