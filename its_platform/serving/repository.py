"""The model repository on disk: what Triton reads, changed only by atomic renames.

Enters: exported detectors and routes. Leaves: `models/<name>/config.pbtxt`, `models/<name>/<version>/` with the files
of the format, and `routes.json`. Triton is not told here: loading is an admin call of the client. Which version goes
where is decided by the release stage.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from its_platform.contract import FORMATS, ImageSize, files_digest, read_size, served_digest
from its_platform.errors import BadInput, NotFound
from its_platform.private_files import sync_folder
from its_platform.serving.config import (
    FRONT,
    ModelConfig,
    contract_of,
    detector_config,
    detector_name,
    front_config,
)
from its_platform.settings import REPOSITORY, Settings

if TYPE_CHECKING:
    from its_platform.stores.registry import ModelVersion

SOURCES = REPOSITORY / "triton_models"
# Both sides of a comparison must compute the same thing, so the front is given these files and has no copy of its own.
FRONT_MODULES = (
    SOURCES / FRONT / "picture.py",
    REPOSITORY / "its_platform" / "model" / "letterbox.py",
)
DESCRIPTION_FILE = "version.json"


class RepositoryError(BadInput):
    """A file that was to be served is not what it should be."""


@dataclass(frozen=True)
class Route:
    """What answers at a stage: a Triton model and its version, its classes, and their least confidences.

    Of a canary, in per cent of the blocks of camera and minute: `percent` those that it answers, `pairs_percent` those
    of which production is asked as well, so that the two can be compared.
    """

    model: str
    version: int
    image_size: ImageSize
    classes: tuple[str, ...]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    percent: float = 0.0
    pairs_percent: float = 0.0


def state_folder(settings: Settings) -> Path:
    """Everything of Triton's: models, backends, routes, spool."""
    return settings.model_repository.resolve().parent


def routes_path(settings: Settings) -> Path:
    return state_folder(settings) / "routes.json"


def cache_counts(settings: Settings) -> dict[str, int]:
    """What the front's answer cache counted since this home was made; empty where nothing was. Raises `BadInput`."""
    path = state_folder(settings) / "answer_cache.json"
    try:
        return {name: int(count) for name, count in json.loads(path.read_text(encoding="utf-8"))["counts"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} cannot be read: {error!r}.", "Remove it; the front counts anew.") from error


def prepare_repository(settings: Settings) -> Path:
    """Write the front and the backend from `triton_models`; detectors are left alone. Returns the repository.

    A file whose content is the same is not touched, because Triton reloads what has a newer time.
    """
    repository = settings.model_repository
    repository.mkdir(parents=True, exist_ok=True)
    settings.spool.mkdir(parents=True, exist_ok=True)
    front = repository / FRONT
    sources = [*sorted((SOURCES / FRONT / "1").glob("*.py")), *FRONT_MODULES]
    for source in sources:
        write_if_changed(front / "1" / source.name, source.read_bytes())
    for stale in (front / "1").glob("*.py"):
        if stale.name not in {source.name for source in sources}:
            stale.unlink()
    write_config(settings, front_config(settings.serving, settings.metrics.cameras))
    for detector in served_models(settings):
        write_config(settings, detector_config(detector, contract_of(detector).image_size, settings.serving))
    return repository


def place_version(settings: Settings, model_version: ModelVersion, exported: Path) -> Path:
    """Put a version beside the others of its model, whole or not at all. Returns its folder.

    exported: the first file of its format; what else the format has lies beside it. Raises `RepositoryError` when a
    file is not the one that was registered, or when another already stands under this number. Doing it twice changes
    nothing.
    """
    kind = FORMATS[model_version.format]
    # The first may have any name, the others go by it.
    sources = {name: exported.with_suffix(Path(name).suffix) for name in kind.files}
    digest = files_digest(list(sources.values()))
    expected = _bare(model_version.onnx_digest)
    if expected and digest != expected:
        raise RepositoryError(
            f"{exported.name} of version {model_version.version} has digest {digest[:12]}, "
            f"registered is {expected[:12]}.",
            "Export the version again, or download it from the registry.",
        )
    name = detector_name(model_version.family, model_version.image_size, kind.name)
    target = settings.model_repository / name / str(model_version.version)
    if target.exists():
        if served_digest(target, kind.name) == digest:
            return target
        raise RepositoryError(
            f"Version {model_version.version} of {name} is placed already, with another content.",
            "A version is never changed: register the export as a new one.",
        )
    # Outside of the repository, so that Triton never sees it half written, and on the same file system.
    incoming = state_folder(settings) / "incoming" / uuid.uuid4().hex
    incoming.mkdir(parents=True)
    try:
        for file, source in sources.items():
            _write_synced(incoming / file, source.read_bytes())
        description = {
            "name": model_version.name,
            "version": model_version.version,
            "run_id": model_version.run_id,
            "dataset_version": model_version.dataset_version,
            "onnx_digest": digest,
            "classes": list(model_version.classes),
            "thresholds": dict(model_version.thresholds),
            "image_size": model_version.image_size,
            "format": kind.name,
        }
        _write_synced(incoming / DESCRIPTION_FILE, json.dumps(description, indent=1).encode())
        if served_digest(incoming, kind.name) != digest:
            raise RepositoryError(f"{name} version {model_version.version} was not written whole.", "Check the disk.")
        write_config(settings, detector_config(name, model_version.image_size, settings.serving))
        incoming.rename(target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return target


def remove_version(settings: Settings, model: str, version: int) -> bool:
    """Take a version out of the repository; False when it was not there. Triton keeps it until the next load.

    Raises `RepositoryError` when a route still names it, unless it is broken and could not be loaded again anyway.
    """
    is_broken = bool(flaw_of(settings, model, version))
    for stage, route in read_routes(settings).items():
        if (route.model, route.version) == (model, version) and not is_broken:
            raise RepositoryError(
                f"Version {version} of {model} is served at {stage}.", "Route that stage to another version first."
            )
    folder = settings.model_repository / model / str(version)
    if not folder.exists():
        return False
    leaving = state_folder(settings) / "incoming" / uuid.uuid4().hex
    leaving.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(leaving)
    shutil.rmtree(leaving)
    return True


def placed_versions(settings: Settings, model: str) -> list[int]:
    """The versions of a model that lie in the repository, in order."""
    folder = settings.model_repository / model
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def flaw_of(settings: Settings, model: str, version: int) -> str:
    """What is wrong with a version's files, in words; empty for one that is whole, or not there."""
    folder = settings.model_repository / model / str(version)
    if not folder.exists():
        return ""
    try:
        kind = contract_of(model).format
        if missing := [name for name in (DESCRIPTION_FILE, *kind.files) if not (folder / name).is_file()]:
            return f"is half written: it has no {missing[0]}"
        described = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))["onnx_digest"]
        found = served_digest(folder, kind.name)
    except (OSError, ValueError, KeyError, TypeError, BadInput) as error:
        return f"cannot be read: {error!r}"
    return "" if found == _bare(described) else f"holds another {kind.file} than the one that was placed"


