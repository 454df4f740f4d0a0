"""`its audit`: what was changed, by whom, and whether the record of it is whole."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from its_platform.cli.output import JsonFlag, emit, rows_table, say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from its_platform.stores import Stores
    from its_platform.stores.audit import Chain

app = typer.Typer(help="What was changed, by whom, and whether the record of it is whole.", no_args_is_help=True)
_COLUMNS = ("id", "at", "by", "program", "action", "subject", "outcome", "why")


@app.command("list")
def list_(
    since: Annotated[datetime | None, typer.Option(help="Only what was done from here on (UTC).")] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only what was done to this: camera, release, key, …", show_default=False)
    ] = None,
    by: Annotated[str | None, typer.Option(help="Only what this one did.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many rows.")] = 50,
    json: JsonFlag = False,
) -> None:
    """What was recorded, the latest first."""
    import asyncio

    from its_platform.cli.labels import utc
    from its_platform.stores.async_engines import closing
    from its_platform.stores.audit import read_events

    found = asyncio.run(closing(read_events(_settled().database, utc(since), kind, by, limit)))
    emit(found, json, lambda: _events_table(found))


@app.command()
def verify(
    known: Annotated[
        str | None, typer.Option(help="Number and digest of a row that you noted down: 41:9f2c…", show_default=False)
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Walk along the whole chain; ends with 1 at the first row that is not as it was written."""
    from its_platform.stores.audit import verify as walk

    noted = _read_known(known) if known is not None else None
    with _settled().database.session() as session:
        chain = walk(session, known=noted)
    emit(asdict(chain), json, lambda: _chain_table(chain))
    if chain.broken is not None:
        raise typer.Exit(1)
    if not json and chain.rows:
        say(f"Note it down elsewhere: its audit verify --known {chain.newest}:{chain.digest}")


def _settled() -> Stores:
    """The stores, with all that waited for the database in its table."""
    from its_platform.settings import load_settings
    from its_platform.stores import open_stores
    from its_platform.stores.journal import Journal

    settings = load_settings()
    Journal(settings).settle(is_asked=True)
    return open_stores(settings)


def _read_known(text: str) -> tuple[int, str]:
    from its_platform.errors import BadInput

    number, _, digest = text.partition(":")
    if not number.isdecimal() or len(digest) != 64:
        raise BadInput(f"{text!r} is no row.", "Give number and digest as `its audit verify` prints them: 41:9f2c…")
    return int(number), digest


def _events_table(found: list[dict[str, Any]]) -> RenderableType:
    colours = {"done": "", "failed": "red", "refused": "yellow", "cut_off": "red"}
    table = rows_table([{**row, "at": f"{row['at']:%Y-%m-%d %H:%M:%S}"} for row in found], _COLUMNS)
    for number, row in enumerate(found):
        table.rows[number].style = colours[row["outcome"]]
    return table


def _chain_table(chain: Chain) -> RenderableType:
    from rich.text import Text

    if chain.broken is not None:
        number, why = chain.broken
        return Text(f"Row {number}: {why}. The {chain.rows} rows looked at before it are as they were written.", "red")
    return Text(f"{chain.rows} rows, each as it was written; the newest is {chain.newest}, {chain.digest}.", "green")
