"""Everything that has to be there once before the platform's processes share it: databases, tables, bucket, experiment.

MLflow's and Dagster's first start each make dozens of tables; two processes that do it at once break each other.
`prepare` does all of it under one lock, and finds out in a moment when there is nothing to do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from its_platform.errors import BadInput, ServerUnavailable
from its_platform.private_files import write_file
from its_platform.settings import PROFILE_FILE, Settings, load_settings
from its_platform.stores.database import Database, create_database, database_url, migrate, start_postgres
from its_platform.stores.objects import DirectoryStore, S3Store, open_objects
from its_platform.stores.postgres import data_folder
from its_platform.stores.registry import Registry, prepare_mlflow
from its_platform.telemetry import Progress, no_progress, silence_tools

DAGSTER_TIMEOUT_S = 180
_MADE_WITH = ("mlflow", "dagster", "dagster-postgres")
# Embedded, the address holds no password and stands in the file; otherwise it comes from the environment.
DAGSTER_ADDRESS = "ITS_DAGSTER_DATABASE"


def prepare(settings: Settings, progress: Progress = no_progress) -> None:
    """Make what is missing: the server, three databases with their tables, the bucket, the experiment, Dagster's home.

    Safe to call from many processes at once. Raises `ServerUnavailable` naming the part that could not be made.
    """
    silence_tools()
    progress("database", 0, 4, "server")
    if settings.runs_postgres:
        start_postgres(settings)
    database = Database(settings)
    write_dagster_home(settings)
    with database.lock("prepare"):
        progress("database", 1, 4, "tables")
        migrate(database.engine)
        objects = open_objects(settings)
        if isinstance(objects, S3Store):
            objects.create_bucket()
        if isinstance(objects, DirectoryStore):
            objects.sweep()
        if not _is_prepared(settings):
            progress("database", 2, 4, "MLflow and Dagster")
            create_database(settings, "dagster")
            dagster = _start_dagster_migration(settings)
            try:
                prepare_mlflow(settings)
                Registry(settings).experiment()
                progress("database", 3, 4, "Dagster")
                _finish(settings, dagster)
            finally:
                dagster.kill()
                dagster.wait()
            _stamp(settings).parent.mkdir(parents=True, exist_ok=True)
            _stamp(settings).write_text(json.dumps(_versions()))
    progress("database", 4, 4, "ready")


def choose_profile(settings: Settings, profile: str) -> Settings:
    """Have this home work in a profile from now on; the settings as they are then.

    Raises `BadInput` where the home holds data of another one already, or a variable says otherwise.
    """
    if profile == settings.profile:
        return settings
    if (data_folder(settings) / "PG_VERSION").exists():
        raise BadInput(
            f"The home {settings.home} was begun in the {settings.profile} profile, and its data lies there.",
            f"Choose another home: ITS_HOME=.its-{profile} its up --profile {profile}.",
        )
    settings.home.mkdir(parents=True, exist_ok=True)
    write_file(settings.home / PROFILE_FILE, f"# written by `its up --profile`\nprofile: {profile}\n".encode())
    chosen = load_settings()
    if chosen.profile != profile:
        (settings.home / PROFILE_FILE).unlink()
        raise BadInput(
            f"The profile is set to {chosen.profile} elsewhere.", "Look at ITS_PROFILE and at settings.yaml."
        )
    return chosen


def dagster_home(settings: Settings) -> Path:
    """Dagster's home folder (`DAGSTER_HOME`)."""
    return settings.home.absolute() / "dagster"


def dagster_environment(settings: Settings) -> dict[str, str]:
    """What a process needs besides its own environment to work on the platform's Dagster instance."""
    return {
        "DAGSTER_HOME": str(dagster_home(settings)),
        DAGSTER_ADDRESS: database_url(settings, "dagster"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        # As workspace.yaml asks for them.
        "ITS_DAGSTER_CODE_HOST": settings.host,
        "ITS_DAGSTER_CODE_PORT": str(settings.ports.dagster_code),
    }


def write_dagster_home(settings: Settings) -> None:
    """Write `dagster.yaml`; safe beside running processes, for they see the old file or the new."""
    import yaml

    home = dagster_home(settings)
    home.mkdir(parents=True, exist_ok=True)
    is_secret = settings.profile == "services" or not settings.runs_postgres
    address = {"env": DAGSTER_ADDRESS} if is_secret else database_url(settings, "dagster")
    configuration = {
        "telemetry": {"enabled": False},
        "storage": {
            "custom": {
                "module": "its_platform.dagster_storage",
                "class": "PatientPostgresStorage",
                "config": {"postgres_url": address},
            }
        },
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": "QueuedRunCoordinator",
            # Two cores: a training and what keeps the cameras watched, not more. A second's look at the queue keeps
            # the chain of short runs short; Dagster's own choice is five.
            "config": {"max_concurrent_runs": 2, "dequeue_interval_seconds": 1},
        },
        "run_launcher": {"module": "its_platform.run_launcher", "class": "ForkingRunLauncher"},
        # A run whose process never came up or was cut off is failed and started again; one with a step that failed is
        # not, since only the step's own code knows whether trying again can help.
        "run_monitoring": {"enabled": True, "start_timeout_seconds": 180, "poll_interval_seconds": 15},
        "run_retries": {"enabled": True, "max_retries": 3, "retry_on_asset_or_op_failure": False},
        "sensors": {"use_threads": True, "num_workers": 4},
        "schedules": {"use_threads": True, "num_workers": 2},
        "local_artifact_storage": {
            "module": "dagster.core.storage.root",
            "class": "LocalArtifactStorage",
            "config": {"base_dir": str(home)},
        },
        "retention": {"sensor": {"purge_after_days": {"skipped": 1, "success": -1, "failure": 30}}},
    }
    text = "# Written at each start of the platform; change the platform's settings instead.\n"
    text += yaml.safe_dump(configuration, sort_keys=False)
    path = home / "dagster.yaml"
    if not path.is_file() or path.read_text() != text:
        unfinished = path.with_name(f".dagster.yaml-{os.getpid()}")
        unfinished.write_text(text)
        unfinished.replace(path)


def _start_dagster_migration(settings: Settings) -> subprocess.Popen[str]:
    log = settings.logs / "dagster-prepare.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "dagster", "instance", "migrate"],
            env={**os.environ, **dagster_environment(settings)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            text=True,
        )


def _finish(settings: Settings, process: subprocess.Popen[str]) -> None:
    log = settings.logs / "dagster-prepare.log"
    try:
        code = process.wait(DAGSTER_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        code = -1
    if code != 0:
        told = log.read_text(errors="replace").strip().splitlines()
        raise ServerUnavailable(
            f"Dagster's tables could not be made: {told[-1] if told else 'no word from it'}", f"Read {log}."
        )


def _is_prepared(settings: Settings) -> bool:
    """Whether these very versions of MLflow and Dagster have made their tables in these very databases."""
    try:
        if json.loads(_stamp(settings).read_text()) != _versions():
            return False
    except (OSError, ValueError):
        return False
    return all(_has_table(settings, name, "alembic_version") for name in ("mlflow", "dagster"))


def _has_table(settings: Settings, name: str, table: str) -> bool:
    engine = sa.create_engine(database_url(settings, name), poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            return sa.inspect(connection).has_table(table)
    except SQLAlchemyError:
        return False


def _stamp(settings: Settings) -> Path:
    return settings.home / "run" / "prepared.json"


def _versions() -> dict[str, str]:
    return {name: version(name) for name in _MADE_WITH}
