"""`its experiment`: two versions compared in live traffic, from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from its_platform.cli.output import JsonFlag, emit, rows_table
from its_platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from its_platform.experiments import ExperimentLook, Plan
    from its_platform.release import Experiment
    from its_platform.stores import Stores

app = typer.Typer(help="Two versions compared in live traffic.", no_args_is_help=True)

By = Annotated[str, typer.Option("--by", help="Who does it.", show_default="the user's name")]
Named = "A version's number, or a stage."


@app.command()
def start(
    control: Annotated[str, typer.Argument(help=f"{Named} It is what is in production.", show_default=False)],
    challenger: Annotated[str, typer.Argument(help=Named, show_default=False)],
    hypothesis: Annotated[str, typer.Option(help="What you expect, and why.", show_default=False)],
    effect: Annotated[
        float, typer.Option(help="The smallest difference of interest, in the measure's unit.", show_default=False)
    ],
    measure: Annotated[str, typer.Option(help="boxes, confidence, latency_ms or f1, a mean a frame.")] = "boxes",
    share: Annotated[float, typer.Option(help="Per cent of the blocks that the challenger answers.")] = 50.0,
    power: Annotated[float, typer.Option(help="How surely a difference of that size is found.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Chance that a difference is found where there is none.")] = 0.05,
    deviation: Annotated[
        float | None,
        typer.Option(help="How much a block of one camera and one minute scatters.", show_default="as it did lately"),
    ] = None,
    days: Annotated[float, typer.Option(help="How long it may last, whatever comes in.")] = 28.0,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Say how many blocks it needs; begin nothing.")
    ] = False,
    by: By = "",
    json: JsonFlag = False,
) -> None:
    """Let a challenger answer a share of the live traffic until the difference is known, or the plan is at its end."""
    from its_platform import experiments

    stores = _stores()
    numbers = [experiments.version_at(stores, named) for named in (control, challenger)]
    asked = experiments.Question(
        numbers[0], numbers[1], hypothesis, measure, effect, deviation, share, alpha, power, days
    )
    if plan_only:
        plan = experiments.plan_for(stores, asked)
        emit(plan, json, lambda: _facts_table(_plan_facts(plan)))
        return
    begun = experiments.start_experiment(stores, asked, by or _me())
    emit(begun, json, lambda: _facts_table(_facts(begun, None)))


@app.command()
def status(
    number: Annotated[int | None, typer.Argument(min=1, help="Number of an experiment.", show_default="all")] = None,
    json: JsonFlag = False,
) -> None:
    """An experiment with what it has found so far, or all of them, the latest first."""
    from its_platform import release

    stores = _stores()
    if number is None:
        rows = release.experiments(stores)
        columns = ["number", "control", "challenger", "measure", "since", "until", "decision", "found"]
        emit(rows, json, lambda: rows_table([_row(one) for one in rows], columns))
        return
    shown = release.read_experiment(stores, number)
    emit(shown, json, lambda: _facts_table(_facts(shown, _last_found(shown))))


@app.command()
def look(by: By = "", json: JsonFlag = False) -> None:
    """Judge the experiment by what has come in, and end it where that is due."""
    from its_platform import experiments

    found = experiments.look_at_experiment(_stores(), by or _me())
    emit(found, json, lambda: _look_table(found))


@app.command()
def stop(
    why: Annotated[str, typer.Option("--why", help="The reason, as it is recorded.", show_default=False)],
    by: By = "",
    json: JsonFlag = False,
) -> None:
    """End the experiment now; what it has found so far stays readable."""
    from its_platform import experiments

    found = experiments.stop_experiment(_stores(), by or _me(), why)
    emit(found, json, lambda: _look_table(found))


def _row(one: Experiment) -> dict[str, Any]:
    found = "; ".join((_last_found(one) or {}).get("reasons", ["no look yet"]))
    return {
        "number": one.id,
        "control": one.control,
        "challenger": one.challenger,
        "measure": one.plan["measure"],
        "since": one.since,
        "until": one.until,
        "decision": one.decision or "running",
        "found": found if one.decision is None else one.why_ended,
    }


def _look_table(found: ExperimentLook | None) -> RenderableType:
    if found is None:
        return "No experiment is running."
    from its_platform.cli.output import plain

    return _facts_table(_facts(found.experiment, plain(found.finding)))


def _last_found(shown: Experiment) -> dict[str, Any] | None:
    """The figures on which it ended, or those of the last look while it goes on."""
    return shown.result or (shown.looks[-1]["finding"] if shown.looks else None)


def _facts(shown: Experiment, found: Mapping[str, Any] | None) -> dict[str, Any]:
    from its_platform.experiments import Plan

    facts: dict[str, Any] = {"experiment": shown.id, "hypothesis": shown.hypothesis}
    facts |= {"control": f"version {shown.control}", "challenger": f"version {shown.challenger}"}
    facts |= {"by": shown.by, "since": shown.since} | _plan_facts(Plan(**shown.plan))
    if found is None:
        return facts | {"found": "no look yet"}
    for name in ("control", "challenger"):
        blocks, mean = found[name]
        if mean is not None:
            facts[f"mean of the {name}"] = f"{mean:.4g} in {blocks} blocks"
    for light, effect in {"all": found["overall"], **found["by_light"]}.items():
        facts[f"effect, {light}"] = _said(effect)
    facts["blocks"] = f"{found['overall']['blocks']} of {found['of']}"
    facts |= found["numbers"]
    facts["found"] = "; ".join(found["reasons"])
    if shown.until is not None:
        facts |= {"until": shown.until, "decision": shown.decision, "why": shown.why_ended, "ended by": shown.ended_by}
    return facts


def _said(effect: Mapping[str, Any]) -> str:
    if effect["effect"] is None:
        return f"not enough evidence ({effect['blocks']} blocks)"
    ends = f"{effect['low']:+.4g} to {effect['high']:+.4g}"
    doubt = "" if effect["low"] > 0 or effect["high"] < 0 else ", not enough evidence"
    return f"{effect['effect']:+.4g} ({ends} at every look, {effect['blocks']} blocks{doubt})"


def _plan_facts(plan: Plan) -> dict[str, Any]:
    from its_platform.experiments import MEASURES

    return {
        "measure": MEASURES[plan.measure].said,
        "smallest effect": plan.effect,
        "deviation of a block": plan.deviation,
        "share": f"{plan.percent:g} %",
        "alpha, power": [plan.alpha, plan.power],
        "blocks at most": plan.blocks,
        "days at most": plan.days,
    }


def _facts_table(facts: Mapping[str, Any]) -> RenderableType:
    return rows_table([{"fact": name, "value": value} for name, value in facts.items()])


def _stores() -> Stores:
    from its_platform.stores import open_stores

    return open_stores(load_settings())


def _me() -> str:
    import getpass

    return getpass.getuser()
