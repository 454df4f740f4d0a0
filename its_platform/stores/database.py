"""The platform's rows: addresses, sessions, locks and leases on PostgreSQL.

One server holds three databases: `its` (ours), `dagster` and `mlflow`. A server of this home is started by its first
user; a set `database_url` names one that somebody else runs. The tables are in `schema.py`, the server in
`postgres.py`. Nothing connects before the first use.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from its_platform.certificates import EXPIRED_HINT, ensure_certificates, what_expired
from its_platform.errors import BadInput, LeaseHeld, ServerUnavailable
from its_platform.settings import Settings
from its_platform.stores import postgres
from its_platform.stores.postgres import start_postgres, stop_postgres

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ["Database", "create_database", "database_url", "migrate", "start_postgres", "stop_postgres"]

DatabaseName = Literal["its", "dagster", "mlflow"]
MIGRATIONS = Path(__file__).with_name("migrations")
_NO_SUCH_DATABASE = "3D000"
_STARTING_S = 60.0
_ANSWER_WITHIN_S = 3
# Where a network swallows what it is given, a question ends after a minute, and an idle connection is found to be dead.
_KEPT_ALIVE = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}

# One engine a process and address: stores are opened freely, connections are not.
_engines: dict[tuple[str, int], Engine] = {}
_engines_guard = threading.Lock()
# Those whose tables this process has looked at.
_migrated: set[tuple[str, int]] = set()
_migrated_guard = threading.Lock()


def database_url(settings: Settings, name: DatabaseName | str) -> str:
    """SQLAlchemy's address of one of the databases, with the password in it if there is one: not for logs.

    The database part of a set `database_url` is a prefix: `…/city` leads to `city_its`, `city_dagster`, `city_mlflow`,
    so that platforms can share a server; empty or `postgres` leads to the plain names.
    """
    return _address(settings, name).render_as_string(hide_password=False)


def client_environment(settings: Settings, name: DatabaseName | str) -> dict[str, str]:
    """What `pg_dump` and `pg_restore` need to find one of the databases; a command line would show its password."""
    address = _address(settings, name)
    words = {
        "host": address.host,
        "port": address.port or 5432,
        "user": address.username,
        "password": address.password,
        "database": address.database,
        **address.query,
    }
    return {f"PG{word.upper()}": str(value) for word, value in words.items() if value is not None}


def database_names(settings: Settings) -> list[DatabaseName]:
    """Those of the platform's databases that exist, in the order in which their rows name each other's."""
    known = set(_ask_server(settings, "SELECT datname FROM pg_database"))
    names: tuple[DatabaseName, ...] = ("its", "mlflow", "dagster")
    return [name for name in names if _address(settings, name).database in known]


def server_version(settings: Settings) -> int:
    """The server's major version."""
    return int(_ask_server(settings, "SHOW server_version_num")[0]) // 10000


def ask(settings: Settings) -> None:
    """Have the server answer a question right now. Starts nothing and waits for no start.

    Raises `ServerUnavailable` in words that hold no password.
    """
    # Somebody else's server may let us into no database but ours.
    address = _address(settings, "postgres" if settings.runs_postgres else "its")
    server = sa.create_engine(address, poolclass=sa.NullPool, connect_args={"connect_timeout": _ANSWER_WITHIN_S})
    with _translated(settings), server.connect() as connection:
        connection.execute(sa.text("SELECT 1"))


def _ask_server(settings: Settings, question: str) -> list[str]:
    """Of the server itself, whether or not it has a database of ours."""
    server = sa.create_engine(
        _address(settings, "postgres"), poolclass=sa.NullPool, creator=_connector(settings, "postgres")
    )
    with _translated(settings), server.connect() as connection:
        return [str(row[0]) for row in connection.execute(sa.text(question)).all()]


