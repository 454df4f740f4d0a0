"""`its up`, `down`, `status` and `doctor`: the servers of this machine."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from its_platform.cli.output import JsonFlag, emit, say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from its_platform.stack import PartStatus


class Profile(StrEnum):
    embedded = "embedded"
    services = "services"


_COLOURS = {"healthy": "green", "no answer": "yellow", "died": "red", "stopped": "dim"}


def up(
    part: Annotated[list[str] | None, typer.Option(help="Only this part, and PostgreSQL; may be repeated.")] = None,
    profile: Annotated[
        Profile | None,
        typer.Option(
            help="`services` starts PostgreSQL, an S3 server and Redis of this machine too. Kept by the home."
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Start Dagster, MLflow, Evidently and Triton on this machine; what runs already stays as it is."""
    from its_platform.settings import load_settings
    from its_platform.stack import start_stack
    from its_platform.stores.journal import Journal
    from its_platform.stores.prepare import choose_profile
    from its_platform.telemetry import terminal_progress

    settings = load_settings()
    if profile is not None and profile.value != settings.profile:
        with Journal(settings).step("settings.changed", "profile", profile=profile.value):
            settings = choose_profile(settings, profile.value)
    with terminal_progress() as progress, Journal(settings).step("stack.started", str(settings.home)) as detail:
        found = start_stack(settings, part or None, progress)
        detail["parts"] = [one.name for one in found]
    emit(found, json, lambda: _table(found))
    if not json:
        say("`its down` stops all of it.")


def down(json: JsonFlag = False) -> None:
    """Stop everything that was started for this home folder, the database too."""
    from its_platform.settings import load_settings
    from its_platform.stack import stop_stack
    from its_platform.stores.journal import Journal
    from its_platform.telemetry import terminal_progress

    settings = load_settings()
    with terminal_progress() as progress:
        stopped = stop_stack(settings, progress)
    if stopped:
        Journal(settings).note("stack.stopped", str(settings.home), parts=stopped)
    emit({"stopped": stopped}, json, lambda: f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running.")


def status(json: JsonFlag = False) -> None:
    """What runs, where, whether it answers, and what it takes; ends with 1 when something died or does not answer."""
    from its_platform.settings import load_settings
    from its_platform.stack import stack_status

    found = stack_status(load_settings(), with_versions=True)
    emit(found, json, lambda: _table(found))
    for one in found:
        if one.is_healthy and one.note and not json:
            say(f"{one.title}: {one.note}")
    if any(one.state in {"died", "no answer"} for one in found):
        raise typer.Exit(1)


def doctor(json: JsonFlag = False) -> None:
    """Look for what is wrong and say how to mend it; ends with 1 when something is."""
    from its_platform.doctor import examine
    from its_platform.settings import load_settings

    findings = examine(load_settings())

    def table() -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        made = Table(header_style="bold")
        for name in ("", "what", "finding", "what to do"):
            made.add_column(name, overflow="fold")
        for one in findings:
            mark = Text("✓", "green") if one.is_well else Text("✗", "red") if one.is_severe else Text("–", "yellow")
            made.add_row(mark, one.name, Text(one.finding), Text("" if one.is_well else one.remedy))
        return made

    emit(findings, json, table)
    if any(one.is_severe and not one.is_well for one in findings):
        raise typer.Exit(1)


def _table(found: list[PartStatus]) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    has_versions = any(one.version for one in found)
    for name in ("server", *(["version"] * has_versions), "address", "state", "pid", "memory", "up for", "restarts"):
        is_number = name in {"pid", "memory", "up for", "restarts"}
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True, overflow="fold")
    for one in found:
        table.add_row(
            one.title,
            *([one.version or "–"] * has_versions),
            one.address or "–",
            Text(one.state, _COLOURS[one.state]),
            str(one.pid or "–"),
            f"{one.memory_mb:.0f} MB" if one.memory_mb is not None else "–",
            _duration(one.uptime_s),
            str(one.restarts) if one.restarts is not None else "–",
        )
    return table


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
