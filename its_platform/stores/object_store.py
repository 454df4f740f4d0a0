"""What every object store promises, whichever it is: its methods, which keys it takes, what it says of a full disk."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from its_platform.errors import BadInput, PermanentError, TransientError

_KEY = re.compile(r"[A-Za-z0-9_.=+@-]+(/[A-Za-z0-9_.=+@-]+)*")
# Full, over a quota, or larger than this process may write: to whoever writes it is the same.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ABANDONED_S = 3600.0
"""What a writer left half-written so long ago is nobody's any more."""


class StorageFull(TransientError):
    """There is no room for what was to be written; nothing of it was."""


def no_room(folder: Path, error: BaseException) -> StorageFull | None:
    """The error to raise when `error` says that the disk under `folder` is full; None when it says something else."""
    words = os.strerror(errno.ENOSPC)
    if getattr(error, "errno", None) not in _NO_ROOM and words not in str(error):
        return None
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    free = shutil.disk_usage(there).free / 1e6
    return StorageFull(
        f"The disk under {folder} is full: {free:.0f} MB are free; nothing that was stored is lost.",
        "Make room; what was being written is then written again.",
    )


class ObjectDamaged(PermanentError):
    """The bytes that are stored are not those that were."""


class ObjectStore(Protocol):
    """What every object store promises.

    `put` is atomic and idempotent: a reader sees the old bytes or the new, never half. `get` raises `NotFound`.
    `list` gives the keys that start with `prefix`, sorted. `delete` of a missing key does nothing.
    A server that does not answer is `ServerUnavailable`, never an empty answer.
    """

    def put(self, key: str, data: bytes) -> None: ...
    def get(self, key: str) -> bytes: ...
    def exists(self, key: str) -> bool: ...
    def list(self, prefix: str = "") -> Iterator[str]: ...
    def delete(self, key: str) -> None: ...


def check_key(key: str) -> str:
    """The key itself when it can be used. Raises `BadInput` for one that leads out of the store or is not portable."""
    if not _KEY.fullmatch(key) or any(part in {".", ".."} for part in key.split("/")) or len(key) > 900:
        raise BadInput(f"{key!r} cannot be the key of an object.", "Use a relative path of letters, digits and _.=+@-.")
    return key