def _address(settings: Settings, name: str) -> URL:
    if settings.is_host:
        raise BadInput(
            "This home is a host: it serves what another home releases, and has no database.",
            "Ask where versions are released; `its serving sync` is what this one does.",
        )
    if settings.database_url is None:
        if settings.profile == "services":
            return URL.create(
                "postgresql+psycopg2",
                "postgres",
                postgres.server_password(settings),
                settings.host,
                settings.ports.postgres,
                name,
                {
                    "sslmode": "verify-full",
                    "sslrootcert": str(ensure_certificates(settings).root.absolute()),
                    **_KEPT_ALIVE,
                },
            )
        folder = str(postgres.socket_folder(settings))
        return URL.create("postgresql+psycopg2", username="postgres", database=name, query={"host": folder})
    try:
        base = make_url(settings.database_url)
    except ArgumentError as error:
        raise BadInput(
            "The address of the database cannot be read.", "It looks like postgresql+psycopg2://user@host:port/."
        ) from error
    if base.get_backend_name() != "postgresql":
        raise BadInput(f"The database is to be PostgreSQL, not {base.get_backend_name()}.", "Set ITS_DATABASE_URL.")
    # `postgres` is the server's own database, from where the others are made.
    full = name if name == "postgres" or base.database in {None, "", "postgres"} else f"{base.database}_{name}"
    # SQLAlchemy 2.1 would take the bare scheme for psycopg 3.
    return base.set(drivername="postgresql+psycopg2", database=full)


class Database:
    """Our own rows, in the database `its`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __repr__(self) -> str:
        return f"Database({_address(self.settings, 'its').render_as_string(hide_password=True)})"

    @property
    def url(self) -> str:
        return database_url(self.settings, "its")

    @property
    def engine(self) -> Engine:
        """Shared by all users of this process; made anew after a fork.

        Embedded, its first use brings the tables to this version of the code; a server of somebody else's waits for
        `its up`. Raises `ServerUnavailable`.
        """
        engine = _engine(self.settings, "its")
        if self.settings.runs_postgres:
            with _translated(self.settings):
                _migrate_once(engine)
        return engine

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction: committed at the end, rolled back when something is raised.

        Raises `ServerUnavailable` when the server is away.
        """
        with _translated(self.settings), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @asynccontextmanager
    async def async_session(self) -> AsyncIterator[AsyncSession]:
        """The same for a program that waits for many things at once; raises the same.

        Connections are pooled by event loop: what a loop ends with is `async_engines.closing`.
        """
        import asyncio

        from sqlalchemy.ext.asyncio import AsyncSession

        from its_platform.stores.async_engines import async_engine

        if self.settings.runs_postgres:
            await asyncio.to_thread(lambda: self.engine)
        words, connect = _words(self.settings, "its"), _connector(self.settings, "its")
        with _translated(self.settings):
            engine = async_engine(_address(self.settings, "its"), words, connect)
            async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
                yield session

    @contextmanager
    def lock(self, name: str, wait_s: float | None = None) -> Iterator[None]:
        """Hold an advisory lock; the server frees it when this process dies.

        wait_s: how long to wait for it; None is for ever, 0 not at all. Raises `LeaseHeld` when it was not to be had.
        """
        with (
            _translated(self.settings),
            self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        ):
            _take_lock(connection, name, wait_s)
            try:
                yield
            finally:
                connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _lock_key(name)})

    def lease(self, name: str, holder: str | None = None, seconds: float = 60.0) -> int:
        """Take or renew a lease for so long; gives its fencing number, which grows with each change of hands.

        holder: names this one process (by default it does); the same holder renews and keeps its number. Writes made
        under a lease are guarded by `check_fencing` in the same transaction. Raises `LeaseHeld`.
        """
        holder = holder or process_holder()
        statement = sa.text(
            """
            INSERT INTO leases AS held (name, holder, fencing, expires_at)
            VALUES (:name, :holder, 1, clock_timestamp() + make_interval(secs => :seconds))
            ON CONFLICT (name) DO UPDATE SET
              holder = excluded.holder,
              fencing = held.fencing + CASE WHEN held.holder = excluded.holder
                AND held.expires_at > clock_timestamp() THEN 0 ELSE 1 END,
              expires_at = excluded.expires_at
            WHERE held.expires_at <= clock_timestamp() OR held.holder = excluded.holder
            RETURNING fencing
            """
        )
        with self.session() as session:
            fencing = session.execute(
                statement, {"name": name, "holder": holder, "seconds": seconds}
            ).scalar_one_or_none()
        if fencing is None:
            raise LeaseHeld(f"Someone else holds {name} right now.", "Try again in a moment.")
        return int(fencing)

    def release_lease(self, name: str, fencing: int) -> None:
        """Give a lease back before its time; nothing happens when it has changed hands since."""
        with self.session() as session:
            session.execute(
                sa.text("UPDATE leases SET expires_at = clock_timestamp() WHERE name = :name AND fencing = :fencing"),
                {"name": name, "fencing": fencing},
            )


