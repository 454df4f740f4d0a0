"""The wrapped data keys of this home at the target: one mirror, which no version of a backup holds.

A key that is destroyed at home has to be gone everywhere, or what it sealed could still be read from an old backup. The
master keys that open them (`keys/master`) are never copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from its_platform.backup.target import Target, is_claimed
from its_platform.errors import BadInput, NotFound
from its_platform.settings import Settings
from its_platform.stores.database import Database
from its_platform.stores.journal import Journal
from its_platform.stores.objects import ObjectDamaged, check_key, open_keys
from its_platform.stores.schema import AuditRow

MIRROR = "keys"
# All that is copied of the folder: the name of the set of keys, the key of what belongs to no camera, one for each
# camera and day, and the marks of those that were destroyed.
COPIED = ("ring.json", "platform.json", "data/*/*.json", "destroyed/*/*.json")


def keys_folder(home: Path) -> Path:
    """Where a home's keys lie, unless its settings say otherwise."""
    return home / "keys"


def mirror_keys(settings: Settings, target: Target) -> int:
    """Have the data keys at the target be those of the home, no more and no fewer; how many there are.

    Raises `BadInput` where the target has keys that the home lacks and has not destroyed: they were lost, and the
    target has the only copy.
    """
    folder = open_keys(settings).folder
    there = {key.removeprefix(f"{MIRROR}/") for key in target.store.list(f"{MIRROR}/")}
    here = dict(_files(folder))
    gone = {name for name in there - here.keys() if not name.startswith("destroyed/")}
    if lost := sorted(name for name in gone if not _is_destroyed(folder, name)):
        raise BadInput(
            f"{folder} lacks {len(lost)} keys that {target.name} has and that were not destroyed, {lost[0]} first.",
            "Copy them back from there, or `its keys import`; those that are to be forgotten, remove there by hand.",
        )
    for name in gone:
        target.store.erase(f"{MIRROR}/{name}")
    for name, path in here.items():
        with suppress(FileNotFoundError):
            _mirror(target, f"{MIRROR}/{name}", path.read_bytes())
        # Looked at again: whoever destroys a key marks it first, and then erases what is there by now.
        if _is_destroyed(folder, name):
            target.store.erase(f"{MIRROR}/{name}")
    return sum(name.startswith("data/") for name in here)


def forget_key(settings: Settings, target: Target, camera: str, day: str) -> None:
    """Erase one data key at the target, at once, and leave the mark of its destruction there.

    Raises `BadInput` where the target is another platform's, whose key of that name is not ours to erase.
    """
    is_claimed(settings, target)
    key, mark = (check_key(f"{MIRROR}/{kind}/{camera}/{day}.json") for kind in ("data", "destroyed"))
    target.store.erase(key)
    with suppress(FileNotFoundError):
        # What was sealed by it stays in older backups; the mark says that nobody lost its key.
        target.store.put(mark, (open_keys(settings).folder / "destroyed" / camera / f"{day}.json").read_bytes())


def places_with_keys(settings: Settings) -> list[str]:
    """Names of all targets that a backup of this home was ever begun at, by the audit trail.

    Raises `ServerUnavailable` where the database cannot be asked.
    """
    Journal(settings).settle(is_asked=True)
    with Database(settings).session() as session:
        begun = sa.select(AuditRow.subject).where(AuditRow.action == "backup.created").distinct()
        return sorted(session.scalars(begun))


@dataclass(frozen=True)
class MirroredKeys:
    """The data keys at a target. numbers: by name; destroyed: names; damaged: what cannot be read, by its place."""

    numbers: dict[str, str]
    destroyed: set[str]
    damaged: dict[str, str]

    def opens(self, name: str, number: str) -> bool:
        """Whether what this key sealed can be opened after a restore, or was erased on purpose."""
        return self.numbers.get(name) == number or name in self.destroyed


def mirrored_keys(target: Target) -> MirroredKeys:
    """Read every data key at the target. That they can be unwrapped, only the master key could tell."""
    found = MirroredKeys({}, set(), {})
    for place in list(target.store.list(f"{MIRROR}/")):
        kind, _, name = place.removeprefix(f"{MIRROR}/").removesuffix(".json").partition("/")
        if kind == "destroyed":
            found.destroyed.add(name)
        elif kind != "ring":
            try:
                entry = json.loads(target.store.get(place))
                found.numbers[entry["name"]] = entry["number"]
            except NotFound:
                # Forgotten this moment.
                continue
            except (ObjectDamaged, ValueError, KeyError, TypeError):
                found.damaged[place] = "is no data key any more"
    return found


def restore_keys(home: Path, target: Target) -> int:
    """Bring the mirrored keys into a home; how many data keys. They are wrapped: the master key has to come to them."""
    count = 0
    for key in list(target.store.list(f"{MIRROR}/")):
        name = check_key(key.removeprefix(f"{MIRROR}/"))
        try:
            data = target.store.get(key)
        except NotFound:
            # Forgotten this moment.
            continue
        path = keys_folder(home) / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_bytes(data)
        path.chmod(0o600)
        count += name.startswith("data/")
    return count


def _mirror(target: Target, key: str, data: bytes) -> None:
    """Have these bytes at the target, and nothing of what lay there before."""
    try:
        if target.store.get(key) == data:
            return
        # As it was wrapped before, under a master key that was replaced for a reason.
        target.store.erase(key)
    except NotFound:
        pass
    target.store.put(key, data)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """What is copied of a folder of keys; a key whose destruction was begun and cut off is none any more."""
    for pattern in COPIED:
        for path in sorted(folder.glob(pattern)):
            name = path.relative_to(folder).as_posix()
            if not _is_destroyed(folder, name):
                yield name, path


def _is_destroyed(folder: Path, name: str) -> bool:
    """Whether the destruction of a data key was begun, or done; the platform's own key is never destroyed."""
    return name.startswith("data/") and (folder / name.replace("data/", "destroyed/", 1)).exists()
