"""`its demo`: the whole loop on a simulated world, with what came of it in a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from its_platform.cli.output import JsonFlag, emit
from its_platform.cli.play import KeepUp, ProgressFile, play

if TYPE_CHECKING:
    from rich.console import RenderableType


def demo(
    scale: Annotated[Literal["full", "tiny"], typer.Option(help="`full`, or `tiny` for tests.")] = "full",
    progress_jsonl: ProgressFile = None,
    keep_up: KeepUp = False,
    json: JsonFlag = False,
) -> None:
    """Run the whole loop on a simulated world; a demo that was stopped goes on where it was."""
    from its_platform.demo import run_demo

    facts = play(
        lambda settings, progress, on_step: run_demo(settings, scale, progress, on_step), progress_jsonl, keep_up
    )
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
