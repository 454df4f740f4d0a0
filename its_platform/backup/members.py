"""What is in a backup, in the order in which it is taken: whatever is taken later holds all that the earlier names.

Databases first: their rows name frames, versions and artefacts that were stored before them and are never changed.
Then the front's spool before the tables that it is collected into, the tables before the objects that their rows name.
A loop may run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from its_platform.backup import databases
from its_platform.errors import ServerUnavailable
from its_platform.settings import PROFILE_FILE, Settings
from its_platform.stores import versions
from its_platform.stores.database import database_names
from its_platform.stores.objects import DirectoryStore, S3Store, file_stamp, open_plain

# Below the home: what no server keeps for itself and nothing else brings back.
FOLDERS = ("triton", "mlartifacts", "dagster/storage", "evidently", "reports", "simulation", "demo", "loop")
# What Triton and its front make anew, or hold for a moment.
PASSING = ("triton/incoming/", "triton/backends/")
SETTINGS = "settings.yaml"
# Secrets, and what is true of one machine alone.
NOT_COPIED = ("home", "environments", "ports", "host", "database_url", "objects_url", "data_remote", "backup")
NOT_COPIED_OF_A_GROUP = (
    ("serving", "redis_url"),
    ("notifications", "webhook"),
    ("security", "certificates"),
    ("hosts", "publish_url"),
    ("hosts", "sync_url"),
    ("objects", "keys"),
)
DATABASE, OBJECTS, HOME, DATA = "database", "objects", "home", "data"
_TRIES = 5


@dataclass(frozen=True)
class Source:
    """Something to copy. stamp: changes when it does; empty for what has to be read each time.

    may_vanish: whether it may be gone by the time that it is read, as a file of the spool that was collected.
    """

    path: str
    content: Callable[[], Iterable[bytes]]
    stamp: str = ""
    may_vanish: bool = False


def database_sources(settings: Settings) -> list[Source]:
    """Dumps of the platform's databases."""
    return [
        Source(f"{DATABASE}/{name}.dump", partial(databases.dump, settings, name)) for name in database_names(settings)
    ]


def home_sources(settings: Settings) -> Iterator[Source]:
    """Files of the home folder, and its settings without secrets."""
    for folder in FOLDERS:
        for path in sorted((settings.home / folder).rglob("*")):
            name = path.relative_to(settings.home).as_posix()
            # A name with a dot in front, and `.part`, is what somebody is still writing.
            is_passing = name.startswith(PASSING) or "/." in name or path.suffix in {".part", ".lock"}
            if path.is_file() and not is_passing:
                yield _file(f"{HOME}/{name}", path, may_vanish=True)
    if (settings.home / PROFILE_FILE).is_file():
        yield _file(f"{HOME}/{PROFILE_FILE}", settings.home / PROFILE_FILE)
    if (settings.home / SETTINGS).is_file():
        kept, _ = portable_settings(settings)
        yield Source(f"{HOME}/{SETTINGS}", lambda: [kept])


def portable_settings(settings: Settings) -> tuple[bytes, list[str]]:
    """`settings.yaml` without secrets and without what is true of this machine alone; the names of what is left out."""
    path = settings.home / SETTINGS
    written: dict[str, Any] = (yaml.safe_load(path.read_text("utf-8")) if path.is_file() else None) or {}
    left_out = [name for name in NOT_COPIED if written.pop(name, None) is not None]
    for group, name in NOT_COPIED_OF_A_GROUP:
        if isinstance(written.get(group), dict) and written[group].pop(name, None) is not None:
            left_out.append(f"{group}.{name}")
    return yaml.safe_dump(written, sort_keys=False).encode() if written else b"", left_out


def table_sources(settings: Settings) -> Iterator[Source]:
    """Each Delta table as of its newest version: the files of that version, and its log up to it."""
    for log in sorted(settings.tables.glob("*/_delta_log")):
        yield from _snapshot(settings, log.parent)


def object_sources(settings: Settings) -> Iterator[Source]:
    """Objects as they are stored: sealed ones stay sealed."""
    store = open_plain(settings)
    for key, stamp in store.stamps():
        yield Source(f"{OBJECTS}/{key}", partial(_object, store, key), stamp, may_vanish=True)


def data_sources(settings: Settings) -> Iterator[Source]:
    """The data repository: its history as one bundle of git, and each file that DVC keeps for a version."""
    bundled = versions.bundle(settings)
    if bundled is None:
        return
    yield Source(f"{DATA}/{versions.BUNDLE}", lambda: [bundled])
    for md5 in versions.kept_files(settings):
        # Its name is its content, so it never changes.
        yield Source(f"{DATA}/{versions.file_key(md5)}", partial(_data_file, settings, md5), stamp=md5)


def _snapshot(settings: Settings, table: Path) -> list[Source]:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    for _ in range(_TRIES):
        try:
            opened = DeltaTable(str(table))
            number = opened.version()
            files = [Path(uri) for uri in opened.file_uris()]
            log = [path for path in sorted((table / "_delta_log").iterdir()) if _is_of(path, number)]
            return [
                _file(f"{HOME}/{path.relative_to(settings.home).as_posix()}", path, may_vanish=False)
                for path in [*files, *log]
            ]
        except FileNotFoundError:
            # Files were put together in between: there is a newer version, of other files.
            continue
        except DeltaError as error:
            raise ServerUnavailable(
                f"The table {table} cannot be read: {error}", "`its doctor` looks further."
            ) from error
    raise ServerUnavailable(f"The table {table} changes too fast to be copied.", "Try again in a moment.")


def _is_of(entry: Path, number: int) -> bool:
    """Whether an entry of the log is of this version or of one before; the hint to the last checkpoint is of none."""
    first = entry.name.partition(".")[0]
    return entry.is_file() and first.isdigit() and int(first) <= number


def _file(name: str, path: Path, may_vanish: bool = False) -> Source:
    try:
        stamp = file_stamp(path)
    except FileNotFoundError:
        if not may_vanish:
            raise
        stamp = ""
    return Source(name, partial(_pieces, path), stamp, may_vanish)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(databases.PIECE):
            yield piece


def _object(store: DirectoryStore | S3Store, key: str) -> list[bytes]:
    return [store.get(key)]


def _data_file(settings: Settings, md5: str) -> list[bytes]:
    return [versions.read_file(settings, md5)]
