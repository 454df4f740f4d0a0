"""`its release`: gates, stages, waivers and rollback from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from its_platform.cli.output import JsonFlag, emit, rows_table, say
from its_platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rich.console import RenderableType

    from its_platform.release import CanaryState, GateResult, Look, ReleaseChange
    from its_platform.stores import Stores

app = typer.Typer(help="Gates, stages and rollback.", no_args_is_help=True)

Version = Annotated[int, typer.Argument(min=1, help="Number of the model version.", show_default=False)]
By = Annotated[str, typer.Option("--by", help="Who does it.", show_default="the user's name")]
Why = Annotated[str, typer.Option("--why", help="The reason, as it is recorded.")]
Reason = Annotated[str, typer.Option("--why", help="The reason, as it is recorded.", show_default=False)]
COLOURS = {"passed": "green", "failed": "red", "not_judged": "dim", "no_verdict": "yellow"}


@app.command()
def status(json: JsonFlag = False) -> None:
    """What is asked for, what is served, and what stands between, for each stage."""
    from its_platform import release

    rows = release.status(_stores())
    columns = ["stage", "wished", "served", "since", "by", "why", "last_good", "in_the_way"]
    emit(rows, json, lambda: rows_table([row.as_dict() for row in rows], columns))
    for row in rows:
        if not json and row.served is not None:
            say(f"Trace: its trace release:{row.stage}")


@app.command()
def stage(version: Version, by: By = "", why: Why = "staged by hand", json: JsonFlag = False) -> None:
    """Serve a version at staging, where its last gate is measured."""
    from its_platform import release

    row = release.stage(_stores(), version, by or _me(), why)
    emit(
        row, json, lambda: rows_table([row.as_dict()], ["stage", "version", "since", "by", "why", "model", "endpoint"])
    )


@app.command()
def judge(version: Version, json: JsonFlag = False) -> None:
    """Measure a staged version against its gates and record the results."""
    from its_platform import release
    from its_platform.telemetry import terminal_progress

    stores = _stores()
    with terminal_progress() as progress:
        results = release.judge_candidate(stores, version, progress)
    release.publish_card(stores, version)
    _show_gates(stores, version, results, json)


@app.command()
def gates(version: Version, json: JsonFlag = False) -> None:
    """The recorded gate results of a version, with its waivers."""
    from its_platform import release
    from its_platform.errors import NotFound

    stores = _stores()
    found = release.latest_judgement(stores, version)
    if found is None:
        raise NotFound(f"Version {version} has not been judged.", f"`its release judge {version}` does it.")
    _show_gates(stores, version, found.results, json)


@app.command()
def promote(
    version: Version,
    stage: Annotated[str, typer.Option(help="staging, canary or production.")] = "production",
    by: By = "",
    why: Why = "promoted by hand",
    json: JsonFlag = False,
) -> None:
    """Serve a version that has passed its gates."""
    from its_platform import release

    stores = _stores()
    change = release.promote(stores, version, stage, by or _me(), why)
    release.publish_cards(stores, [change])
    emit(change, json, lambda: _changes_table([change]))


@app.command()
def rollback(
    why: Annotated[str, typer.Option("--why", help="What is wrong with the present version.", show_default=False)],
    by: By = "",
    json: JsonFlag = False,
) -> None:
    """Go back to the last good version; the present one is refused until a waiver."""
    from its_platform import release

    stores = _stores()
    change = release.rollback(stores, by or _me(), why)
    release.publish_cards(stores, [change])
    emit(change, json, lambda: _changes_table([change]))


@app.command()
def canary(json: JsonFlag = False) -> None:
    """The version that answers a share of the live traffic, and what was found when it was last looked at."""
    from its_platform import release

    state = release.canary_state(_stores())
    emit(state, json, lambda: _canary_table(state))


@app.command()
def look(by: By = "", json: JsonFlag = False) -> None:
    """Judge the canary by what has come in, and do what follows: more traffic, production, or back."""
    from its_platform import release

    stores = _stores()
    found = release.look_at_canary(stores, by or _me())
    if found is not None and found.change is not None:
        release.publish_cards(stores, [found.change])
    emit(found, json, lambda: _look_table(found))


@app.command()
def hold(why: Reason, by: By = "", json: JsonFlag = False) -> None:
    """Keep the canary at its share; it can still go back."""
    from its_platform import release

    state = release.hold_canary(_stores(), by or _me(), why)
    emit(state, json, lambda: _canary_table(state))


@app.command()
def resume(why: Reason, by: By = "", json: JsonFlag = False) -> None:
    """Let a canary that was held go on."""
    from its_platform import release

    state = release.resume_canary(_stores(), by or _me(), why)
    emit(state, json, lambda: _canary_table(state))


@app.command()
def stop(why: Reason, by: By = "", json: JsonFlag = False) -> None:
    """Take the canary from the live traffic; its version is refused until a waiver."""
    from its_platform import release

    stores = _stores()
    change = release.stop_canary(stores, by or _me(), why)
    release.publish_cards(stores, [change])
    emit(change, json, lambda: _changes_table([change]))


@app.command()
def freeze(why: Reason, by: By = "", json: JsonFlag = False) -> None:
    """Keep what live traffic meets as it is until `its release thaw`; a rollback is always possible."""
    from its_platform import release

    release.freeze(_stores(), by or _me(), why)
    emit({"frozen": True, "why": why}, json, lambda: "Frozen. `its release thaw` ends it.")


@app.command()
def thaw(why: Reason, by: By = "", json: JsonFlag = False) -> None:
    """End a freeze; what the aliases ask for is made true by the next reconcile."""
    from its_platform import release

    release.thaw(_stores(), by or _me(), why)
    emit({"frozen": False, "why": why}, json, lambda: "Thawed.")


@app.command()
def waive(
    version: Version,
    gate: Annotated[str, typer.Argument(help="The gate as `its release gates` names it, or `rejected`.")],
    by: Annotated[str, typer.Option("--by", help="The name that stands for it.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="Why the gate may be let go.", show_default=False)],
    json: JsonFlag = False,
) -> None:
    """Let one gate of one version go, by name and with a reason; both are recorded and shown."""
    from its_platform import release
    from its_platform.stores.registry import MODEL_NAME

    stores = _stores()
    given = release.waive(stores, stores.registry.get(MODEL_NAME, version), gate, by, reason)
    release.publish_card(stores, version)
    emit(given, json)


@app.command()
def reconcile(by: By = "", json: JsonFlag = False) -> None:
    """Make true what the registry's aliases ask for, as far as the gates allow."""
    from its_platform import release

    stores = _stores()
    changes = release.reconcile(stores, by or _me())
    release.publish_cards(stores, changes)
    emit(changes, json, lambda: _changes_table(changes))


