"""`its demo`: the whole loop on a simulated world, with what came of it in a table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from its_platform.cli.output import JsonFlag, emit

if TYPE_CHECKING:
    from rich.console import RenderableType


def demo(
    scale: Annotated[Literal["full", "tiny"], typer.Option(help="`full`, or `tiny` for tests.")] = "full",
    progress_jsonl: Annotated[Path | None, typer.Option(help="Add a line to this file as each step begins.")] = None,
    keep_up: Annotated[bool, typer.Option("--keep-up", help="Leave the servers running at the end.")] = False,
    json: JsonFlag = False,
) -> None:
    """Run the whole loop on a simulated world; a demo that was stopped goes on where it was."""
    from its_platform.demo import run_demo
    from its_platform.settings import load_settings
    from its_platform.stack import is_up, stop_stack
    from its_platform.telemetry import append_jsonl, terminal_progress

    def on_step(name: str) -> None:
        if progress_jsonl is not None:
            append_jsonl(progress_jsonl, step=name, at=time.time())

    was_up = is_up(load_settings())
    with terminal_progress() as progress:
        facts = run_demo(load_settings(), scale, progress, on_step)
        if not (keep_up or was_up):
            stop_stack(load_settings(), progress=progress)
    emit(facts, json, lambda: _table(facts))


def _table(facts: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    scores = Table(title="mAP50 on the golden set", header_style="bold")
    for name in ("version", "day", "night"):
        scores.add_column(name, justify="right")
    for row in facts["map50"]:
        scores.add_row(
            str(row["version"]), *(f"{row[k]:.3f}" if row[k] is not None else "not judged" for k in ("day", "night"))
        )
    drift = Table(title="drift of each live window", header_style="bold")
    for name in ("window", "model", "score", "threshold", "verdict"):
        drift.add_column(name, justify="left" if name in ("window", "verdict") else "right")
    for window in facts["drift"]["windows"]:
        drift.add_row(
            window["window"],
            str(window["model"]),
            f"{window['score']:.2f}",
            f"{window['threshold']:.2f}",
            window["verdict"].replace("_", " "),
        )
    return Group(
        scores,
        drift,
        f"{facts['seconds']:.0f} s; Triton serves version {facts['served_versions']['production']}.",
        f"Report: {facts['report']}",
        "`make up` starts the pages, where all of this is there to look at.",
    )
