"""The marts: load the warehouse, run dbt on it, and say what came out.

Enter the stores. Leave tables of the schema `marts` and the outcome of each test. dbt is a process of its own, with
the profile written here; everything that it writes lies in the home folder. What the marts hold is written in `dbt/`,
how rows get into the warehouse in `warehouse.py`, and what Dagster shows of a build in `assets/marts.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from its_platform.errors import PermanentError, ServerUnavailable
from its_platform.monitoring.warehouse import (
    DATABASE,
    DUCKDB_OPTIONS,
    Loaded,
    count_rows,
    load_sources,
    warehouse_file,
)
from its_platform.processes import process_environment
from its_platform.settings import REPOSITORY, Settings
from its_platform.stores import Stores

PROJECT = REPOSITORY / "dbt"
TIMEOUT_S = 1800.0
_PASSWORD = "DBT_ENV_SECRET_ITS_WAREHOUSE"


class MartsNotBuilt(PermanentError):
    """dbt could not begin: the project or the warehouse is not as it has to be."""


@dataclass(frozen=True)
class DbtBuild:
    """A build that may begin: the sources are loaded, and nobody else builds. target_path: what dbt writes."""

    argv: list[str]
    environment: dict[str, str]
    target_path: Path
    loaded: tuple[Loaded, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a model, a data test or a unit test. kind: dbt's word; status: success, pass, fail, error, ..."""

    kind: str
    name: str
    status: str
    message: str
    seconds: float

    @property
    def is_well(self) -> bool:
        return self.status in {"success", "pass", "warn", "no-op"}


@dataclass(frozen=True)
class MartsResult:
    """One build. rows: how many each mart has now, after a failure those of the build before."""

    target: str
    loaded: tuple[Loaded, ...]
    rows: dict[str, int]
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> list[Outcome]:
        return [one for one in self.outcomes if not one.is_well]


@contextmanager
def prepared_build(stores: Stores, is_anew: bool = False) -> Iterator[DbtBuild]:
    """Load the sources and say how dbt is to be called, holding the lock on the warehouse meanwhile.

    is_anew: build incremental marts from nothing. Raises what `load_sources` raises.
    """
    settings = stores.settings
    with stores.database.lock("warehouse"):
        loaded = load_sources(stores)
        argv, environment = dbt_command(settings, "build", *(["--full-refresh"] if is_anew else []))
        yield DbtBuild(argv, environment, target_path(settings), tuple(loaded))


def build_marts(stores: Stores, is_anew: bool = False) -> MartsResult:
    """Build and test every mart. Failed tests are in the result; raises `MartsNotBuilt` where dbt could not begin."""
    settings = stores.settings
    with prepared_build(stores, is_anew) as build:
        results = build.target_path / "run_results.json"
        results.unlink(missing_ok=True)
        done = run_dbt(build.argv, build.environment)
        if done.returncode not in (0, 1) or not results.is_file():
            raise not_built(done.stdout + done.stderr, settings)
        manifest = json.loads((build.target_path / "manifest.json").read_bytes())
        outcomes = [_outcome(entry, manifest) for entry in json.loads(results.read_bytes())["results"]]
        return MartsResult(settings.warehouse_target, build.loaded, mart_sizes(settings, manifest), tuple(outcomes))


def parse_project(settings: Settings) -> dict[str, Any]:
    """dbt's manifest of the project as it stands; connects to nothing."""
    argv, environment = dbt_command(settings, "parse")
    done = run_dbt(argv, environment)
    if done.returncode != 0:
        raise not_built(done.stdout + done.stderr, settings)
    manifest: dict[str, Any] = json.loads((target_path(settings) / "manifest.json").read_bytes())
    return manifest


