"""The models: runs, registered versions and their aliases, in MLflow's own database.

A version comes into being in one step, after everything that belongs to it lies in its run, so that a training that is
killed leaves a run and no version. A version without the tag `complete` is nobody's: it is never listed, and `sweep`
removes it. What an alias means is decided in `release`; what is in an artefact folder, in `model`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from its_platform.contract import ImageSize, read_size, served_digest, size_text
from its_platform.errors import BadInput, NotFound, ServerUnavailable
from its_platform.settings import Settings
from its_platform.stores.database import Database, create_database, database_url, start_postgres
from its_platform.stores.semantic import Contract, next_version, versions_of
from its_platform.telemetry import silence_tools

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion
    from mlflow.tracking import MlflowClient

    # Inside `Registry`, `list` is the method.
    Versions = list[MlflowVersion]
    Runs = list["TrainingRun"]
    MlflowRuns = list[MlflowRun]

MODEL_NAME = "traffic-detector"
EXPERIMENT = "traffic-detector"
ARTEFACTS = "model"
# Says on MLflow's page where a version is; every version begins in development.
STAGE_TAG, FIRST_STAGE = "stage", "development"
_COMPLETE = "complete"
_FACTS = (
    *("digest", "dataset_version", "family", "image_size", "classes", "thresholds", "onnx_digest"),
    *("weights_digest", "semantic_version", "format", _COMPLETE),
)

_clients: dict[tuple[str, int], MlflowClient] = {}


@dataclass(frozen=True)
class VersionFacts:
    """What a trainer states about a version.

    image_size: pixels, see `contract`. thresholds: confidence by class name. tags: anything else. format: one of
    `contract.FORMATS`.
    """

    dataset_version: str
    family: str
    image_size: ImageSize
    classes: list[str]
    thresholds: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    format: str = "onnx"


@dataclass(frozen=True)
class ModelVersion:
    """A registered version. digest: sha256 over its artefact folder; onnx_digest: of what is served of it, see
    `contract.served_digest`.

    weights_digest: of `model.pt`, empty where it was registered without. semantic: computed from what changed since
    the version before it. registered_at: UTC; None only for a value that no registry gave. format: one of
    `contract.FORMATS`.
    """

    name: str
    version: int
    run_id: str
    digest: str
    dataset_version: str
    family: str
    image_size: ImageSize
    classes: list[str]
    thresholds: dict[str, float]
    onnx_digest: str
    tags: dict[str, str] = field(default_factory=dict)
    weights_digest: str = ""
    semantic: str = ""
    registered_at: datetime | None = None
    format: str = "onnx"

    @property
    def contract(self) -> Contract:
        return Contract(tuple(self.classes), self.image_size, self.family, self.dataset_version, self.weights_digest)


@dataclass(frozen=True)
class TrainingRun:
    """An MLflow run, whether or not a version came of it. Times are UTC; `ended` is None while it runs."""

    run_id: str
    name: str
    status: str
    started: datetime
    ended: datetime | None
    parameters: dict[str, str]
    tags: dict[str, str]


class Registry:
    """MLflow, as far as the platform needs it. Every failed read raises; none looks like an empty registry."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def tracking_uri(self) -> str:
        """For `mlflow.set_tracking_uri`: the database itself, without a server between. May hold a password."""
        return database_url(self.settings, "mlflow")

    @property
    def artefacts(self) -> Path:
        """Root of the artefacts of all runs."""
        return self.settings.home.absolute() / "mlartifacts"

    def client(self) -> MlflowClient:
        """MLflow's client, with the database there and its tables made."""
        if self.settings.runs_postgres:
            start_postgres(self.settings)
        key = (self.tracking_uri, os.getpid())
        if key not in _clients:
            prepare_mlflow(self.settings)
            _clients[key] = self._connect()
        return _clients[key]

    def experiment(self) -> str:
        """Id of the experiment that holds the platform's runs; made on first use."""
        from mlflow.exceptions import MlflowException

        with translated():
            client = self.client()
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                self.artefacts.mkdir(parents=True, exist_ok=True)
                try:
                    return str(client.create_experiment(EXPERIMENT, artifact_location=self.artefacts.as_uri()))
                except MlflowException:
                    # Another process was quicker; anything else fails again on this read.
                    found = client.get_experiment_by_name(EXPERIMENT)
                    if found is None:
                        raise
            return str(found.experiment_id)

    def create_version(self, run_id: str, folder: Path, facts: VersionFacts, name: str = MODEL_NAME) -> ModelVersion:
        """Log the folder as the run's artefact `model`, then register it as a new version, complete at once.

        A run has one version: asked again for the same run, that one is given back. The run is left open.
        Raises `BadInput` for an empty folder.
        """
        from mlflow.exceptions import MlflowException

        digest = folder_digest(folder)
        tags = {
            **facts.tags,
            "digest": digest,
            "dataset_version": facts.dataset_version,
            "family": facts.family,
            "image_size": size_text(facts.image_size),
            "classes": json.dumps(list(facts.classes)),
            "thresholds": json.dumps(dict(facts.thresholds)),
            "onnx_digest": served_digest(folder, facts.format),
            "weights_digest": _file_digest(folder / "model.pt"),
            "format": facts.format,
            STAGE_TAG: FIRST_STAGE,
            _COMPLETE: "true",
        }
        with translated():
            client = self.client()
            with Database(self.settings).lock(f"register {name}"):
                versions = self.list(name)
                for known in versions:
                    if known.run_id == run_id:
                        return known
                new = Contract(
                    tuple(facts.classes), facts.image_size, facts.family, facts.dataset_version, tags["weights_digest"]
                )
                tags["semantic_version"] = next_version([(one.semantic, one.contract) for one in versions], new)
                client.log_artifacts(run_id, str(folder), ARTEFACTS)
                try:
                    client.create_registered_model(name)
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                source = f"{client.get_run(run_id).info.artifact_uri}/{ARTEFACTS}"
                # The tags go in with the version's row, in one transaction.
                made = client.create_model_version(name, source=source, run_id=run_id, tags=tags)
            return self.get(name, int(made.version))

    def get(self, name: str, version: int) -> ModelVersion:
        """One version. Raises `NotFound` also for one that was never completed."""
        with translated(f"There is no version {version} of {name}."):
            found = self.client().get_model_version(name, str(version))
        if not _is_complete(found):
            raise NotFound(f"There is no version {version} of {name}.", "`its model list` shows those that exist.")
        return _read(found)

    def list(self, name: str = MODEL_NAME) -> list[ModelVersion]:
        """All complete versions, oldest first."""
        found = sorted((_read(one) for one in self._all(name) if _is_complete(one)), key=lambda one: one.version)
        # Those of before semantic versions were kept have none of their own.
        computed = versions_of([one.contract for one in found])
        return [
            one if one.semantic else replace(one, semantic=known) for one, known in zip(found, computed, strict=True)
        ]

    def runs(self) -> Runs:
        """Every run of the platform's experiment, oldest first; also those that left no version."""
        with translated():
            client, page = self.client(), None
            found: MlflowRuns = []
            # Not `experiment()`, which makes it: reading leaves everything as it was.
            experiment = client.get_experiment_by_name(EXPERIMENT)
            while experiment is not None:
                batch = client.search_runs([experiment.experiment_id], max_results=1000, page_token=page)
                found.extend(batch)
                page = batch.token
                if not page:
                    break
        runs = [
            TrainingRun(
                run_id=one.info.run_id,
                name=str(one.info.run_name),
                status=str(one.info.status),
                started=datetime.fromtimestamp(one.info.start_time / 1000, UTC),
                ended=datetime.fromtimestamp(one.info.end_time / 1000, UTC) if one.info.end_time else None,
                parameters=dict(one.data.params),
                tags=dict(one.data.tags),
            )
            for one in found
        ]
        return sorted(runs, key=lambda run: run.started)

    def aliases(self, name: str = MODEL_NAME) -> dict[str, int]:
        """Every alias and the version that it names."""
        try:
            with translated(f"There is no model {name}."):
                found = self.client().get_registered_model(name)
        except NotFound:
            return {}
        return {alias: int(version) for alias, version in found.aliases.items()}

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """The version that an alias names, or None where the alias does not exist."""
        version = self.aliases(name).get(alias)
        return None if version is None else self.get(name, version)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self.get(name, version)
        with translated():
            self.client().set_registered_model_alias(name, alias, str(version))

    def delete_alias(self, name: str, alias: str) -> None:
        """Take an alias away; nothing happens when it is not there."""
        if alias in self.aliases(name):
            with translated():
                self.client().delete_registered_model_alias(name, alias)

    def set_tag(self, name: str, version: int, key: str, value: str) -> None:
        """Tag a version. Raises `BadInput` for the tags that hold the version's facts."""
        if key in _FACTS:
            raise BadInput(f"The tag {key} holds a fact of the version and is never changed.")
        self.get(name, version)
        with translated():
            self.client().set_model_version_tag(name, str(version), key, value)

    def download(self, name: str, version: int, folder: Path) -> Path:
        """Copy a version's artefacts into `folder`, which appears complete and with the recorded digest, or not at all.

        Raises `BadInput` when what lies in the artefact store is not what was registered.
        """
        wanted = self.get(name, version)
        if folder.exists() and folder_digest(folder) == wanted.digest:
            return folder
        with translated(f"The artefacts of version {version} of {name} are gone."):
            source = self.client().get_model_version(name, str(version)).source
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
        try:
            _copy_artefacts(str(source), unfinished, self.tracking_uri)
            if folder_digest(unfinished) != wanted.digest:
                raise BadInput(
                    f"The artefacts of version {version} of {name} are not those that were registered.",
                    "Train again; the artefact store has been changed.",
                )
            if folder.exists():
                shutil.rmtree(folder)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return folder

    def sweep(self, name: str = MODEL_NAME) -> int:
        """Remove the versions that were never completed; how many there were."""
        with Database(self.settings).lock(f"register {name}"):
            left = [one for one in self._all(name) if not _is_complete(one)]
            with translated():
                for one in left:
                    self.client().delete_model_version(name, str(one.version))
        return len(left)

    def _all(self, name: str) -> Sequence[MlflowVersion]:
        with translated():
            client, page = self.client(), None
            found: Versions = []
            while True:
                batch = client.search_model_versions(f"name='{name}'", max_results=1000, page_token=page)
                found.extend(batch)
                page = batch.token
                if not page:
                    return found

    def _connect(self) -> MlflowClient:
        silence_tools()
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)