def check_fencing(session: Session, name: str, fencing: int) -> None:
    """Have the transaction fail with `LeaseHeld` unless the lease is still held under this number.

    The lease's row stays locked until the transaction ends, so that it cannot change hands under a write.
    """
    row = session.execute(
        sa.text("SELECT fencing, expires_at > clock_timestamp() FROM leases WHERE name = :name FOR UPDATE"),
        {"name": name},
    ).one_or_none()
    if row is None or row[0] != fencing or not row[1]:
        raise LeaseHeld(f"The lease {name} has run out or changed hands.", "What was begun under it is left undone.")


def hold_lock(session: Session, name: str) -> None:
    """Hold an advisory lock until the transaction ends; waits for whoever holds it."""
    session.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _lock_key(name)})


def process_holder() -> str:
    """A name for this process that no other has."""
    return _HOLDERS.setdefault(os.getpid(), f"{os.uname().nodename}:{os.getpid()}:{uuid.uuid4().hex[:8]}")


_HOLDERS: dict[int, str] = {}


def create_database(settings: Settings, name: DatabaseName | str, template: str | None = None) -> bool:
    """Make one of the databases unless it is there; whether it was made now."""
    address = _address(settings, name)
    server = sa.create_engine(
        _address(settings, "postgres"), poolclass=sa.NullPool, creator=_connector(settings, "postgres")
    )
    quoted = server.dialect.identifier_preparer.quote_identifier
    with _translated(settings), server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # Two processes that both find it missing: the second waits here and then finds it.
        _take_lock(connection, f"create {address.database}", None)
        known = sa.text("SELECT 1 FROM pg_database WHERE datname = :name")
        if connection.execute(known, {"name": address.database}).scalar():
            return False
        copied = f" TEMPLATE {quoted(template)}" if template else ""
        connection.execute(sa.text(f"CREATE DATABASE {quoted(str(address.database))}{copied}"))
        return True


