"""`its monitor`: the log of predictions, drift reports and what several of them say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from its_platform.cli.output import JsonFlag, emit, rows_table, say

if TYPE_CHECKING:
    from its_platform.monitoring.reports import DriftReport
    from its_platform.stores import Stores

app = typer.Typer(no_args_is_help=True, help="Predictions, drift and reports.")

Since = Annotated[str | None, typer.Option(help="Begin of the window, capture time (ISO 8601, UTC if no zone).")]
Until = Annotated[str | None, typer.Option(help="End of the window, not included.")]
Version = Annotated[int | None, typer.Option(help="A model version; the served one if not given.")]


@app.command()
def collect(json: JsonFlag = False) -> None:
    """Move the front's log into the table of predictions."""
    from its_platform.monitoring import predictions

    stores = _stores()
    facts = {
        "rows_added": predictions.collect(stores),
        "lines_refused": predictions.refused_lines(stores),
        "rows_lost_by_the_front": predictions.lost_rows(stores),
    }
    emit(facts, json)


@app.command()
def reference(json: JsonFlag = False) -> None:
    """Record the served version's reference: its own predictions on held-out frames."""
    from its_platform.errors import NotFound
    from its_platform.monitoring.reference import record_reference
    from its_platform.release import served
    from its_platform.telemetry import terminal_progress

    stores = _stores()
    release = served(stores, "production")
    if release is None:
        raise NotFound("No version is served in production.", "`its release list` shows what is.")
    with terminal_progress() as progress:
        rows = record_reference(stores, release, progress)
    emit({"version": release.version, "reference_rows": rows}, json)


@app.command()
def report(since: Since = None, until: Until = None, version: Version = None, json: JsonFlag = False) -> None:
    """Report on a window; without one, on every window that is due."""
    from its_platform.errors import BadInput
    from its_platform.monitoring import drift, predictions
    from its_platform.telemetry import parse_time, terminal_progress

    begin, end = parse_time(since), parse_time(until)
    if (begin is None) != (end is None):
        raise BadInput("A window has a begin and an end.", "Give both --since and --until, or neither.")
    stores = _stores()
    predictions.collect(stores)
    with terminal_progress() as progress:
        if begin and end:
            made = [drift.report(stores, begin, end, progress, version)]
        else:
            made = drift.report_due_windows(stores, progress)
    if not made:
        say("No window is due.")
    emit(made, json, lambda: rows_table([_line(entry) for entry in made]))


@app.command("list")
def list_(version: Version = None, limit: int = 20, json: JsonFlag = False) -> None:
    """Reports, the latest window first; of every version if none is given."""
    from its_platform.monitoring.reports import list_reports

    found = list_reports(_stores(), version, limit)
    emit(found, json, lambda: rows_table([_line(entry) for entry in found]))


@app.command()
def show(report_id: str, json: JsonFlag = False) -> None:
    """One report: its reason, and each column's effect against its threshold."""
    from its_platform.monitoring.reports import get_report

    found = get_report(_stores(), report_id)
    if not json:
        say(f"[bold]{found.id}[/]: {found.verdict.replace('_', ' ')}. {found.reason}")
        if found.unseen_strata:
            say(f"Never seen in the reference: {', '.join(found.unseen_strata)}")
        if found.html:
            say(f"Page: {found.html}")
        say(f"Trace: its trace report:{found.id}")
    columns = [
        {"column": name, **figures, "times_threshold": figures["effect"] / figures["threshold"]}
        for name, figures in found.columns.items()
    ]
    columns.sort(key=lambda row: -float(row["times_threshold"]))
    emit(found, json, lambda: rows_table(columns))


@app.command()
def state(version: Version = None, json: JsonFlag = False) -> None:
    """Whether enough of the last windows have drifted."""
    from rich.console import Group

    from its_platform.monitoring.windows import drift_state

    found = drift_state(_stores(), version)
    said = (
        f"version {found.version}: {found.drifted} of the last {len(found.windows)} judged windows have drifted, "
        f"{found.needed} of {found.looked_at} are needed: {'drifted' if found.is_drifted else 'not drifted'}"
    )
    emit(found, json, lambda: Group(said, rows_table([_line(entry) for entry in found.windows])))


@app.command()
def marts(
    anew: Annotated[bool, typer.Option(help="Build marts that grow by increments from nothing.")] = False,
    json: JsonFlag = False,
) -> None:
    """Build and test the marts with dbt; ends with 1 when a model or a test fails."""
    from collections import Counter

    from rich.markup import escape

    from its_platform.monitoring.marts import build_marts

    built = build_marts(_stores(), anew)
    loaded = {one.source: one.rows for one in built.loaded}
    tests = dict(Counter(one.status for one in built.outcomes if one.kind != "model"))
    failed = [f"{one.name}: {one.message or one.status}" for one in built.failed]
    facts = {"target": built.target, "loaded": loaded, "rows": built.rows, "tests": tests, "failed": failed}
    emit(facts, json, lambda: rows_table([{"mart": name, "rows": rows} for name, rows in built.rows.items()]))
    if not json:
        say(f"Rows loaded into {built.target}: {', '.join(f'{rows} {name}' for name, rows in loaded.items())}.")
        say(f"Tests: {', '.join(f'{number} {status}' for status, number in tests.items())}.")
        for line in failed:
            say(f"[red]✗[/] {escape(line)}")
    if failed:
        raise typer.Exit(1)


def _line(entry: DriftReport) -> dict[str, Any]:
    return {
        "id": entry.id,
        "version": entry.model_version,
        "since": f"{entry.since:%Y-%m-%d %H:%M:%S}",
        "until": f"{entry.until:%Y-%m-%d %H:%M:%S}",
        "rows": entry.rows,
        "score": entry.score,
        "verdict": entry.verdict.replace("_", " "),
        "unseen": ", ".join(entry.unseen_strata),
        "reason": entry.reason,
    }


def _stores() -> Stores:
    from its_platform.settings import load_settings
    from its_platform.stores import open_stores

    return open_stores(load_settings())
