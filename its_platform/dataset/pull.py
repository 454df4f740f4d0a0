"""Dataset versions of another machine: from the remote of the data repository into this machine's records.

Enters: the remote and the object store. Leaves: rows of the database, as the build on the other machine wrote them,
with every frame read and hashed. Making a version is `build`'s work; nothing here changes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from its_platform.dataset import golden as golden_sets
from its_platform.dataset.golden import GoldenSet
from its_platform.dataset.manifest import CARD, MANIFEST, digest_of, manifest_bytes, read_card, read_manifest, read_rows
from its_platform.dataset.versions import (
    DatasetVersion,
    cache_folder,
    from_files,
    list_versions,
    prove_frames,
    remote_bytes,
    version_bytes,
    write_folder,
)
from its_platform.frames.erasure import without_erased
from its_platform.stores import Stores
from its_platform.stores import versions as repository
from its_platform.stores.audit import record
from its_platform.stores.schema import DatasetVersionRow
from its_platform.telemetry import Progress, no_progress


@dataclass(frozen=True)
class Pulled:
    """What a pull brought: the names that are new here, and how many frames were read and found whole."""

    new: tuple[str, ...]
    frames_proved: int


def pull_versions(stores: Stores, progress: Progress = no_progress) -> Pulled:
    """Record every version of the remote that is not known here, oldest first.

    Raises `NotFound` where nothing was pushed or a frame is missing, `DatasetDamaged` where a version or a frame is not
    what its digest names, `DataRepositoryBroken` where the remote has another version under a name that is taken here.
    What was recorded before that stays.
    """
    with stores.database.lock("dataset"):
        known = {one.name: one for one in list_versions(stores)}
        new: list[str] = []
        frames = 0
        for name in repository.fetch(stores.settings):
            # A tag never moves, and `fetch` refuses one that did: what is recorded here is what the remote has.
            files = version_bytes(stores, known[name]) if name in known else remote_bytes(stores, name)
            wanted = from_files(files)
            # The frames first: a version that is recorded can be trained on.
            frames += prove_frames(stores, without_erased(stores, read_manifest(files[MANIFEST]))[0], progress)
            if name not in known:
                write_folder(cache_folder(stores, wanted.digest), files)
                _record(stores, wanted, files)
                new.append(name)
        return Pulled(tuple(new), frames)


def _record(stores: Stores, wanted: DatasetVersion, files: dict[str, bytes]) -> None:
    with stores.database.session() as session:
        session.add(
            DatasetVersionRow(
                name=wanted.name,
                digest=wanted.digest,
                classes=list(wanted.classes),
                counts=wanted.counts,
                boxes=wanted.boxes,
                golden=wanted.golden,
                previous=wanted.previous,
                request=wanted.request,
                commit=repository.commit_of(stores.settings, wanted.name),
            )
        )
        if wanted.golden is not None and all(one.number != wanted.golden for one in golden_sets.golden_sets(stores)):
            _record_golden(session, wanted, wanted.golden, read_card(files[CARD]), files[MANIFEST])
        record(session, "dataset.pulled", wanted.name, detail={"digest": wanted.digest})


def _record_golden(
    session: Session, wanted: DatasetVersion, number: int, card: dict[str, Any], manifest: bytes
) -> None:
    """Versions come oldest first, so the first that holds a golden set is the one that made it."""
    own = manifest_bytes(row for row in read_rows(manifest) if row["split"] == "golden")
    slices = tuple(card["golden_slices"])
    golden_sets.add_golden(
        session, GoldenSet(number, wanted.name, digest_of(own, wanted.classes), wanted.classes, slices)
    )
