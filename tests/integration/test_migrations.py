"""The steps of the tables: each leads up and back down, and two processes that take them at once do no harm."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy.engine import make_url

from its_platform.errors import BadInput
from its_platform.settings import Settings
from its_platform.stores import Stores
from its_platform.stores.database import MIGRATIONS, create_database, database_url, migrate
from its_platform.stores.schema import Base

STEPS = sorted(path.name[:4] for path in MIGRATIONS.glob("versions/[0-9]*.py"))
# All that a step could leave behind: columns, constraints, indexes, triggers and functions.
STATE = """
    SELECT 'column', c.table_name, c.column_name,
           concat_ws(' ', c.data_type, c.is_nullable, c.column_default, c.identity_generation)
      FROM information_schema.columns c WHERE c.table_schema = 'public'
    UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'sequence', sequence_name, data_type, '' FROM information_schema.sequences
      WHERE sequence_schema = 'public'
    UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) || tgenabled::text
      FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'function', proname, '', pg_get_functiondef(oid) FROM pg_proc
      WHERE pronamespace = 'public'::regnamespace
    ORDER BY 1, 2, 3, 4
"""


@pytest.fixture
def empty(stores: Stores) -> Iterator[Settings]:
    """A database `its` in which no step was ever taken."""
    address = make_url(stores.settings.database_url or "")
    other = address.set(database=f"{address.database}e").render_as_string(hide_password=False)
    own = stores.settings.model_copy(update={"database_url": other})
    create_database(own, "its")
    yield own
    server = sa.create_engine(database_url(stores.settings, "postgres"), poolclass=sa.NullPool)
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f'DROP DATABASE "{address.database}e_its" WITH (FORCE)'))


@pytest.fixture
def engine(empty: Settings) -> sa.Engine:
    return sa.create_engine(database_url(empty, "its"), poolclass=sa.NullPool)


def step_to(engine: sa.Engine, step: str, is_up: bool = True) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.upgrade if is_up else command.downgrade)(config, step)


def state(engine: sa.Engine) -> list[Any]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(STATE)).all()]


def differences(engine: sa.Engine) -> list[Any]:
    with engine.connect() as connection:
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)


def test_each_step_back_leaves_what_was_there_before_it(engine: sa.Engine) -> None:
    step_to(engine, STEPS[0])
    step_to(engine, "base", is_up=False)
    states = [state(engine)]
    assert {row[1] for row in states[0]} == {"alembic_version"}
    for step in STEPS:
        step_to(engine, step)
        states.append(state(engine))
        assert states[-1] != states[-2]
    assert differences(engine) == []
    for number, step in reversed(list(enumerate(["base", *STEPS[:-1]]))):
        step_to(engine, step, is_up=False)
        assert state(engine) == states[number]
    step_to(engine, "head")
    assert state(engine) == states[-1]


def test_a_step_that_fails_leaves_nothing(engine: sa.Engine) -> None:
    step_to(engine, STEPS[-2])
    before = state(engine)
    with engine.begin() as connection:
        # In the way of the last thing that the step makes.
        connection.execute(sa.text("CREATE FUNCTION refuse_change_of_audit() RETURNS int LANGUAGE sql AS 'SELECT 1'"))
    with pytest.raises(sa.exc.ProgrammingError, match="refuse_change_of_audit"):
        migrate(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP FUNCTION refuse_change_of_audit()"))
    assert state(engine) == before
    migrate(engine)
    assert differences(engine) == []


def test_tables_of_a_newer_version_are_told_and_left_alone(empty: Settings, engine: sa.Engine) -> None:
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    before = state(engine)
    with pytest.raises(BadInput, match=f"of step 9999, .* knows {STEPS[-1]}"):
        migrate(engine)
    assert state(engine) == before


def test_processes_that_migrate_at_once_leave_the_tables_of_one(empty: Settings, engine: sa.Engine) -> None:
    program = (
        "from its_platform.settings import load_settings; from its_platform.stores.database import Database, migrate;"
        "input(); migrate(Database(load_settings()).engine)"
    )
    environment = {**os.environ, "ITS_DATABASE_URL": str(empty.database_url)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    # Each waits for its line behind the imports, so that they begin together.
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert differences(engine) == []
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all() == [STEPS[-1]]
