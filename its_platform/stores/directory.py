"""Objects as files below a folder."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from its_platform.errors import NotFound
from its_platform.stores.object_store import ABANDONED_S, check_key, no_room

UNFINISHED = ".unfinished"
"""Half-written objects lie apart, so that what a killed writer left is found without walking over all the others."""


def file_stamp(path: Path) -> str:
    """A word that changes when the file is written anew. Raises `FileNotFoundError`."""
    found = path.stat()
    return f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"


class DirectoryStore:
    """Objects as files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where the object lies, for readers that want a file rather than bytes."""
        return self.folder / check_key(key)

    def put(self, key: str, data: bytes) -> None:
        """Raises `StorageFull`; the object is then as it was."""
        path = self.path(key)
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return
        unfinished = self.folder / UNFINISHED / uuid.uuid4().hex
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.parent.mkdir(exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(data)
                file.flush()
                os.fdatasync(file.fileno())
            unfinished.replace(path)
        except OSError as error:
            if (full := no_room(self.folder, error)) is not None:
                raise full from error
            raise
        finally:
            unfinished.unlink(missing_ok=True)

    def sweep(self) -> int:
        """Remove what writers that were killed left half-written; how many there were."""
        removed = 0
        for left in (self.folder / UNFINISHED).glob("*"):
            # By either sign of the difference: the clock may have been set since.
            if abs(time.time() - left.stat().st_mtime) > ABANDONED_S:
                left.unlink(missing_ok=True)
                removed += 1
        return removed

    def get(self, key: str) -> bytes:
        try:
            return self.path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFound(f"There is no object {key}.") from error

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def list(self, prefix: str = "") -> Iterator[str]:
        top = self.folder / prefix.rpartition("/")[0]
        keys = (
            path.relative_to(self.folder).as_posix()
            for path in top.rglob("*")
            if path.parent.name != UNFINISHED and path.is_file()
        )
        yield from sorted(key for key in keys if key.startswith(prefix))

    def delete(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def erase(self, key: str) -> None:
        """Delete it so that nothing of it can be had again."""
        self.delete(key)

    def stamps(self) -> Iterator[tuple[str, str]]:
        """Each key with a word that changes when the object does, without reading it."""
        for key in self.list():
            try:
                yield key, file_stamp(self.path(key))
            except FileNotFoundError:
                continue