def prepare_mlflow(settings: Settings) -> None:
    """Have MLflow's database with its tables; one process at a time, and quick when they are there."""
    silence_tools()
    import logging

    create_database(settings, "mlflow")
    # MLflow writes each of its dozens of migration steps at INFO.
    for name in ("mlflow.store.db.utils", "alembic.runtime.migration"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with translated(), Database(settings).lock("prepare mlflow"):
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        artefacts = settings.home.absolute() / "mlartifacts"
        SqlAlchemyStore(database_url(settings, "mlflow"), artefacts.as_uri())


def folder_digest(folder: Path) -> str:
    """sha256 hex over the names and bytes of all files below a folder. Raises `BadInput` when there are none."""
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    if not files:
        raise BadInput(f"There are no files in {folder}.")
    whole = hashlib.sha256()
    for path in files:
        whole.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _copy_artefacts(source: str, folder: Path, tracking_uri: str) -> None:
    address = urlsplit(source)
    if address.scheme in {"", "file"}:
        if not Path(address.path).is_dir():
            raise NotFound(f"The artefacts at {address.path} are gone.", "Train again.")
        shutil.copytree(address.path, folder)
        return
    with translated(f"The artefacts at {source} are gone."):
        from mlflow.artifacts import download_artifacts

        fetched = download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=tracking_uri)
    if Path(fetched) != folder:
        for entry in Path(fetched).iterdir():
            entry.rename(folder / entry.name)
        Path(fetched).rmdir()


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _is_complete(version: MlflowVersion) -> bool:
    return version.tags.get(_COMPLETE) == "true"


