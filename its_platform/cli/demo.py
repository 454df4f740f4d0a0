"""`its demo`: the whole loop on a simulated world, with what came of it in a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from its_platform.cli.output import JsonFlag, emit
from its_platform.cli.play import KeepUp, ProgressFile, play

if TYPE_CHECKING:
    from rich.console import RenderableType


app = typer.Typer()


@app.command()
def release(progress_jsonl: ProgressFile = None, keep_up: KeepUp = False, json: JsonFlag = False) -> None:
    """After a demo: a bad model that a gate stops, and one that a canary catches."""
    from its_platform.demo.release import run_release

    facts = play(run_release, progress_jsonl, keep_up)
    emit(facts, json, lambda: _released(facts))


@app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    scale: Annotated[Literal["full", "tiny"], typer.Option(help="`full`, or `tiny` for tests.")] = "full",
    progress_jsonl: ProgressFile = None,
    keep_up: KeepUp = False,
    json: JsonFlag = False,
) -> None:
    """Run the whole loop on a simulated world; a demo that was stopped goes on where it was."""
    if context.invoked_subcommand is not None:
        return
    from its_platform.demo import run_demo

    facts = play(
        lambda settings, progress, on_step: run_demo(settings, scale, progress, on_step), progress_jsonl, keep_up
    )
    emit(facts, json, lambda: _table(facts))


def _released(facts: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    gates = Table(title=f"version {facts['permuted']['version']}, permuted labels: stopped by", header_style="bold")
    for name in ("gate", "slice", "detail"):
        gates.add_column(name)
    for gate in facts["permuted"]["gates"]:
        gates.add_row(gate["name"], gate["slice"], gate["detail"])
    return Group(
        gates,
        f"Version {facts['blind']}, blind elsewhere: {facts['caught']['why']}",
        f"{facts['seconds']:.0f} s; Triton serves version {facts['served']}.",
        f"Report: {facts['report']}",
    )


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
