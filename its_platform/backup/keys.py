"""The wrapped data keys of this home at the target: one mirror, which no version of a backup holds.

A key that is destroyed at home has to be gone everywhere, or what it sealed could still be read from an old backup. The
master key that opens them is never copied.
"""

from __future__ import annotations

from pathlib import Path

from its_platform.backup.target import Target
from its_platform.errors import BadInput, NotFound
from its_platform.settings import Settings
from its_platform.stores.objects import check_key

MIRROR = "keys/data"


def keys_folder(home: Path) -> Path:
    """Where the wrapped data keys lie, one file for each camera and day."""
    return home / "keys" / "data"


def mirror_keys(settings: Settings, target: Target) -> int:
    """Have the keys at the target be those of the home, no more and no fewer; how many there are.

    Raises `BadInput` where the home has no folder of keys and the target has keys: a folder that was lost is not one
    whose keys were destroyed.
    """
    folder = keys_folder(settings.home)
    there = {key.removeprefix(f"{MIRROR}/") for key in target.store.list(f"{MIRROR}/")}
    if not folder.is_dir():
        if there:
            raise BadInput(
                f"{folder} is missing, and {target.name} has {len(there)} keys from it.",
                "Copy them back from there; or make the empty folder, if they are to be forgotten.",
            )
        return 0
    here = {path.relative_to(folder).as_posix(): path for path in sorted(folder.glob("*/*.json"))}
    for name in there - here.keys():
        target.store.erase(f"{MIRROR}/{name}")
    for name, path in here.items():
        data = path.read_bytes()
        if name not in there or target.store.get(f"{MIRROR}/{name}") != data:
            if name in there:
                # As it was wrapped before, under a master key that was replaced for a reason.
                target.store.erase(f"{MIRROR}/{name}")
            target.store.put(f"{MIRROR}/{name}", data)
    return len(here)


def forget_key(target: Target, camera: str, day: str) -> None:
    """Erase one data key at the target, at once; nothing happens when it is not there."""
    target.store.erase(check_key(f"{MIRROR}/{camera}/{day}.json"))


def restore_keys(home: Path, target: Target) -> int:
    """Bring the mirrored keys into the home; how many. They are wrapped: the master key has to be put beside them."""
    count = 0
    for key in list(target.store.list(f"{MIRROR}/")):
        path = keys_folder(home) / check_key(key.removeprefix(f"{MIRROR}/"))
        try:
            data = target.store.get(key)
        except NotFound:
            # Forgotten this moment.
            continue
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_bytes(data)
        path.chmod(0o600)
        count += 1
    return count