def migrate(engine: Engine) -> None:
    """Bring the tables of `its` to this version of the code; safe to call from several processes at once.

    Raises `BadInput` where a newer version of the code has made them.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _lock_key("migrate its")})
        try:
            if (taken := max(MigrationContext.configure(connection).get_current_heads(), default="")) > newest_step():
                raise BadInput(
                    f"The tables are of step {taken}, and this version of the platform knows {newest_step()}.",
                    "Install the version that made them, or a newer one.",
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _lock_key("migrate its")})


def newest_step() -> str:
    """The newest step of the tables that this version of the code knows: they are numbered files."""
    return max(path.name for path in MIGRATIONS.glob("versions/[0-9]*.py"))[:4]


def _migrate_once(engine: Engine) -> None:
    """Migrate unless this process has already looked, or the tables are those of the newest step."""
    key = (engine.url.render_as_string(hide_password=False), os.getpid())
    with _migrated_guard:
        if key in _migrated:
            return
        with engine.connect() as connection:
            is_there = connection.execute(sa.text("SELECT to_regclass('alembic_version')")).scalar() is not None
            steps = sa.text("SELECT version_num FROM alembic_version")
            found: set[str] = set(connection.execute(steps).scalars()) if is_there else set()
            # Alembic takes a quarter of a second to import and would say the same.
            is_newest = found == {newest_step()}
        if not is_newest:
            migrate(engine)
        _migrated.add(key)


def dispose_engines() -> None:
    """Close every pooled connection of this process, as a stop of the server and the tests want it."""
    with _engines_guard:
        for engine in _engines.values():
            engine.dispose()
        _engines.clear()
    with _migrated_guard:
        _migrated.clear()


def _engine(settings: Settings, name: str) -> Engine:
    address = _address(settings, name)
    key = (address.render_as_string(hide_password=False), os.getpid())
    with _engines_guard:
        if key not in _engines:
            _engines[key] = sa.create_engine(
                address,
                creator=_connector(settings, name),
                pool_pre_ping=True,
                pool_size=4,
                max_overflow=16,
                pool_recycle=1800,
            )
        return _engines[key]


def _connector(settings: Settings, name: str) -> Callable[[], Any]:
    """How SQLAlchemy gets a connection: an embedded server that is not running is started, a missing database made."""

    def connect() -> Any:
        import psycopg2

        words = _words(settings, name)
        if settings.runs_postgres:
            start_postgres(settings)
        deadline, is_made = time.monotonic() + _STARTING_S, name == "postgres"
        while True:
            try:
                return psycopg2.connect(**words)
            except psycopg2.OperationalError as error:
                if _is_missing_database(error) and not is_made:
                    create_database(settings, name)
                    is_made = True
                elif not _is_starting(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    return connect


def _words(settings: Settings, name: str) -> dict[str, Any]:
    """What libpq is told to reach a database."""
    address = _address(settings, name)
    return {
        "connect_timeout": 10,
        **address.translate_connect_args(username="user", database="dbname"),
        **address.query,
    }


def _is_missing_database(error: Exception) -> bool:
    # libpq gives no SQLSTATE for a failed connection, only words.
    return getattr(error, "pgcode", None) == _NO_SUCH_DATABASE or "does not exist" in str(error)


def _is_starting(error: Exception) -> bool:
    """Whether the server takes connections and not yet questions: after a kill it first recovers what it had."""
    return any(words in str(error) for words in ("starting up", "in recovery mode", "not yet accepting"))


def _take_lock(connection: Connection, name: str, wait_s: float | None) -> None:
    key = {"key": _lock_key(name)}
    if wait_s is None:
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), key)
        return
    if wait_s <= 0:
        if not connection.execute(sa.text("SELECT pg_try_advisory_lock(:key)"), key).scalar():
            raise LeaseHeld(f"Someone else is at {name} right now.", "Try again in a moment.")
        return
    connection.execute(sa.text("SELECT set_config('lock_timeout', :ms, false)"), {"ms": str(int(wait_s * 1000))})
    try:
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), key)
    except OperationalError as error:
        if _state_of(error) != "55P03":
            raise
        raise LeaseHeld(f"Someone else is still at {name}.", "Try again in a moment.") from error
    finally:
        connection.execute(sa.text("SELECT set_config('lock_timeout', '0', false)"))


def _state_of(error: DBAPIError) -> str | None:
    """The SQLSTATE, as psycopg2 or psycopg 3 names it."""
    return getattr(error.orig, "pgcode", None) or getattr(error.orig, "sqlstate", None)


def _lock_key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


@contextmanager
def _translated(settings: Settings) -> Iterator[None]:
    """A server that is away, and tables that were never made, in the platform's words."""
    try:
        yield
    except OperationalError as error:
        first = str(error.orig).strip().splitlines()[0] if error.orig else "no answer"
        where = _address(settings, "its").render_as_string(hide_password=True)
        if "certificate" in first and (ended := what_expired(settings.certificates)):
            raise ServerUnavailable(f"The database at {where} is not trusted: {ended}.", EXPIRED_HINT) from error
        raise ServerUnavailable(
            f"The database at {where} does not answer: {first}", "`its doctor` says more."
        ) from error
    except ProgrammingError as error:
        if _state_of(error) == "42P01":
            raise ServerUnavailable("The database has no tables yet.", "Run `its up`, or `its doctor`.") from error
        raise
