"""Files that must never be there half, nor for a moment with more rights than they end with: keys and passwords."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_file(path: Path, content: bytes, is_secret: bool = False) -> None:
    """Write a file in one go, readable by its owner alone where it is secret.

    It is there, whole and under its name, when this returns, also after the power went: what a new key seals may lie on
    another machine by then.
    """
    partial = path.with_name(f".{path.name}.part")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if is_secret else 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names of what lies in a folder on the disk, where its file system has a way to ask for that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # A share of Windows has none.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def password(path: Path) -> str:
    """The password in a file, drawn at random when it is first asked for."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone(path.with_name(".lock")):
            if not path.exists():
                write_file(path, secrets.token_urlsafe(32).encode(), is_secret=True)
    return path.read_text(encoding="utf-8")


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Be the only one, over all processes; the lock goes with the process that holds it."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