def _read(found: MlflowVersion) -> ModelVersion:
    tags: Mapping[str, Any] = found.tags
    return ModelVersion(
        name=found.name,
        version=int(found.version),
        run_id=str(found.run_id),
        digest=tags["digest"],
        dataset_version=tags["dataset_version"],
        family=tags["family"],
        image_size=read_size(tags["image_size"]),
        classes=json.loads(tags["classes"]),
        thresholds=json.loads(tags["thresholds"]),
        onnx_digest=tags["onnx_digest"],
        weights_digest=tags.get("weights_digest", ""),
        semantic=tags.get("semantic_version", ""),
        tags={key: value for key, value in tags.items() if key not in _FACTS},
        registered_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        # Before there were formats, every version was ONNX.
        format=tags.get("format", "onnx"),
    )


@contextmanager
def translated(missing: str = "") -> Iterator[None]:
    """What MLflow and its database raise, in the platform's words."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        first = str(error).splitlines()[0]
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFound(missing or first) from error
        if error.error_code in {"INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS"}:
            raise BadInput(first) from error
        raise ServerUnavailable(f"MLflow does not answer: {first}", "`its doctor` says more.") from error
    except SQLAlchemyError as error:
        raise ServerUnavailable(
            f"MLflow's database does not answer: {str(error).splitlines()[0]}", "`its doctor` says more."
        ) from error
