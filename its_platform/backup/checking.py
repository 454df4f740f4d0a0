"""Whether a backup is what it was, and the end of those that are not needed any more."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from its_platform.backup.creating import TOGETHER, alone
from its_platform.backup.keys import MirroredKeys, mirrored_keys
from its_platform.backup.target import BACKUPS, BLOBS, BackupDamaged, Member, Target, list_backups
from its_platform.errors import BadInput
from its_platform.settings import Settings
from its_platform.stores.journal import Journal
from its_platform.stores.sealing import sealed_by
from its_platform.telemetry import Progress, no_progress


@dataclass(frozen=True)
class Verdict:
    """What reading a backup back gave. problems: what is missing or differs, in words, by member."""

    id: str
    members: int
    size: int
    problems: dict[str, str]

    @property
    def is_whole(self) -> bool:
        return not self.problems


def verify_backup(target: Target, name: str = "latest", progress: Progress = no_progress) -> Verdict:
    """Read every byte of a backup and hash it, and look for the key of each sealed object in it.

    Raises `NotFound`, and `BackupDamaged` where its manifest is none.
    """
    backup = target.backup(name)
    members = target.members(backup)
    keys = mirrored_keys(target)
    problems = dict(keys.damaged)
    with ThreadPoolExecutor(TOGETHER) as pool:
        read = pool.map(lambda member: _problem(target, member, keys), members)
        for done, (member, problem) in enumerate(zip(members, read, strict=True), start=1):
            if problem:
                problems[member.path] = problem
            progress("reading back", done, len(members), f"{len(problems)} damaged" if problems else "")
    return Verdict(backup.id, len(members), sum(member.size for member in members), problems)


def prune_backups(settings: Settings, target: Target, keep: int, progress: Progress = no_progress) -> list[str]:
    """Remove all backups but the newest `keep`, and the blobs that none of those names; the ids of what was removed.

    Raises `BadInput` for less than one, and `BackupDamaged` where it cannot be told what a kept one needs.
    """
    if keep < 1:
        raise BadInput("At least one backup is kept.", "Give --keep 1 or more.")
    with alone(settings), Journal(settings).step("backup.pruned", target.name, keep=keep) as detail:
        found, wrong = list_backups(target)
        removed = [backup.id for backup in found[:-keep]]
        needed: set[str] = set()
        for backup in found[-keep:]:
            needed.update(backup.listing.chunks)
            try:
                needed.update(digest for member in target.members(backup) for digest in member.chunks)
            except BackupDamaged as error:
                wrong[backup.id] = error.message
        if wrong:
            name, problem = next(iter(wrong.items()))
            raise BackupDamaged(
                f"What the backup {name} needs cannot be told, so that nothing was removed: {problem}",
                f"Put what is damaged back from another copy, or give that backup up: remove {BACKUPS}/{name}.json.",
            )
        for name in removed:
            target.store.delete(f"{BACKUPS}/{name}.json")
        unneeded = [key for key in target.store.list(f"{BLOBS}/") if key.rpartition("/")[2] not in needed]
        for done, key in enumerate(unneeded, start=1):
            target.store.erase(key)
            target.blobs().discard(key.rpartition("/")[2])
            progress("pruning", done, len(unneeded))
        detail["removed"] = removed
        return removed


def _problem(target: Target, member: Member, keys: MirroredKeys) -> str:
    sealed = None
    try:
        for number, chunk in enumerate(target.read_member(member)):
            if number == 0:
                sealed = sealed_by(chunk)
    except BackupDamaged as error:
        return error.message.removeprefix(f"{member.path}: ")
    if sealed is not None and not keys.opens(*sealed):
        return f"was sealed by the key {sealed[0]} ({sealed[1]}), which is not at {target.name}"
    return ""
