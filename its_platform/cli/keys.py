"""`its keys`: the keys that objects are sealed with."""

from __future__ import annotations

import getpass
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from its_platform.cli.output import JsonFlag, emit, say
from its_platform.settings import Settings, load_settings

if TYPE_CHECKING:
    from its_platform.backup import Target
    from its_platform.stores.keys import KeyFolder, Owner

app = typer.Typer(help="The keys that objects are sealed with.", no_args_is_help=True)
FileArgument = Annotated[Path, typer.Argument(help="The file of exported keys.", show_default=False)]
PassphraseOption = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="File with the passphrase in its first line; without one it is asked for."),
]


@app.command("list")
def list_keys(json: JsonFlag = False) -> None:
    """Every key, in use or destroyed, and the master key that wraps it."""
    emit(_keys().facts(), json)


@app.command()
def rotate(json: JsonFlag = False) -> None:
    """Wrap all data keys by a new master key; objects stay as they are. Finishes one that was cut off."""
    master, wrapped = _keys().rotate()
    emit({"master": master, "keys_wrapped": wrapped}, json)
    say("Exports of before hold the old master key: `its keys export` again.")


@app.command()
def destroy(
    camera: Annotated[str, typer.Option(help="Whose footage is erased.", show_default=False)],
    day: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="UTC day of capture.", show_default=False)],
    why: Annotated[str, typer.Option(help="The reason, kept with the time and who it was.")] = "",
    origins: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            help="A place of backups to erase the key at beside backup.url: `file:///folder` or "
            "`s3+https://host/bucket`; may be given again.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonFlag = False,
) -> None:
    """Erase a camera's frames of one day for ever, in every copy, by destroying their key."""
    from its_platform.backup import open_target
    from its_platform.frames.erasure import erase, not_erased
    from its_platform.stores import open_stores
    from its_platform.stores.keys import Owner

    settings, owner = load_settings(), Owner(camera, day.date())
    named = [open_target(settings, origin) for origin in origins or []]
    if not yes:
        typer.confirm(f"Erase all frames of {camera} on {owner.day} for ever?", abort=True, err=True)
    stores = open_stores(settings)
    done = erase(stores, _keys(), owner, getpass.getuser(), why)
    # Before the objects are looked at: a store that is away must not keep the key in the backups.
    _forget_in_backups(settings, owner, named)
    left = not_erased(stores, done)
    emit({"erased": str(done.owner), "frames": done.frames - len(left), "unsealed": left}, json)
    if left:
        say(f"{len(left)} of its frames were stored unsealed, or are damaged: remove these objects and their copies.")
    say("Exports of the keys made before can still open them: destroy those files.")


@app.command("export")
def export_file(file: FileArgument, passphrase_file: PassphraseOption = None, json: JsonFlag = False) -> None:
    """Write the master key and the data keys to a file that only the passphrase opens."""
    from its_platform.stores.key_export import export_keys

    count = export_keys(_keys(), file, _passphrase(passphrase_file, is_new=True))
    emit({"file": file, "data_keys": count}, json)


@app.command("import")
def import_file(file: FileArgument, passphrase_file: PassphraseOption = None, json: JsonFlag = False) -> None:
    """Bring exported keys into this home; what was destroyed here stays destroyed."""
    from its_platform.stores.key_export import import_keys

    new, destroyed = import_keys(_keys(), file, _passphrase(passphrase_file))
    emit({"data_keys_new": new, "destroyed": destroyed}, json)


def _forget_in_backups(settings: Settings, owner: Owner, named: list[Target]) -> None:
    """Erase the key where backups lie; a person is told of each place where it was not."""
    from sqlalchemy.exc import SQLAlchemyError

    from its_platform.backup import forget_key, open_target, places_with_keys
    from its_platform.errors import ItsError

    day, visited = owner.day.isoformat(), {target.name for target in named}
    if settings.backup.url:
        try:
            target = open_target(settings)
            visited.add(target.name)
            forget_key(settings, target, owner.camera_id, day)
        except ItsError as error:
            say(f"The key still lies with the backups: {error} The next `its backup create` erases it there.")
    for target in named:
        try:
            forget_key(settings, target, owner.camera_id, day)
        except ItsError as error:
            say(f"The key was not erased at {target.name}: {error}")
    try:
        others = [place for place in places_with_keys(settings) if place not in visited]
    except (ItsError, SQLAlchemyError) as error:
        say(f"Whether backups lie elsewhere cannot be told: {str(error).splitlines()[0]}")
        return
    for place in others:
        say(f"Backups were made at {place}, where the key may still lie: do this again with --from and its address.")


def _keys() -> KeyFolder:
    from its_platform.stores.objects import open_keys

    return open_keys(load_settings())


def _passphrase(path: Path | None, is_new: bool = False) -> str:
    """Never an argument: the list of processes shows those to everybody."""
    from its_platform.errors import BadInput

    if path is not None:
        lines = path.read_text("utf-8").splitlines()
        return lines[0] if lines else ""
    if not sys.stdin.isatty():
        raise BadInput("There is nobody to ask for the passphrase.", "Name a file with --passphrase-file.")
    return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=is_new, err=True))
