"""Make a backup: send what the target does not have yet, then the manifest, in one moment.

One that is killed leaves blobs and no backup; the next finds them there and sends the rest.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from its_platform.backup import databases, members
from its_platform.backup.keys import mirror_keys
from its_platform.backup.members import Source
from its_platform.backup.target import Backup, BackupDamaged, Member, Target, check_apart, claim, list_backups
from its_platform.errors import LeaseHeld, NotFound
from its_platform.settings import Settings
from its_platform.stores.database import server_version
from its_platform.stores.journal import Journal
from its_platform.telemetry import Progress, get_log, no_progress

LOG = get_log(__name__)
# Requests to two servers that wait for each other most of the time.
TOGETHER = 8


@dataclass(frozen=True)
class Created:
    """A backup that was made. sent: bytes that the target did not have; keys: wrapped data keys that lie beside it."""

    backup: Backup
    sent: int
    keys: int


def create_backup(settings: Settings, target: Target, progress: Progress = no_progress) -> Created:
    """Copy everything to the target. The platform may run meanwhile; its object store and database have to.

    Raises `LeaseHeld` while another one of this home is made, `BadInput` where the target is another platform's or lies
    in the object store, `StorageFull` and `ServerUnavailable`. What was sent before stays, and need not be sent again.
    """
    check_apart(settings, target)
    with alone(settings), Journal(settings).step("backup.created", target.name, is_vital=True) as detail:
        Journal(settings).settle()
        target.prepare()
        platform = claim(settings, target)
        # Before what may fail: a key that was destroyed is to be gone now.
        mirror_keys(settings, target)
        created_at = datetime.now(UTC)
        copier = _Copier(target, _known(target))
        facts = {
            "platform": platform,
            "version": version("its-platform"),
            "profile": settings.profile,
            "home": str(settings.home.absolute()),
            "postgres": server_version(settings),
            "tables_step": databases.tables_step(settings),
            "left_out": members.portable_settings(settings)[1],
        }
        # One after another, since the rows of the first name those of the next.
        found = copier.copy("databases", members.database_sources(settings), progress, together=1)
        found += copier.copy("files", members.home_sources(settings), progress)
        found += copier.copy("tables", members.table_sources(settings), progress)
        found += copier.copy("objects", members.object_sources(settings), progress)
        found += copier.copy("data repository", members.data_sources(settings), progress)
        keys = mirror_keys(settings, target)
        facts |= {"members": len(found), "size": sum(member.size for member in found)}
        backup = target.put_backup(facts, created_at, target.put_listing(found))
        detail |= {"backup": backup.id, "members": len(found), "sent": copier.sent, "keys": keys}
        return Created(backup, copier.sent, keys)


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Be the only one that writes to the target for this home. Raises `LeaseHeld`."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "backup.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LeaseHeld("Another backup of this home is being made or pruned.", "Wait for its end.") from None
        yield


class _Copier:
    """Sends sources to a target. known: members of the last backup, which need not be read where nothing changed."""

    def __init__(self, target: Target, known: dict[str, Member]) -> None:
        self.target = target
        self.known = known
        self.sent = 0

    def copy(self, task: str, sources: Iterable[Source], progress: Progress, together: int = TOGETHER) -> list[Member]:
        progress(task, 0, None, "counting")
        waiting, found = list(sources), []
        blobs = self.target.blobs()
        progress(task, 0, len(waiting))
        with ThreadPoolExecutor(together) as pool:
            for done, result in enumerate(pool.map(lambda source: self._one(source, blobs), waiting), start=1):
                if result is not None:
                    found.append(result[0])
                    self.sent += result[1]
                progress(task, done, len(waiting), f"{self.sent / 1e6:.1f} MB sent")
        return found

    def _one(self, source: Source, blobs: set[str]) -> tuple[Member, int] | None:
        before = self.known.get(source.path)
        if before is not None and source.stamp and before.stamp == source.stamp and blobs.issuperset(before.chunks):
            return before, 0
        try:
            return self.target.put_member(source.path, source.content(), source.stamp)
        except (NotFound, FileNotFoundError):
            if source.may_vanish:
                return None
            raise


def _known(target: Target) -> dict[str, Member]:
    """The members of the newest backup whose list can be read, by path; none where there is no such backup."""
    for backup in reversed(list_backups(target)[0]):
        try:
            return {member.path: member for member in target.members(backup)}
        except BackupDamaged as error:
            LOG.warning("a backup's list of members cannot be read", backup=backup.id, reason=str(error))
    return {}
