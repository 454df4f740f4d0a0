"""What the commands that play the whole loop share: the file of steps, the bars, servers left as they were found."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from its_platform.settings import Settings
    from its_platform.telemetry import Progress

    Run = Callable[[Settings, Progress, Callable[[str], None]], dict[str, Any]]

ProgressFile = Annotated[Path | None, typer.Option(help="Add a line to this file as each step begins.")]
KeepUp = Annotated[bool, typer.Option("--keep-up", help="Leave the servers running at the end.")]


def play(run: Run, progress_jsonl: Path | None, keep_up: bool) -> dict[str, Any]:
    """Run a play and give its facts; servers that did not run before are stopped, unless `keep_up`."""
    from its_platform.settings import load_settings
    from its_platform.stack import is_up, stop_stack
    from its_platform.telemetry import append_jsonl, terminal_progress

    def on_step(name: str) -> None:
        if progress_jsonl is not None:
            append_jsonl(progress_jsonl, step=name, at=time.time())

    was_up = is_up(load_settings())
    with terminal_progress() as progress:
        facts = run(load_settings(), progress, on_step)
        if not (keep_up or was_up):
            stop_stack(load_settings(), progress=progress)
    return facts