def dbt_command(settings: Settings, *words: str) -> tuple[list[str], dict[str, str]]:
    """The words and the environment of a call of dbt, whose profile this writes."""
    profiles = _write_profile(settings)
    program = Path(sys.executable).with_name("dbt")
    if not program.is_file():
        raise ServerUnavailable(f"dbt is not installed beside {sys.executable}.", "Run `make install`.")
    argv = [str(program), *words, "--project-dir", str(PROJECT), "--profiles-dir", str(profiles)]
    extra = {
        "DBT_TARGET_PATH": str(target_path(settings)),
        "DBT_LOG_PATH": str(settings.warehouse.absolute() / "log"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    password = _postgres_address(settings).password if settings.warehouse_target == "postgres" else None
    return argv, process_environment(settings, {**extra, **({_PASSWORD: str(password)} if password else {})})


def run_dbt(argv: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run it to its end. Raises `ServerUnavailable` when it hangs."""
    try:
        return subprocess.run(
            argv, env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ServerUnavailable(
            f"dbt did not end within {TIMEOUT_S:.0f} s.", "Look at its log, and try again."
        ) from error


def target_path(settings: Settings) -> Path:
    """Folder of what dbt writes: manifest, results, compiled SQL."""
    return settings.warehouse.absolute() / "target"


def mart_sizes(settings: Settings, manifest: Mapping[str, Any]) -> dict[str, int]:
    """Rows of each mart that has been built; a table that is no mart any more is left out."""
    models = {node["name"] for node in manifest["nodes"].values() if node["resource_type"] == "model"}
    return {name: rows for name, rows in count_rows(settings, "marts").items() if name in models}


def not_built(said: str, settings: Settings) -> MartsNotBuilt:
    """The error for a call of dbt that ended early, with the line of its words that tells most."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    # Each line begins with the time of day; what follows a title `... Error` is the error itself.
    plain = [line.split("  ", 1)[-1] for line in lines]
    told = [after for line, after in pairwise(plain) if line.rstrip(":").endswith("Error")]
    first = (told or plain or ["no word from it"])[0]
    return MartsNotBuilt(
        f"dbt could not build: {first[:300]}.", f"Its log is {settings.warehouse / 'log' / 'dbt.log'}."
    )


def _outcome(entry: dict[str, Any], manifest: dict[str, Any]) -> Outcome:
    unique_id = entry["unique_id"]
    kind, name = unique_id.partition(".")[0], unique_id.rsplit(".", 1)[-1]
    node = manifest["nodes"].get(unique_id)
    return Outcome(
        kind=kind,
        name=node["name"] if node else name,
        status=str(entry["status"]),
        message=" ".join((entry.get("message") or "").split()),
        seconds=round(float(entry.get("execution_time") or 0.0), 3),
    )


def _write_profile(settings: Settings) -> Path:
    """Write dbt's profile beside the warehouse; its folder. A password stays in the environment."""
    import yaml

    folder = settings.warehouse.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    target = settings.warehouse_target
    output = _postgres_output(settings) if target == "postgres" else _duckdb_output(settings)
    text = "# Written at each build; change the platform's settings instead.\n"
    text += yaml.safe_dump({"its_marts": {"target": target, "outputs": {target: output}}}, sort_keys=False)
    path = folder / "profiles.yml"
    if not path.is_file() or path.read_text() != text:
        unfinished = path.with_name(f".profiles.yml-{os.getpid()}")
        unfinished.write_text(text)
        unfinished.replace(path)
    return folder


def _duckdb_output(settings: Settings) -> dict[str, Any]:
    return {
        "type": "duckdb",
        "path": str(warehouse_file(settings).absolute()),
        "schema": "marts",
        "threads": 2,
        "config_options": dict(DUCKDB_OPTIONS),
        "settings": {"TimeZone": "UTC"},
    }


def _postgres_output(settings: Settings) -> dict[str, Any]:
    address = _postgres_address(settings)
    return {
        "type": "postgres",
        "host": address.host or str(address.query.get("host", "localhost")),
        "port": address.port or 5432,
        "user": address.username or "postgres",
        "password": f"{{{{ env_var('{_PASSWORD}') }}}}" if address.password else "",
        "dbname": str(address.database),
        **{name: str(address.query[name]) for name in ("sslmode", "sslrootcert") if name in address.query},
        "schema": "marts",
        "threads": 2,
    }


def _postgres_address(settings: Settings) -> Any:
    from sqlalchemy.engine import make_url

    from its_platform.stores.database import database_url

    return make_url(database_url(settings, DATABASE))
