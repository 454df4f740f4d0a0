"""Steps that change no row of ours, recorded in the audit trail all the same, also while the database is away.

Enters: a step, as a block of code, on keys, certificates, backups, labels or the servers. Leaves: a row of `audit`, or,
until the database can be asked, a file in `audit/` of the home. The file is there before the step begins and says that
it was cut off; at its end a second line says how it went. So no step that had an effect is without a record, whatever
dies in between, and none has two: each event has a number of its own, under which it is entered once.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from its_platform.errors import ServerUnavailable
from its_platform.settings import Settings
from its_platform.stores.audit import Action, Event, Outcome, append, make_event, without_secrets
from its_platform.stores.database import Database
from its_platform.stores.postgres import is_running
from its_platform.telemetry import get_log

LOG = get_log(__name__)
WAITING = "audit"
"""Below the home: a file for each step that goes on or waits for the database."""


class Journal:
    """The records of one home that wait for its database."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.home.absolute() / WAITING

    @contextmanager
    def step(
        self, action: Action, subject: str | int, by: str = "", why: str = "", is_vital: bool = False, **detail: Any
    ) -> Iterator[dict[str, Any]]:
        """Record a block of code and how it ends; what it adds to the dictionary that it is given is the row's detail.

        is_vital: it is to run even where its record cannot be written, as on a full disk; the log says so then. Any
        other is not begun: raises `OSError`.
        """
        found = dict(detail)
        begun = make_event(action, subject, by, why, "cut_off", found)
        file = self._begin(begun, is_vital)
        try:
            try:
                yield found
            except BaseException as error:
                told = str(error).strip() or type(error).__name__
                _end(file, begun, "failed", {**found, "error": told})
                raise
            _end(file, begun, "done", found)
        finally:
            if file is not None:
                file.close()
            self.settle()

    def note(self, action: Action, subject: str | int, by: str = "", why: str = "", **detail: Any) -> None:
        """Record what has just been done, as a vital step: it cannot be undone for want of a record."""
        with self.step(action, subject, by, why, is_vital=True, **detail):
            pass

    def settle(self, is_asked: bool = False) -> int:
        """Enter what waits into the table; how many. A step that still goes on, anywhere, is left to its end.

        is_asked: start an embedded database for it, and raise `ServerUnavailable` where there is none; else what waits
        goes on waiting.
        """
        waiting = self._files()
        if not waiting or not (is_asked or not self.settings.runs_postgres or is_running(self.settings)):
            return 0
        try:
            return sum(self._enter(path) for path in waiting)
        except ServerUnavailable as error:
            if is_asked:
                raise
            LOG.warning("records of the audit trail wait for the database", waiting=len(waiting), reason=str(error))
            return 0

    def waiting(self) -> int:
        """How many steps have ended, and wait for the database."""
        ended = [file for path in self._files() if (file := _held(path)) is not None]
        for file in ended:
            file.close()
        return len(ended)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.jsonl"))

    def _begin(self, event: Event, is_vital: bool) -> IO[bytes] | None:
        """The file of a step, held for as long as it is open, with its first line; None where a vital one has none."""
        path = self.folder / f"{event.at:%Y%m%dT%H%M%S%f}-{event.event}.jsonl"
        file: IO[bytes] | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = _new_file(path)
            while os.fstat(file.fileno()).st_nlink == 0:
                # Another process took it for that of a step which was not begun, before it was held here.
                file.close()
                file = _new_file(path)
            _write(file, event)
            return file
        except OSError as error:
            if file is not None:
                file.close()
            if not is_vital:
                raise
            LOG.warning("a step is not recorded", action=event.action, subject=event.subject, reason=str(error))
            return None

    def _enter(self, path: Path) -> bool:
        file = _held(path)
        if file is None:
            return False
        with file:
            event = _last_event(file.read())
            # A file without a whole line is that of a step which was not begun.
            if event is not None:
                with Database(self.settings).session() as session:
                    append(session, event)
            path.unlink(missing_ok=True)
        return event is not None


def _new_file(path: Path) -> IO[bytes]:
    """A new file, held."""
    # Without a buffer: what a full disk did not take is not written later either.
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _held(path: Path) -> IO[bytes] | None:
    """The file, held; None where a step still writes to it, or another process has just entered it."""
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _end(file: IO[bytes] | None, begun: Event, outcome: Outcome, detail: Mapping[str, Any]) -> None:
    if file is None:
        return
    try:
        _write(file, replace(begun, outcome=outcome, detail=without_secrets(detail)))
    except OSError as error:
        # The step is over. Its record goes on saying that nobody knows how it ended.
        LOG.warning("the end of a step is not recorded", action=begun.action, outcome=outcome, reason=str(error))


def _write(file: IO[bytes], event: Event) -> None:
    line = json.dumps({**asdict(event), "at": event.at.isoformat()}).encode() + b"\n"
    if file.write(line) != len(line):
        # A disk that has room for a part of it takes that part and says nothing.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(file.fileno())


def _last_event(content: bytes) -> Event | None:
    """What the last whole line says."""
    whole = content.split(b"\n")[:-1]
    if not whole:
        return None
    said = json.loads(whole[-1])
    return Event(**{**said, "at": datetime.fromisoformat(said["at"])})
