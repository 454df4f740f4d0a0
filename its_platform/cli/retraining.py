"""`its retraining`: what the policy says now, and what it said before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from its_platform.cli.output import JsonFlag, emit, rows_table

if TYPE_CHECKING:
    from its_platform.stores import Stores

app = typer.Typer(no_args_is_help=True, help="When a new model is trained, and why.")


@app.command()
def decide(
    record: bool = typer.Option(False, "--record", help="Keep the decision, as the sensor does."),
    json: JsonFlag = False,
) -> None:
    """Say what the policy decides now and why. Nothing is started; Dagster's drift sensor does that."""
    from datetime import UTC, datetime

    from rich.console import Group

    from its_platform import retraining

    stores = _stores()
    decision = retraining.decide(retraining.read_history(stores), stores.settings.retraining, datetime.now(UTC))
    if record:
        retraining.record_decision(stores, decision)
    numbers = [{"number": name.replace("_", " "), "value": value} for name, value in decision.numbers.items()]
    said = [f"[bold]{decision.action.replace('_', ' ')}[/]", *decision.reasons]
    emit(decision, json, lambda: Group(*said, rows_table(numbers)))


@app.command()
def history(limit: int = 20, json: JsonFlag = False) -> None:
    """Decisions, the latest first."""
    from its_platform.retraining import list_decisions

    found = list_decisions(_stores(), limit)
    rows = [
        {"at": f"{row['at']:%Y-%m-%d %H:%M:%S}", "action": row["action"], "reasons": " ".join(row["reasons"])}
        for row in found
    ]
    emit(found, json, lambda: rows_table(rows))


def _stores() -> Stores:
    from its_platform.settings import load_settings
    from its_platform.stores import open_stores

    return open_stores(load_settings())