def broken_versions(settings: Settings) -> dict[tuple[str, int], str]:
    """The versions whose files are not whole, by model and number, and what is wrong with each.

    Triton loads nothing of a model while one of its versions is broken: what is loaded goes on, until a restart.
    """
    placed = [(model, version) for model in served_models(settings) for version in placed_versions(settings, model)]
    return {one: flaw for one in placed if (flaw := flaw_of(settings, *one))}


def served_models(settings: Settings) -> list[str]:
    """The detectors that lie in the repository with a version or more."""
    if not settings.model_repository.is_dir():
        return []
    found = sorted(entry.name for entry in settings.model_repository.iterdir() if entry.name != FRONT)
    return [name for name in found if placed_versions(settings, name)]


def route_of(model_version: ModelVersion) -> Route:
    """The route that serves a registered version."""
    return Route(
        model=detector_name(model_version.family, model_version.image_size, model_version.format),
        version=model_version.version,
        image_size=model_version.image_size,
        classes=tuple(model_version.classes),
        thresholds=dict(model_version.thresholds),
    )


def placed_route(settings: Settings, model: str, version: int) -> Route:
    """The route of a version that lies in the repository, from its description. Raises `NotFound`."""
    path = settings.model_repository / model / str(version) / DESCRIPTION_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Route(model, version, read_size(found["image_size"]), tuple(found["classes"]), dict(found["thresholds"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotFound(f"Version {version} of {model} has no description: {error!r}.", "Release it again.") from error


def write_routes(settings: Settings, routes: Mapping[str, Route]) -> None:
    """Say what each stage is answered by. The front follows within 0.2 s.

    Raises `NotFound` when a route names a version that is not placed.
    """
    for stage, route in routes.items():
        if route.version not in placed_versions(settings, route.model):
            raise NotFound(
                f"{stage} cannot be routed to {route.model} version {route.version}: it is not in the repository.",
                "Place the version first.",
            )
    content = {"stages": {stage: asdict(route) for stage, route in routes.items()}}
    _replace(routes_path(settings), json.dumps(content, indent=1).encode())


def read_routes(settings: Settings) -> dict[str, Route]:
    """The routes in force; empty when none were ever written. Raises `BadInput` when they cannot be read."""
    try:
        content = json.loads(routes_path(settings).read_text(encoding="utf-8"))
        return {
            stage: Route(
                model=str(entry["model"]),
                version=int(entry["version"]),
                image_size=read_size(entry["image_size"]),
                classes=tuple(entry["classes"]),
                thresholds={name: float(value) for name, value in entry.get("thresholds", {}).items()},
                percent=float(entry.get("percent", 0)),
                pairs_percent=float(entry.get("pairs_percent", 0)),
            )
            for stage, entry in content["stages"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{routes_path(settings)} cannot be read: {error!r}.", "Run `its release reconcile` to write it again."
        ) from error


def write_config(settings: Settings, config: ModelConfig) -> bool:
    """Write a model's `config.pbtxt`; False when it says the same already."""
    return write_if_changed(settings.model_repository / config.name / "config.pbtxt", config.text().encode())


def write_if_changed(path: Path, content: bytes) -> bool:
    """Replace a file atomically, and only when its content differs."""
    if path.is_file() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, content)
    return True


def _bare(digest: str | None) -> str:
    return (digest or "").removeprefix("sha256:")


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    _write_synced(partial, content)
    partial.replace(path)
    sync_folder(path.parent)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
