"""Dataset versions that exist: their names, figures and manifests.

Rows of the database say which versions there are; the bytes come from the data repository, are checked against the
version's digest and cached under it. Making a version is `build`'s work.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import select

from its_platform.dataset.manifest import CARD, MANIFEST, digest_of, read_manifest
from its_platform.errors import NotFound, PermanentError
from its_platform.stores import Stores
from its_platform.stores import versions as repository
from its_platform.stores.schema import DatasetVersionRow


class DatasetDamaged(PermanentError):
    """The bytes of a version are not those that its digest names."""


@dataclass(frozen=True)
class DatasetVersion:
    """One immutable version. `counts`, `boxes`: frames and boxes by split; `golden`: number of its golden set.

    is_new: whether the call that gave this value made it.
    """

    name: str
    digest: str
    classes: tuple[str, ...]
    counts: dict[str, int]
    boxes: dict[str, int]
    golden: int | None
    previous: str | None
    commit: str | None = None
    created_at: datetime | None = None
    request: dict[str, Any] = field(default_factory=dict)
    is_new: bool = field(default=False, compare=False)

    @property
    def number(self) -> int:
        return number_of(self.name)


def number_of(name: str) -> int:
    """3 for `v3`. Raises `NotFound` for a name that no version can have."""
    if not name.startswith("v") or not name[1:].isdigit():
        raise NotFound(f"No dataset version is called {name!r}.", "`its dataset list` shows them.")
    return int(name[1:])


def from_row(row: DatasetVersionRow) -> DatasetVersion:
    return DatasetVersion(
        name=row.name,
        digest=row.digest,
        classes=tuple(row.classes),
        counts=dict(row.counts),
        boxes=dict(row.boxes),
        golden=row.golden,
        previous=row.previous,
        commit=row.commit,
        created_at=row.created_at,
        request=dict(row.request),
    )


def list_versions(stores: Stores) -> list[DatasetVersion]:
    """Every version, oldest first."""
    with stores.database.session() as session:
        found = [from_row(row) for row in session.scalars(select(DatasetVersionRow))]
    return sorted(found, key=lambda one: one.number)


def latest(stores: Stores) -> DatasetVersion | None:
    """The newest version, None before the first."""
    found = list_versions(stores)
    return found[-1] if found else None


def version(stores: Stores, name: str) -> DatasetVersion:
    """The version of this name. Raises `NotFound`."""
    with stores.database.session() as session:
        row = session.get(DatasetVersionRow, name)
        if row is None:
            raise NotFound(f"There is no dataset version {name!r}.", "`its dataset list` shows them.")
        return from_row(row)


def load_manifest(stores: Stores, name: str) -> pd.DataFrame:
    """One row a frame: frame_hash, object_key, camera_id, captured_at, sequence, split (train, val, test, golden),
    light, weather, slice, block, width, height, may_judge, golden_since, boxes (list of dictionaries).

    Raises `NotFound`, and `DatasetDamaged` when the repository's bytes are not the version's.
    """
    return read_manifest(version_bytes(stores, version(stores, name))[MANIFEST])


def version_bytes(stores: Stores, wanted: DatasetVersion) -> dict[str, bytes]:
    """The version's files by name, from the cache or from the data repository."""
    folder = cache_folder(stores, wanted.digest)
    for is_second_try in (False, True):
        if not (folder / MANIFEST).is_file():
            _fetch(stores, wanted, folder)
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
        if MANIFEST in files and digest_of(files[MANIFEST], wanted.classes) == wanted.digest:
            return files
        if not is_second_try:
            shutil.rmtree(folder, ignore_errors=True)
    raise DatasetDamaged(
        f"The manifest of {wanted.name} does not have the digest {wanted.digest[:12]}.",
        "Restore the data repository from its remote.",
    )


def cache_folder(stores: Stores, digest: str) -> Path:
    return stores.settings.home / "cache" / "datasets" / digest


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put files into a folder that appears whole or not at all; one that is there already stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    for name, data in files.items():
        (unfinished / name).write_bytes(data)
    publish(unfinished, folder)


def publish(unfinished: Path, folder: Path) -> None:
    """Rename a finished folder into place; another writer of the same content may have been first."""
    unfinished.chmod(0o755)
    try:
        os.rename(unfinished, folder)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not folder.is_dir():
            raise


def _fetch(stores: Stores, wanted: DatasetVersion, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".checkout-", dir=folder.parent) as place:
        target = Path(place) / "version"
        repository.checkout(stores.settings, wanted.name, target)
        files = {path.name: path.read_bytes() for path in target.rglob("*") if path.name in (MANIFEST, CARD)}
    if MANIFEST not in files:
        raise DatasetDamaged(f"{wanted.name} has no manifest in the data repository.", "Restore it from its remote.")
    write_folder(folder, files)
