"""`its backup`: copies of everything in a folder or a bucket elsewhere, and the way back from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from its_platform.cli.output import JsonFlag, emit, rows_table, say
from its_platform.settings import load_settings

app = typer.Typer(help="Copies of everything elsewhere, and the way back.", no_args_is_help=True)
_PLACE = "`file:///folder` or `s3+https://host/bucket`; the settings' backup.url unless told."
FromOption = Annotated[str | None, typer.Option("--from", help=_PLACE, show_default=False)]
IdArgument = Annotated[str, typer.Argument(help="As `its backup list` has it, or latest.")]


@app.command()
def create(
    to: Annotated[str | None, typer.Option(help=_PLACE, show_default=False)] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="Then remove all but the newest so many.")] = None,
    json: JsonFlag = False,
) -> None:
    """Copy databases, objects, models, datasets and settings; only what is not there yet is sent."""
    from its_platform.backup import create_backup, open_target, prune_backups
    from its_platform.telemetry import terminal_progress

    settings = load_settings()
    target = open_target(settings, to)
    with terminal_progress() as progress:
        made = create_backup(settings, target, progress)
        removed = prune_backups(settings, target, keep, progress) if keep else []
    facts = {
        "id": made.backup.id,
        "at": target.name,
        "members": made.backup.members,
        "bytes": made.backup.size,
        "bytes_sent": made.sent,
        "keys": made.keys,
        "left_out": made.backup.left_out,
        "removed": removed,
    }
    emit(facts, json)
    if not json and made.keys:
        say("The master key is not in it: keep a copy of it elsewhere (docs/backup.md).")


@app.command("list")
def list_all(origin: FromOption = None, json: JsonFlag = False) -> None:
    """The backups that are there, oldest first."""
    from its_platform.backup import list_backups, open_target

    found, wrong = list_backups(open_target(load_settings(), origin))
    rows: list[dict[str, object]] = [
        {
            "id": one.id,
            "created_at": one.created_at,
            "members": one.members,
            "bytes": one.size,
            "profile": one.profile,
            "state": "complete",
        }
        for one in found
    ]
    rows += [{"id": name, "state": problem} for name, problem in wrong.items()]
    emit(rows, json, lambda: rows_table(rows, ["id", "created_at", "members", "bytes", "profile", "state"]))


@app.command()
def verify(name: IdArgument = "latest", origin: FromOption = None, json: JsonFlag = False) -> None:
    """Read a backup back, every byte; names what is missing or differs, and ends with 1 then."""
    from its_platform.backup import open_target, verify_backup
    from its_platform.telemetry import terminal_progress

    target = open_target(load_settings(), origin)
    with terminal_progress() as progress:
        verdict = verify_backup(target, name, progress)
    rows = [{"member": path, "problem": problem} for path, problem in verdict.problems.items()]
    if json or verdict.is_whole:
        emit(verdict, json)
    else:
        emit(rows)
        say("Remove at the target what differs; the next `its backup create` sends it again while it is here.")
    if not verdict.is_whole:
        raise typer.Exit(1)


@app.command()
def restore(
    name: IdArgument,
    into: Annotated[Path, typer.Option(help="A new or empty home; only the master key may lie in its `keys`.")],
    origin: FromOption = None,
    json: JsonFlag = False,
) -> None:
    """Bring a backup back into an empty home, which `ITS_HOME=… its up` then starts."""
    from its_platform.backup import open_target, restore_backup
    from its_platform.telemetry import terminal_progress

    target = open_target(load_settings(), origin)
    with terminal_progress() as progress:
        done = restore_backup(target, name, into, progress)
    facts = {
        "id": done.backup.id,
        "home": done.home,
        "members": done.members,
        "dataset_versions": done.versions,
        "keys": done.keys,
        "set_again": done.left_out,
    }
    emit(facts, json)
    if not json:
        say(f"Start it: ITS_HOME={done.home} its up")


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest stay.", show_default=False)],
    origin: FromOption = None,
    json: JsonFlag = False,
) -> None:
    """Remove old backups, and whatever no backup that is kept needs."""
    from its_platform.backup import open_target, prune_backups
    from its_platform.telemetry import terminal_progress

    settings = load_settings()
    with terminal_progress() as progress:
        removed = prune_backups(settings, open_target(settings, origin), keep, progress)
    emit({"removed": removed}, json)
