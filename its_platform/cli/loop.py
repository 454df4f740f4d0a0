"""`its loop`: the whole loop on real footage, with what came of it in a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from its_platform.cli.output import JsonFlag, emit
from its_platform.cli.play import KeepUp, ProgressFile, play

if TYPE_CHECKING:
    from rich.console import RenderableType


def loop(
    data: Annotated[
        Path, typer.Option(help="A folder with one folder a camera, each with images/ and labels/ (YOLO).")
    ],
    weights: Annotated[Path, typer.Option(help="Detector that the first training begins with (.pt).")],
    live: Annotated[
        str | None, typer.Option(help="The camera that comes later; by default the only one of the night.")
    ] = None,
    judge_from: Annotated[
        str | None, typer.Option(help="Its first picture that judges; earlier ones may teach. By default a gap's end.")
    ] = None,
    size: Annotated[int, typer.Option(min=32, help="Side in pixels of the detector's input.")] = 480,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the first training.")] = 12,
    retraining_epochs: Annotated[int, typer.Option(min=1, help="Epochs of the retraining.")] = 8,
    progress_jsonl: ProgressFile = None,
    keep_up: KeepUp = False,
    json: JsonFlag = False,
) -> None:
    """Run the whole loop on real footage: all cameras but one teach a model, that one comes live, drift retrains.

    A loop that was stopped goes on where it was.
    """
    from its_platform.loop import LoopPlan, run_loop

    plan = LoopPlan(data, weights, live, judge_from, size, epochs, retraining_epochs)
    facts = play(
        lambda settings, progress, on_step: run_loop(settings, plan, progress, on_step), progress_jsonl, keep_up
    )
    emit(facts, json, lambda: _table(facts))


def _table(facts: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    first, second = (model["version"] for model in facts["models"])
    scores = Table(title="AP50 on held-out frames, with 95 % intervals", header_style="bold")
    for name in ("camera", "of", f"version {first}", f"version {second}", "boxes", "frames"):
        scores.add_column(name, justify="left" if name in ("camera", "of") else "right")
    rows = {(row["version"], row["camera"], row["what"]): row for row in facts["scores"]}
    for (version, camera, what), row in rows.items():
        if version == first:
            other = rows[(second, camera, what)]
            figures = (_with_interval(row), _with_interval(other), str(row["boxes"]), str(row["frames"]))
            scores.add_row(camera, what, *figures)
    drift = Table(title="drift of each live stretch", header_style="bold")
    for name in ("from", "version", "rows", "score", "verdict"):
        drift.add_column(name, justify="left" if name in ("from", "verdict") else "right")
    for row in facts["drift"]:
        score = f"{row['score']:.2f}" if row["score"] is not None else "–"
        drift.add_row(
            f"{row['since']:%d %b %H:%M}", str(row["model"]), str(row["rows"]), score, row["verdict"].replace("_", " ")
        )
    spent = ", ".join(f"{row['step']} {row['s']:.0f} s" for row in facts["seconds"])
    return Group(scores, drift, spent, f"Report: {facts['report']}")


def _with_interval(row: dict[str, Any]) -> str:
    if row["low"] == row["high"]:
        return f"{row['ap50']:.3f}"
    return f"{row['ap50']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
