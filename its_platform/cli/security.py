"""`its security`: certificates for a Triton that answers only those it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from its_platform.cli.output import JsonFlag, emit, say
from its_platform.settings import load_settings

app = typer.Typer(help="Certificates for mutual TLS with Triton.", no_args_is_help=True)
YEARS_DAYS = 825
DaysOption = Annotated[int, typer.Option(min=1, help="How long they are valid.")]


@app.command()
def certificates(
    name: Annotated[
        list[str] | None, typer.Option(help="DNS name or address that clients ask by; may be repeated.")
    ] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Replace what is there.")] = False,
    days: DaysOption = YEARS_DAYS,
    json: JsonFlag = False,
) -> None:
    """Make an authority, the server's and the platform's own certificate, and the repository's secret."""
    from its_platform.serving.certificates import make_certificates

    settings = load_settings()
    names = [settings.host, "localhost", "127.0.0.1", *(name or [])]
    files = make_certificates(settings.certificates, names, days, renew)
    emit([{"file": path} for path in files], json)
    if not json:
        where = settings.home / "settings.yaml"
        say(f"Put `security: {{triton_tls: true}}` into {where} and start Triton anew: `its down`, `its up`.")


@app.command()
def client(
    name: Annotated[str, typer.Argument(help="Who it is for; its common name.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for its three files.")] = Path(),
    days: DaysOption = YEARS_DAYS,
    json: JsonFlag = False,
) -> None:
    """Make a certificate for a live system, which may then ask for detections and change nothing."""
    from its_platform.serving.certificates import make_client

    files = make_client(load_settings().certificates, name, out, days)
    emit([{"file": path} for path in files], json)
