"""`its camera`: the registry of cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from its_platform.cli.output import JsonFlag, emit, rows_table, say

if TYPE_CHECKING:
    from its_platform.cameras import Camera
    from its_platform.stores import Stores

app = typer.Typer(help="Cameras that footage comes from.", no_args_is_help=True)

_COLUMNS = ("camera_id", "source", "site", "privacy", "sample_interval_s", "enabled")


@app.command()
def add(
    camera_id: Annotated[str, typer.Argument(help="Its name: lower-case letters, digits and _.-")],
    source: Annotated[
        str,
        typer.Argument(help="A video, a folder of images, rtsp://host/stream or sim://view; see docs/cameras.md."),
    ],
    site: Annotated[str, typer.Option(help="Where it stands.")] = "",
    privacy: Annotated[str, typer.Option(help="none, or faces_and_plates to store anonymous frames.")] = "none",
    interval: Annotated[float, typer.Option(help="Seconds between two frames; 0 takes every frame.")] = 1.0,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Ask for the password of rtsp://user@host, or read it from a pipe.")
    ] = False,
    disabled: Annotated[bool, typer.Option("--disabled", help="Enter it, and take nothing in yet.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Change a camera of this name.")] = False,
    json: JsonFlag = False,
) -> None:
    """Enter a camera."""
    from rich.markup import escape

    from its_platform.cameras.address import has_password, with_password
    from its_platform.cameras.registry import add_camera, make_camera
    from its_platform.errors import ItsError
    from its_platform.frames.sources import available_until

    if password_stdin:
        source = with_password(source, _password())
    elif has_password(source):
        say("A password on the command line stays in the shell's history; --password-stdin asks for it.")
    camera = make_camera(
        camera_id, source, site=site, privacy=privacy, sample_interval_s=interval, enabled=not disabled
    )
    stores = _stores()
    is_new = add_camera(stores, camera, replace=replace)
    emit({**_facts(camera), "new": is_new}, json)
    try:
        available_until(camera, stores.settings)
    except ItsError as error:
        # Footage may come later, so the camera is entered all the same.
        say(f"Entered, but nothing can be read there now: {escape(str(error))}")


@app.command("list")
def list_(json: JsonFlag = False) -> None:
    """All cameras."""
    from its_platform.cameras.registry import list_cameras

    rows = [_facts(camera) for camera in list_cameras(_stores())]
    emit(rows, json, lambda: rows_table(rows, _COLUMNS))


@app.command()
def show(camera_id: str, json: JsonFlag = False) -> None:
    """One camera, with how far its footage reaches and what is stored of it."""
    from its_platform.cameras.registry import get_camera
    from its_platform.errors import ItsError
    from its_platform.frames.index import FrameIndex
    from its_platform.frames.sources import available_until

    stores = _stores()
    camera = get_camera(stores, camera_id)
    try:
        reach = available_until(camera, stores.settings)
    except ItsError as error:
        reach = str(error)
    stored = FrameIndex(stores).query([camera_id], columns=["captured_at"])["captured_at"]
    facts = {
        **_facts(camera),
        "available_until": reach,
        "frames": len(stored),
        "first": stored.min().to_pydatetime() if len(stored) else None,
        "last": stored.max().to_pydatetime() if len(stored) else None,
    }
    emit(facts, json)


@app.command()
def remove(camera_id: str, json: JsonFlag = False) -> None:
    """Take a camera from the registry; its frames stay."""
    from its_platform.cameras.registry import remove_camera

    remove_camera(_stores(), camera_id)
    emit({"camera_id": camera_id, "removed": True}, json)


def _password() -> str:
    """A line from a pipe, or what a person types without its being shown."""
    import sys
    from getpass import getpass

    return getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")


def _facts(camera: Camera) -> dict[str, object]:
    return {**camera.model_dump(), "source": camera.public_source}


def _stores() -> Stores:
    from its_platform.settings import load_settings
    from its_platform.stores import open_stores

    return open_stores(load_settings())
