"""Bring a backup back into an empty home, here or on another machine, at this or another path.

Everything is made in `.restoring` inside the home, checked while it is written, and moved into place at the end: a
restore that is killed leaves a home in which there is nothing yet, and the next one begins again. Killed in the moment
of that move it leaves a part of it, which the next one refuses as data.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from its_platform.backup import databases
from its_platform.backup.creating import TOGETHER
from its_platform.backup.keys import restore_keys
from its_platform.backup.members import DATA, DATABASE, HOME, OBJECTS, SETTINGS
from its_platform.backup.target import PLATFORM, Backup, BackupDamaged, Member, Target
from its_platform.errors import BadInput
from its_platform.private_files import write_file
from its_platform.settings import Settings, load_settings
from its_platform.stack import start_stores, stop_stack
from its_platform.stores import versions
from its_platform.stores.database import dispose_engines, newest_step, server_version
from its_platform.stores.journal import WAITING, Journal
from its_platform.stores.objects import S3Store, no_room, open_plain
from its_platform.telemetry import Progress, no_progress

SPACE = ".restoring"
# What may lie in a home that is empty otherwise: the master key, which no backup holds.
KEYS, MASTER = "keys", "master"
# Of the servers that were up for the restore alone.
_PASSING = ("run", "log", "stack.lock", "postgres.lock", "data.lock", "dvc-site")


@dataclass(frozen=True)
class Restored:
    """What was brought back. moved_paths: values in the databases that named the old home; left_out: settings to set
    again; keys: wrapped data keys, which the master key opens."""

    backup: Backup
    home: Path
    members: int
    versions: int
    moved_paths: int
    keys: int
    left_out: tuple[str, ...]


def restore_backup(target: Target, name: str, home: Path, progress: Progress = no_progress) -> Restored:
    """Restore a backup into a home that has no data, which then waits for `its up`.

    Raises `NotFound`, `BackupDamaged` before anything is written where a blob is missing and while it is where one
    differs, `BadInput` for a home with data or a backup of a newer version of the platform, `StorageFull`.
    """
    backup = target.backup(name)
    _check_versions(backup)
    home = home.absolute()
    _check_empty(home)
    members = target.members(backup)
    _check_there(target, members)
    space = home / SPACE
    _clear(space)
    try:
        space.mkdir(parents=True)
        with _home_at(space) as begin:
            restored = _fill(target, backup, members, begin, home, progress)
        for passing in _PASSING:
            _remove(space / passing)
        _move(space, home)
        with _home_at(home):
            Journal(load_settings()).note(
                "backup.restored",
                backup.id,
                origin=target.name,
                members=restored.members,
                moved_paths=restored.moved_paths,
            )
    except OSError as error:
        if (full := no_room(home, error)) is not None:
            raise full from error
        raise
    finally:
        _clear(space)
    return restored


def _fill(
    target: Target, backup: Backup, members: list[Member], space: Path, home: Path, progress: Progress
) -> Restored:
    by_kind: dict[str, list[Member]] = {kind: [] for kind in (DATABASE, HOME, OBJECTS, DATA)}
    for member in members:
        by_kind[member.path.partition("/")[0]].append(member)
    for done, member in enumerate(by_kind[HOME], start=1):
        _write(space / _inside(member, HOME), target.read_member(member))
        progress("files", done, len(by_kind[HOME]))
    write_file(space / PLATFORM, backup.platform.encode())
    settings, left_out = _settings_of(space, backup)
    try:
        start_stores(settings)
        _check_server(settings, backup)
        for member in by_kind[DATABASE]:
            databases.check_empty(settings, _inside(member, DATABASE).stem)
        _restore_objects(settings, target, by_kind[OBJECTS], progress)
        count = _restore_data(settings, target, by_kind[DATA], progress)
        # Last: on a server of somebody else's they cannot be loaded again where what follows them fails.
        moved = _restore_databases(settings, target, by_kind[DATABASE], Path(backup.home), home, progress)
    finally:
        dispose_engines()
        stop_stack(settings)
    keys = restore_keys(space, target)
    return Restored(backup, home, len(members), count, moved, keys, left_out)


def _settings_of(space: Path, backup: Backup) -> tuple[Settings, tuple[str, ...]]:
    """The settings that the backup brought, and what of them is to be set again.

    One that this version of the platform does not know any more must not keep everything else from coming back.
    """
    try:
        return load_settings(), backup.left_out
    except BadInput:
        written = space / SETTINGS
        if not written.is_file():
            raise
        written.rename(space / f"{backup.id}-{SETTINGS}")
        return load_settings(), (*backup.left_out, f"what {backup.id}-{SETTINGS} says")


def _restore_databases(
    settings: Settings, target: Target, dumps: list[Member], old: Path, new: Path, progress: Progress
) -> int:
    moved = 0
    for done, member in enumerate(dumps, start=1):
        name = _inside(member, DATABASE).stem
        databases.load(settings, name, target.read_member(member))
        # Dagster's log is history, and says where things were then.
        moved += databases.move_paths(settings, name, old, new) if name != "dagster" and old != new else 0
        progress("databases", done, len(dumps), name)
    return moved


def _restore_objects(settings: Settings, target: Target, objects: list[Member], progress: Progress) -> None:
    store = open_plain(settings)
    if isinstance(store, S3Store):
        store.create_bucket()

    def one(member: Member) -> None:
        store.put(_inside(member, OBJECTS).as_posix(), b"".join(target.read_member(member)))

    with ThreadPoolExecutor(TOGETHER) as pool:
        for done, _ in enumerate(pool.map(one, objects), start=1):
            progress("objects", done, len(objects))


def _restore_data(settings: Settings, target: Target, data: list[Member], progress: Progress) -> int:
    bundled = next((member for member in data if _inside(member, DATA).name == versions.BUNDLE), None)
    if bundled is None:
        return 0

    def files() -> Iterator[tuple[str, bytes]]:
        rest = [member for member in data if member is not bundled]
        for done, member in enumerate(rest, start=1):
            yield _inside(member, DATA).as_posix(), b"".join(target.read_member(member))
            progress("data repository", done, len(rest))

    return versions.restore(settings, b"".join(target.read_member(bundled)), files())


def _move(space: Path, home: Path) -> None:
    """Everything of one folder into the other, beside a master key that lies there."""
    (home / KEYS).mkdir(mode=0o700, exist_ok=True)
    if (space / KEYS).is_dir():
        for entry in (space / KEYS).iterdir():
            entry.rename(home / KEYS / entry.name)
        (space / KEYS).rmdir()
    for entry in sorted(space.iterdir()):
        entry.rename(home / entry.name)
    space.rmdir()


def _check_versions(backup: Backup) -> None:
    if backup.tables_step > newest_step():
        raise BadInput(
            f"The backup {backup.id} has tables of step {backup.tables_step}, this version of the platform knows"
            f" {newest_step()}.",
            f"Install the version that made it ({backup.version}) or a newer one.",
        )


def _check_server(settings: Settings, backup: Backup) -> None:
    if (here := server_version(settings)) < backup.postgres:
        raise BadInput(
            f"The backup {backup.id} is of PostgreSQL {backup.postgres}, here is {here}, which cannot read it.",
            f"Install PostgreSQL {backup.postgres} or newer.",
        )


def _check_empty(home: Path) -> None:
    there = sorted(entry.name for entry in home.iterdir()) if home.is_dir() else []
    data = [name for name in there if name not in {SPACE, KEYS, WAITING}]
    data += [f"{KEYS}/{entry.name}" for entry in sorted((home / KEYS).glob("[!.]*")) if entry.name != MASTER]
    if data and (home / SPACE).is_dir():
        raise BadInput(
            f"The home {home} has data in it ({data[0]}), and a restore that was killed, maybe while it moved that.",
            "If nobody has used it since, remove all but the master key and begin again; else name an empty folder.",
        )
    if home.is_file() or data:
        what = f"has data in it ({data[0]})" if data else "is a file"
        raise BadInput(f"The home {home} {what}.", "Name a new or an empty folder; only the master key may lie in it.")


def _check_there(target: Target, members: list[Member]) -> None:
    missing = [member for member in members if not target.blobs().issuperset(member.chunks)]
    if missing:
        raise BackupDamaged(
            f"{len(missing)} of {len(members)} members are missing at {target.name}, {missing[0].path} first.",
            "Take another backup: `its backup list`; `its backup verify` names all.",
        )


@contextmanager
def _home_at(space: Path) -> Iterator[Path]:
    """Have settings, and the processes that are started, take the folder for the home."""
    before = os.environ.get("ITS_HOME")
    os.environ["ITS_HOME"] = str(space)
    try:
        yield space
    finally:
        if before is None:
            del os.environ["ITS_HOME"]
        else:
            os.environ["ITS_HOME"] = before


def _clear(space: Path) -> None:
    """Remove what an earlier restore left, and end what it had started."""
    if space.is_dir():
        # Settings that cannot be read have started nothing.
        with _home_at(space), suppress(BadInput):
            stop_stack(load_settings())
        shutil.rmtree(space)


def _inside(member: Member, kind: str) -> PurePosixPath:
    """The member's path below its kind. Raises `BackupDamaged` for one that would lead out of there."""
    path = PurePosixPath(member.path).relative_to(kind)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise BackupDamaged(f"{member.path!r} is no path of a member.")
    return path


def _write(path: Path, content: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for piece in content:
            file.write(piece)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
