"""`its certs`: the authority of this home, and what its servers and their clients show each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from its_platform.certificates import DAYS
from its_platform.cli.output import JsonFlag, emit, say
from its_platform.settings import load_settings

app = typer.Typer(help="Certificates of the servers and of their clients.", no_args_is_help=True)
DaysOption = Annotated[int, typer.Option(min=1, help="How long they are valid.")]


@app.command()
def make(
    name: Annotated[
        list[str] | None, typer.Option(help="DNS name or address that clients ask by; may be repeated.")
    ] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Replace what is there.")] = False,
    days: DaysOption = DAYS,
    json: JsonFlag = False,
) -> None:
    """Make an authority, the servers' and the platform's own certificate, and the secret of Triton's repository."""
    from its_platform.certificates import make_certificates, server_names
    from its_platform.stack import is_up
    from its_platform.stores.journal import Journal

    settings = load_settings()
    names = [*server_names(settings), *(name or [])]
    folder = settings.certificates
    with Journal(settings).step("certificate.made", str(folder), names=names, days=days, replaced=renew):
        files = make_certificates(settings.certificates, names, days, renew)
    emit([{"file": path} for path in files], json)
    if not json and settings.uses_certificates and is_up(settings):
        say("What runs shows, and trusts, those of before: `its down`, `its up`.")
    if not json and not settings.triton_tls:
        where = settings.home / "settings.yaml"
        say(f"Triton asks for them once {where} has `security: {{triton_tls: true}}`: then `its down`, `its up`.")


@app.command()
def renew(
    name: Annotated[list[str] | None, typer.Option(help="Further DNS name or address; may be repeated.")] = None,
    days: DaysOption = DAYS,
    json: JsonFlag = False,
) -> None:
    """Issue the servers' and the platform's certificate anew by the same authority; what runs shows them."""
    from its_platform.certificates import server_names
    from its_platform.stack import renew_certificates
    from its_platform.stores.journal import Journal

    settings = load_settings()
    names = [*server_names(settings), *(name or [])]
    with Journal(settings).step("certificate.renewed", str(settings.certificates), names=names, days=days):
        told = renew_certificates(settings, names, days)
    emit([{"server": part, "certificate": what} for part, what in told.items()], json)


@app.command()
def client(
    name: Annotated[str, typer.Argument(help="Who it is for; its common name.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for its three files.")] = Path(),
    days: DaysOption = DAYS,
    json: JsonFlag = False,
) -> None:
    """Make a certificate for a live system, which may then ask for detections and change nothing."""
    from its_platform.certificates import make_client
    from its_platform.stores.journal import Journal

    settings = load_settings()
    with Journal(settings).step("certificate.issued", name, days=days):
        files = make_client(settings.certificates, name, out, days)
    emit([{"file": path} for path in files], json)


@app.command()
def show(json: JsonFlag = False) -> None:
    """The certificates of this home, and how long they are valid."""
    from its_platform.certificates import read_certificates

    emit(read_certificates(load_settings().certificates), json)
