"""Log rows on their way to disk: JSON-lines files that a reader sees only when they are complete.

Rows are appended to `<kind>-<uuid>.jsonl.part`, and the file is renamed to `.jsonl` once it is old enough. A
`.part` whose writer died is finished by the next one; a writer holds a lock on its file, so that nobody takes a living
one's. Rows that could not be kept are counted in `lost.json`. What a row holds does not belong here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

# Nobody collecting must not fill the disk: at one file a second from each instance this is hours of rows.
MOST_FILES = 20_000
COUNT_FILES_EVERY_S = 10.0


class Spool:
    """The files of one writer. Not safe for several threads. kind: what a row is, the beginning of the files' names."""

    def __init__(self, folder: Path, flush_s: float, kind: str = "predictions") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._kind = kind
        self._flush_s = flush_s
        self._file: FileIO | None = None
        self._path = folder
        self._opened_at = 0.0
        self._rows = 0
        self._counted_at = float("-inf")
        self._is_full = False
        self.lost: Counter[str] = Counter()

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Write rows. Those that cannot be written are counted as lost, never raised."""
        if not rows:
            return
        try:
            if self._has_no_room():
                self.lost["spool is full"] += len(rows)
                return
            if self._file is None:
                self._open()
            assert self._file is not None
            content = "".join(json.dumps(row, allow_nan=False, default=str) + "\n" for row in rows).encode()
            taken = self._file.write(content)
            if taken < len(content):
                # A disk that fills up takes a part; a reader finds whole rows.
                self._file.truncate(self._file.seek(0, os.SEEK_END) - taken)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._rows += len(rows)
        except (OSError, ValueError) as error:
            self.lost[type(error).__name__] += len(rows)

    def flush(self, is_last: bool = False) -> None:
        """Hand over the file that is written, if it is older than the flush interval or the last one."""
        if self._file is not None and (is_last or time.monotonic() - self._opened_at >= self._flush_s):
            try:
                os.fsync(self._file.fileno())
                self._path.rename(self._path.with_suffix(""))
            except OSError as error:
                self.lost[type(error).__name__] += self._rows
            self._file.close()
            self._file, self._rows = None, 0
        if self.lost:
            # On a full disk; counted again with the next.
            with contextlib.suppress(OSError):
                _count_lost(self._folder, self.lost)
                self.lost.clear()

    def adopt_orphans(self) -> int:
        """Finish the files of writers that died: complete rows are kept, half a last row is dropped."""
        adopted = 0
        for path in self._folder.glob(f"{self._kind}-*.jsonl.part"):
            if path == self._path:
                continue
            try:
                with path.open("r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    content = file.read()
                    end = content.rfind(b"\n") + 1
                    if end == 0:
                        path.unlink()
                        continue
                    file.truncate(end)
                    path.rename(path.with_suffix(""))
                    adopted += 1
            except OSError:
                # Its writer lives, another has finished it, or the disk is full and it has to wait.
                continue
        return adopted

    def _open(self) -> None:
        name = f"{self._kind}-{uuid.uuid4().hex}.jsonl.part"
        # Named only once it is locked: before, another writer would take it for a dead one's.
        unlocked = self._folder / f".{name}"
        # Without a buffer: what a full disk did not take is lost now, and not written later either.
        file = unlocked.open("ab", buffering=0)
        fcntl.flock(file, fcntl.LOCK_EX)
        self._path = unlocked.rename(self._folder / name)
        self._file, self._opened_at = file, time.monotonic()

    def _has_no_room(self) -> bool:
        now = time.monotonic()
        if now - self._counted_at > COUNT_FILES_EVERY_S:
            self._counted_at = now
            self._is_full = sum(1 for _ in os.scandir(self._folder)) > MOST_FILES
        return self._is_full


def _count_lost(folder: Path, lost: Counter[str]) -> None:
    """Add to `lost.json`, which all writers share: `{"lost": n, "reasons": {reason: n}, "at": time}`."""
    path = folder / "lost.json"
    with (folder / ".lost.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            before = json.loads(path.read_text(encoding="utf-8"))["reasons"]
        except (OSError, ValueError, KeyError):
            before = {}
        reasons = Counter(before) + lost
        content = {"lost": reasons.total(), "reasons": dict(reasons), "at": datetime.now(UTC).isoformat()}
        # One at a time, so that a full disk is left with one of them.
        partial = folder / ".lost.part"
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(path)
