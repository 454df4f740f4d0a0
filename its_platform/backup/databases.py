"""The three databases by PostgreSQL's own programs, as streams: nothing of them lies on a disk of ours on the way.

How a database is found and with what password is told by the environment, which only this user can read.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import sqlalchemy as sa

from its_platform.errors import BadInput, ServerUnavailable
from its_platform.settings import Settings
from its_platform.stores.database import (
    Database,
    client_environment,
    create_database,
    database_names,
    database_url,
)
from its_platform.stores.postgres import client_program

PIECE = 1024 * 1024


def tables_step(settings: Settings) -> str:
    """The newest migration that the database `its` has seen."""
    with Database(settings).session() as session:
        return str(max(session.execute(sa.text("SELECT version_num FROM alembic_version")).scalars(), default=""))


def dump(settings: Settings, name: str) -> Iterator[bytes]:
    """One database in PostgreSQL's own format, as of one moment. Raises `ServerUnavailable` where that fails."""
    words = [str(client_program(settings, "pg_dump")), "--format=custom", "--no-owner", "--no-privileges"]
    with tempfile.TemporaryFile("w+") as said:
        process = _start(words, settings, name, stdout=subprocess.PIPE, stderr=said)
        assert process.stdout is not None
        try:
            while piece := process.stdout.read(PIECE):
                yield piece
            _check(process.wait(), "pg_dump", name, said)
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def check_empty(settings: Settings, name: str) -> None:
    """Raises `BadInput` where there is a database of this name with tables in it."""
    if name not in database_names(settings):
        return
    engine = sa.create_engine(database_url(settings, name), poolclass=sa.NullPool)
    with engine.connect() as connection:
        if sa.inspect(connection).get_table_names():
            raise BadInput(f"The database {name} has tables already.", "Drop it, or name another server.")


def load(settings: Settings, name: str, content: Iterable[bytes]) -> None:
    """Make a database of a dump, whole or not at all. Raises `BadInput` where it holds tables already."""
    check_empty(settings, name)
    create_database(settings, name)
    words = [str(client_program(settings, "pg_restore")), "--no-owner", "--no-privileges", "--single-transaction"]
    words += ["--exit-on-error", f"--dbname={client_environment(settings, name)['PGDATABASE']}"]
    with tempfile.TemporaryFile("w+") as said:
        process = _start(words, settings, name, stdin=subprocess.PIPE, stdout=said, stderr=said)
        assert process.stdin is not None
        try:
            # One that ends early says why itself.
            with suppress(BrokenPipeError):
                for piece in content:
                    process.stdin.write(piece)
                process.stdin.close()
            _check(process.wait(), "pg_restore", name, said)
        finally:
            process.kill()
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()


def move_paths(settings: Settings, name: str, old: Path, new: Path) -> int:
    """Have what begins with one folder begin with another, as a path or as an address of a file; how many values.

    MLflow writes whole addresses down, a drift report the path of its page.
    """
    engine = sa.create_engine(database_url(settings, name), poolclass=sa.NullPool)
    columns = sa.text(
        "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables"
        " USING (table_schema, table_name) WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        " AND data_type IN ('text', 'character varying')"
        # What the audit trail says was so at the time.
        " AND table_name <> 'audit'"
    )
    quoted, moved = engine.dialect.identifier_preparer.quote_identifier, 0
    with engine.begin() as connection:
        for row in connection.execute(columns).all():
            t, c = quoted(str(row[0])), quoted(str(row[1]))
            change = sa.text(f"UPDATE {t} SET {c} = :new || substr({c}, length(:old) + 1) WHERE starts_with({c}, :old)")
            for before, after in ((f"{old}/", f"{new}/"), (f"{old.as_uri()}/", f"{new.as_uri()}/")):
                moved += connection.execute(change, {"old": before, "new": after}).rowcount
    return moved


def _start(
    words: list[str], settings: Settings, name: str, stdin: int = subprocess.DEVNULL, **streams: int | IO[str]
) -> subprocess.Popen[bytes]:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **client_environment(settings, name)}
    try:
        return subprocess.Popen(words, env=environment, stdin=stdin, **streams)  # type: ignore[call-overload]
    except OSError as error:
        raise BadInput(f"{words[0]} cannot be run: {error.strerror}.", "Install PostgreSQL's client.") from error


def _check(code: int, program: str, name: str, said: IO[str]) -> None:
    if code == 0:
        return
    said.seek(0)
    lines = [line.strip() for line in said.read().splitlines() if line.strip()]
    told = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no word from it")
    raise ServerUnavailable(f"{program} of the database {name} failed: {told}", "`its doctor` looks at the server.")
