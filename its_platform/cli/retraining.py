"""`its retraining`: the policy, what it says now, what it said before, and what it would say to the past."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

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
def history(
    limit: int = 20,
    told: bool = typer.Option(False, "--told", help="Instead: who was told of what, or could not be."),
    json: JsonFlag = False,
) -> None:
    """Decisions, the latest first."""
    from its_platform.retraining import list_decisions, list_told

    found = (list_told if told else list_decisions)(_stores(), limit)
    rows = [
        {"at": f"{row['at']:%Y-%m-%d %H:%M:%S}", "action": row["action"], "reasons": " ".join(row["reasons"])}
        for row in found
    ]
    emit(found, json, lambda: rows_table(rows))


@app.command()
def policy(json: JsonFlag = False) -> None:
    """What starts a training, on what data, how often at most, and who is told."""
    from dataclasses import asdict

    from its_platform.retraining import policy_of
    from its_platform.settings import load_settings

    found = policy_of(load_settings())
    rows = [
        {"": name.replace("_", " ") if number == 0 else "", "policy": sentence}
        for name, sentences in asdict(found).items()
        for number, sentence in enumerate(sentences)
    ]
    emit(found, json, lambda: rows_table(rows))


@app.command()
def replay(
    since: Annotated[datetime | None, typer.Option(help="Only reports made from this time on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only reports made before this time (UTC).")] = None,
    json: JsonFlag = False,
) -> None:
    """What today's policy says to each drift report of the past, on what was known then. Nothing is started."""
    from its_platform.retraining import replay as replay_reports

    found = replay_reports(_stores(), _utc(since), _utc(until))
    rows = [
        {"at": f"{one.at:%Y-%m-%d %H:%M:%S}", "decision": one.decision, "reasons": " ".join(one.reasons)}
        for one in found
    ]
    emit(found, json, lambda: rows_table(rows))


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _stores() -> Stores:
    from its_platform.settings import load_settings
    from its_platform.stores import open_stores

    return open_stores(load_settings())
