"""Dataset versions that exist: their names, figures and manifests.

Rows of the database say which versions there are; the bytes come from the data repository, are checked against the
version's digest and cached under it. Making a version is `build`'s work.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import select

from its_platform.dataset.manifest import CARD, MANIFEST, digest_of, read_card, read_manifest
from its_platform.errors import BadInput, NotFound, PermanentError
from its_platform.frames.erasure import told, without_erased
from its_platform.stores import Stores
from its_platform.stores import versions as repository
from its_platform.stores.keys import Owner
from its_platform.stores.object_store import ObjectDamaged
from its_platform.stores.schema import DatasetVersionRow
from its_platform.telemetry import Progress, get_log, no_progress

LOG = get_log(__name__)


class FramesErased(PermanentError):
    """Frames of a version were erased, so that it cannot be had as it was."""


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


def from_files(files: Mapping[str, bytes]) -> DatasetVersion:
    """The version that a manifest and a card describe, without any database. Raises `DatasetDamaged`."""
    try:
        card = read_card(files[CARD])
        figures = card["statistics"]
        found = DatasetVersion(
            name=card["name"],
            digest=card["digest"],
            classes=tuple(card["classes"]),
            counts=dict(figures["frames"]),
            boxes=dict(figures["boxes"]),
            golden=card["golden"],
            previous=card["previous"],
            request=dict(card["request"]),
        )
        is_whole = digest_of(files[MANIFEST], found.classes) == found.digest
    except (BadInput, KeyError, TypeError, ValueError) as error:
        raise DatasetDamaged(
            f"These are not the files of a dataset version ({type(error).__name__}: {error}).",
            "Check the version out again.",
        ) from error
    if not is_whole:
        raise DatasetDamaged(
            f"The manifest of {found.name} does not have the digest {found.digest[:12]}.",
            "Check the version out again.",
        )
    return found


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
    light, weather, slice, block, width, height, may_judge, golden_since, boxes (list of dictionaries). Frames that were
    erased are left out, and the log says which.

    Raises `NotFound`, and `DatasetDamaged` when the repository's bytes are not the version's.
    """
    kept, erased = without_erased(stores, read_manifest(version_bytes(stores, version(stores, name))[MANIFEST]))
    if erased:
        LOG.warning("is used without the frames that were erased", dataset=name, erased=told(erased))
    return kept.reset_index(drop=True)


def remaining(stores: Stores, rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The rows of a manifest, as they are stored, whose frames were not erased; by frame hash."""
    destroyed = stores.objects.keys.destroyed()
    return {
        row["frame_hash"]: row
        for row in rows
        if Owner.of(row["camera_id"], datetime.fromisoformat(row["captured_at"])) not in destroyed
    }


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


def frame_bytes(stores: Stores, object_key: str, frame_hash: str) -> bytes:
    """A frame of a manifest, known by its hash to be what was labelled. Raises `NotFound`, `DatasetDamaged`."""
    try:
        data = stores.objects.get(object_key)
    except ObjectDamaged as error:
        raise DatasetDamaged(error.message, error.hint) from error
    if hashlib.sha256(data).hexdigest() != frame_hash:
        raise DatasetDamaged(
            f"The object {object_key} is not the frame that was labelled.",
            "Restore it from a copy of the object store.",
        )
    return data


def prove_frames(stores: Stores, manifest: pd.DataFrame, progress: Progress = no_progress) -> int:
    """Read each frame of a manifest from the object store and hash it; how many.

    Raises `FramesErased` before any is read, and what `frame_bytes` raises.
    """
    if erased := without_erased(stores, manifest)[1]:
        raise FramesErased(
            f"{erased.total()} frames of this version were erased: {told(erased)}.",
            "Build a version without them: `its dataset build`.",
        )
    for done, (key, frame_hash) in enumerate(zip(manifest["object_key"], manifest["frame_hash"], strict=True), 1):
        frame_bytes(stores, key, frame_hash)
        if done % 50 == 0 or done == len(manifest):
            progress("frames", done, len(manifest))
    return len(manifest)


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


def remote_bytes(stores: Stores, name: str) -> dict[str, bytes]:
    """The version's files by name, from the remote of the data repository alone. Raises `NotFound`."""
    space = stores.settings.home / "cache" / "datasets"
    space.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".checkout-", dir=space) as place:
        target = repository.checkout(stores.settings, name, Path(place) / "version")
        return {path.name: path.read_bytes() for path in sorted(target.iterdir()) if path.is_file()}


def _fetch(stores: Stores, wanted: DatasetVersion, folder: Path) -> None:
    files = {name: data for name, data in remote_bytes(stores, wanted.name).items() if name in (MANIFEST, CARD)}
    if MANIFEST not in files:
        raise DatasetDamaged(f"{wanted.name} has no manifest in the data repository.", "Restore it from its remote.")
    write_folder(folder, files)
