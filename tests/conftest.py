"""What every test may ask for: settings in a folder of its own, real stores on a PostgreSQL that the session shares."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from its_platform.serving.processes import free_ports
from its_platform.settings import Ports, Settings, load_settings
from its_platform.stores import Stores, open_stores
from its_platform.telemetry import silence_tools
from minio_server import running_minio
from needs import need, need_stores
from ports import free_port_range

REPOSITORY = Path(__file__).resolve().parents[1]
silence_tools()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the settings or the terminal of the person who runs it, or writes into the checkout's home."""
    for name in [name for name in os.environ if name.startswith("ITS_")]:
        if name not in {"ITS_TEST_DATA", "ITS_REQUIRE_SERVICES", "ITS_BUILD_MINIO"}:
            monkeypatch.delenv(name)
    # A worker of pytest-xdist is told the width of the terminal that it has not.
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("ITS_HOME", str(tmp_path / "home"))


@pytest.fixture
def require() -> Callable[[bool, str], None]:
    """`require(is_there, what)`: a missing server is a visible skip, and a failure where ITS_REQUIRE_SERVICES=1."""
    return need


@pytest.fixture
def settings(tmp_path: Path, _own_environment: None) -> Settings:
    """The defaults, with a home of its own and ports that are free."""
    names = list(Ports.model_fields)
    ports = Ports(**dict(zip(names, free_ports(len(names)), strict=True)))
    return load_settings(home=tmp_path / "home", ports=ports)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Address of the session's embedded PostgreSQL, holding migrated templates to copy from.

    Its folder is not one of pytest's, which another run of pytest prunes while this server still uses it.
    """
    from its_platform.stores.database import Database, database_url, dispose_engines, migrate
    from its_platform.stores.postgres import start_postgres, stop_postgres

    home = load_settings(home=Path(tempfile.mkdtemp(prefix="its-tests-")))
    start_postgres(home)
    try:
        base = database_url(home, "postgres")
        _forget_durability(base)
        migrate(Database(load_settings(home=home.home, database_url=_prefixed(base, "template"))).engine)
        dispose_engines()
        yield base
    finally:
        dispose_engines()
        stop_postgres(home)
        shutil.rmtree(home.home, ignore_errors=True)


@pytest.fixture(scope="session")
def servers() -> Iterator[Settings]:
    """Settings of a services profile whose three stores run: the system's PostgreSQL and Redis, and SeaweedFS."""
    from its_platform import processes
    from its_platform.stack import start_stack, stop_stack

    first, names = free_port_range(24), [name for name in Ports.model_fields if name != "objects_inner"]
    ports = Ports(**{name: first + n for n, name in enumerate(names)}, objects_inner=first + len(names))
    # Its path is short enough for PostgreSQL's socket.
    home = Path(tempfile.mkdtemp(prefix="its-services-"))
    settings = load_settings(home=home, profile="services", ports=ports)
    need_stores(settings)
    try:
        start_stack(settings, [])
        yield settings
    finally:
        stop_stack(settings)
        left = processes.left_behind(settings)
        shutil.rmtree(home, ignore_errors=True)
    assert left == []


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a bucket of MinIO, which Go builds once; a visible skip where Go is missing."""
    with running_minio(tmp_path_factory.mktemp("minio")) as address:
        yield address


@pytest.fixture(scope="session")
def mlflow_template(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a database with MLflow's tables in it; making them takes seconds, so it is done once."""
    from its_platform.stores.database import dispose_engines
    from its_platform.stores.registry import prepare_mlflow

    address = _prefixed(postgres_server, "template")
    prepare_mlflow(load_settings(home=tmp_path_factory.mktemp("mlflow"), database_url=address))
    _release_mlflow()
    dispose_engines()
    return "template_mlflow"


@pytest.fixture
def stores(settings: Settings, postgres_server: str) -> Iterator[Stores]:
    """Real stores with fresh databases. MLflow's tables are made when first asked for; `registry` has them quicker."""
    from its_platform.stores.database import create_database, dispose_engines

    own = settings.model_copy(update={"database_url": _prefixed(postgres_server, f"t{uuid.uuid4().hex[:10]}")})
    create_database(own, "its", template="template_its")
    yield open_stores(own)
    dispose_engines()
    _release_mlflow()
    _drop_databases(postgres_server, own)


@pytest.fixture
def registry(stores: Stores, mlflow_template: str) -> object:
    """The registry of `stores`, with MLflow's tables copied rather than made."""
    from its_platform.stores.database import create_database

    create_database(stores.settings, "mlflow", template=mlflow_template)
    return stores.registry


@pytest.fixture(scope="session")
def make_stores(postgres_server: str, mlflow_template: str) -> Callable[[Settings], AbstractContextManager[Stores]]:
    """Real stores with a registry, for tests that share one platform: what `stores` and `registry` are to one test."""
    from its_platform.stores.database import create_database, dispose_engines

    @contextmanager
    def made(settings: Settings) -> Iterator[Stores]:
        own = settings.model_copy(update={"database_url": _prefixed(postgres_server, f"t{uuid.uuid4().hex[:10]}")})
        create_database(own, "its", template="template_its")
        create_database(own, "mlflow", template=mlflow_template)
        yield open_stores(own)
        dispose_engines()
        _release_mlflow()
        _drop_databases(postgres_server, own)

    return made


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real footage at ITS_TEST_DATA, or beside the checkout."""
    folder = Path(os.environ.get("ITS_TEST_DATA", REPOSITORY.parent / "shared" / "data")).absolute()
    if not (folder / "videos").is_dir():
        if os.environ.get("ITS_REQUIRE_SERVICES") == "1" and "ITS_TEST_DATA" in os.environ:
            pytest.fail(f"ITS_TEST_DATA={folder} holds no footage")
        pytest.skip(f"no real footage at {folder} (set ITS_TEST_DATA)")
    return folder


def _release_mlflow() -> None:
    """Close MLflow's pooled connections, which keep a database from being copied or dropped."""
    import sys

    for module in ("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"):
        if module in sys.modules:
            store = sys.modules[module].SqlAlchemyStore
            for engine in getattr(store, "_engine_map", {}).values():
                engine.dispose()


def _forget_durability(base: str) -> None:
    """Let the server answer before the disk has it: nothing in it outlives the session."""
    engine = sa.create_engine(base, poolclass=sa.NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(sa.text(f"ALTER SYSTEM SET {name} = off"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))


def _prefixed(base: str, prefix: str) -> str:
    """The server's address with a prefix for the names of its databases."""
    return make_url(base).set(database=prefix).render_as_string(hide_password=False)


def _drop_databases(base: str, settings: Settings) -> None:
    from its_platform.stores.database import database_url

    engine = sa.create_engine(base, poolclass=sa.NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for name in ("its", "dagster", "mlflow", "warehouse"):
            full = make_url(database_url(settings, name)).database
            connection.execute(sa.text(f'DROP DATABASE IF EXISTS "{full}" WITH (FORCE)'))