@app.command()
def history(
    stage: Annotated[str | None, typer.Option(help="Only this stage.", show_default=False)] = None,
    json: JsonFlag = False,
) -> None:
    """Every release there was, the latest first."""
    from its_platform import release

    found = release.history(_stores(), stage)
    columns = ["stage", "version", "since", "until", "by", "why", "digest", "endpoint"]
    emit(found, json, lambda: rows_table([{**row.as_dict(), "digest": row.digest[:12]} for row in found], columns))


def _show_gates(stores: Stores, version: int, results: Sequence[GateResult], json: bool) -> None:
    from its_platform import release

    given = release.waivers(stores, version)
    waived = {waiver.gate for waiver in given}
    facts = {
        "version": version,
        "is_passed": release.is_passed(results, waived),
        "results": [{"key": result.key, **_as_dict(result)} for result in results],
        "waivers": given,
    }
    emit(facts, json, lambda: _gates_table(version, results, waived))


def _gates_table(version: int, results: Sequence[GateResult], waived: Collection[str]) -> RenderableType:
    from rich.markup import escape
    from rich.table import Table

    from its_platform import release
    from its_platform.release.pictures import number

    outcome = "[green]passed[/]" if release.is_passed(results, waived) else "[red]not passed[/]"
    table = Table(title=f"Version {version}: {outcome}", header_style="bold")
    for name in ("gate", "verdict"):
        table.add_column(name, overflow="fold")
    for name in ("value", "threshold", "boxes"):
        table.add_column(name, justify="right")
    table.add_column("", overflow="fold")
    for result in results:
        verdict = "[yellow]waived[/]" if result.is_in_the_way and result.key in waived else ""
        table.add_row(
            escape(result.key),
            verdict or f"[{COLOURS[result.verdict]}]{result.verdict.replace('_', ' ')}[/]",
            number(result.value),
            number(result.threshold),
            "" if result.boxes is None else str(result.boxes),
            escape(result.detail),
        )
    return table


def _canary_table(state: CanaryState | None) -> RenderableType:
    if state is None:
        return "There is no canary."
    facts = {"version": state.version, "against": state.against, "share": f"{state.percent:g} %", "since": state.since}
    found = state.verdict or {}
    facts |= {"step since": state.step_since, "by": state.by, "held": state.held or "no"}
    facts |= {"last verdict": found.get("action", "none yet"), "reasons": "; ".join(found.get("reasons", []))}
    facts |= {"labels wanted": ", ".join(found.get("labels_wanted", [])) or "none"}
    facts |= {"to be looked at": ", ".join(found.get("to_be_looked_at", [])) or "nothing"}
    return rows_table([{"fact": name, "value": value} for name, value in facts.items()])


def _look_table(found: Look | None) -> RenderableType:
    if found is None:
        return "There is no canary."
    facts: dict[str, Any] = {"version": found.version, "share": f"{found.percent:g} %", "verdict": found.verdict.action}
    facts |= {"reasons": "; ".join(found.verdict.reasons), "labels wanted": ", ".join(found.verdict.labels_wanted)}
    facts |= {name: round(value, 4) for name, value in found.verdict.numbers.items()}
    facts["done"] = f"{found.change.stage}: {found.change.kind}" if found.change is not None else "nothing changed"
    return rows_table([{"fact": name, "value": value} for name, value in facts.items()])


def _changes_table(changes: Sequence[ReleaseChange]) -> RenderableType:
    if not changes:
        return "Nothing to do: what is asked for is served."
    columns = ["stage", "kind", "version", "previous", "reason"]
    return rows_table([_as_dict(change) for change in changes], columns)


def _as_dict(value: Any) -> dict[str, Any]:
    from dataclasses import fields

    return {field.name: getattr(value, field.name) for field in fields(value)}


def _stores() -> Stores:
    from its_platform.stores import open_stores

    return open_stores(load_settings())


def _me() -> str:
    import getpass

    return getpass.getuser()
