"""Frames that were erased by destroying the key of their camera and day: doing so, and going on without them.

Their rows in the index stay, and so do labels and manifests that name them; their pictures cannot be opened any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from its_platform.errors import NotFound
from its_platform.frames.index import FrameIndex
from its_platform.stores.keys import KeyFolder, Owner
from its_platform.stores.object_store import ObjectDamaged

if TYPE_CHECKING:
    import pandas as pd

    from its_platform.stores import Stores

Erased = Counter[Owner]


@dataclass(frozen=True)
class Erasure:
    """What was erased. frames: rows of the index; objects: keys of their pictures."""

    owner: Owner
    frames: int
    objects: tuple[str, ...]


def erase(stores: Stores, keys: KeyFolder, owner: Owner, by: str, why: str = "") -> Erasure:
    """Destroy the key of a camera and day. Raises `NotFound` where there is none."""
    start = datetime.combine(owner.day, time(), UTC)
    rows = FrameIndex(stores).query(
        cameras=[owner.camera_id], since=start, until=start + timedelta(days=1), columns=["object_key"]
    )
    keys.destroy(owner, by, why)
    return Erasure(owner, len(rows), tuple(sorted(set(rows["object_key"]))))


def not_erased(stores: Stores, erasure: Erasure) -> list[str]:
    """Objects of an erasure that no key had sealed, and that stay; one that cannot be read may be such a one.

    Raises `ServerUnavailable`: only the store itself knows.
    """
    return [key for key in erasure.objects if _may_be_unsealed(stores, key)]


def without_erased(stores: Stores, frames: pd.DataFrame) -> tuple[pd.DataFrame, Erased]:
    """The rows whose pictures can be opened, and how many of each camera and day cannot.

    frames: rows with `camera_id` and `captured_at`, of the index or of a manifest.
    """
    destroyed = stores.objects.keys.destroyed()
    if not destroyed or frames.empty:
        return frames, Counter()
    import pandas as pd

    days = pd.to_datetime(frames["captured_at"], utc=True).dt.date
    owners = [Owner(camera, day) for camera, day in zip(frames["camera_id"], days, strict=True)]
    is_kept = [owner not in destroyed for owner in owners]
    return frames[is_kept], Counter(owner for owner in owners if owner in destroyed)


def told(erased: Erased) -> str:
    """The erased frames in words, by camera and day."""
    return ", ".join(f"{count} of {owner.camera_id} on {owner.day}" for owner, count in sorted(erased.items()))


def object_keys(stores: Stores, hashes: Iterable[str]) -> dict[str, str]:
    """Where each of these pictures can be read: one may be stored by several cameras. Raises `NotFound`."""
    wanted = list(dict.fromkeys(hashes))
    rows = FrameIndex(stores).query(hashes=wanted, columns=["frame_hash", "object_key", "camera_id", "captured_at"])
    kept, erased = without_erased(stores, rows)
    found = dict(zip(kept["frame_hash"], kept["object_key"], strict=True))
    missing = [name for name in wanted if name not in found]
    if missing:
        why = f"erased are {told(erased)}" if erased else "`its frames list` names them"
        raise NotFound(f"There is no frame {missing[0]} that can be read; {why}.")
    return found


def _may_be_unsealed(stores: Stores, key: str) -> bool:
    try:
        return not stores.objects.is_sealed(key)
    except NotFound:
        return False
    except ObjectDamaged:
        return True
