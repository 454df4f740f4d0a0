"""Where backups lie: a folder or a bucket with `blobs/`, `backups/`, `keys/data/` and `platform`.

A blob is at most `CHUNK` bytes, named by its SHA-256, and there once however many backups name it. A backup is one
small manifest, `backups/<id>.json`, put there last; its id ends in the beginning of the manifest's own SHA-256, and the
manifest names the blobs of the list of its members, so that each byte of a backup is held by its id.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from its_platform.errors import BadInput, NotFound, PermanentError
from its_platform.private_files import write_file
from its_platform.settings import Settings
from its_platform.stores.directory import UNFINISHED
from its_platform.stores.objects import DirectoryStore, ObjectDamaged, S3Store, open_plain

SCHEMA = 1
CHUNK = 16 * 1024 * 1024
BLOBS, BACKUPS, PLATFORM = "blobs", "backups", "platform"
SETTING = "ITS_BACKUP__URL"
# What an id begins with: milliseconds are read as the fraction that they are.
ID_MOMENT = "%Y%m%dT%H%M%S.%fZ"
# Of the id in hex; what a person can still compare.
DIGEST_IN_ID = 12


class BackupDamaged(PermanentError):
    """What lies at the target is not what the backup names."""


@dataclass(frozen=True)
class Member:
    """One thing in a backup. sha256: of all of it; chunks: of its blobs, in order. stamp: as the source had it then."""

    path: str
    size: int
    sha256: str
    chunks: tuple[str, ...]
    stamp: str = ""


@dataclass(frozen=True)
class Backup:
    """A manifest. id: time and beginning of its own digest. listing: the list of its members, itself one.

    home: where it was, as its databases name it; postgres: version of the server; tables_step: newest migration of the
    database `its`. left_out: settings that are secret or of that one machine.
    """

    id: str
    created_at: datetime
    platform: str
    version: str
    profile: str
    home: str
    postgres: int
    tables_step: str
    members: int
    size: int
    listing: Member
    left_out: tuple[str, ...] = ()
    schema: int = SCHEMA


@dataclass
class Target:
    """The place, and what is known of it."""

    store: DirectoryStore | S3Store
    name: str
    _blobs: set[str] | None = field(default=None, repr=False)

    def prepare(self) -> None:
        """Make the bucket, or the folders: what lies in them holds the databases, and is for their owner alone.

        What a backup that was killed left half-written in a folder is removed; in a bucket there is no such thing, as
        no blob is sent in parts.
        """
        if isinstance(self.store, S3Store):
            self.store.create_bucket()
        else:
            for name in (UNFINISHED, BLOBS, BACKUPS, "keys"):
                (self.store.folder / name).mkdir(mode=0o700, exist_ok=True)
            self.store.sweep()

    def blobs(self) -> set[str]:
        """The names of all blobs that lie here; read once."""
        if self._blobs is None:
            self._blobs = {key.rpartition("/")[2] for key in self.store.list(f"{BLOBS}/")}
        return self._blobs

    def put_blob(self, data: bytes) -> tuple[str, bool]:
        """Its SHA-256, and whether it had to be sent."""
        digest = hashlib.sha256(data).hexdigest()
        if digest in self.blobs():
            return digest, False
        self.store.put(blob_key(digest), data)
        self.blobs().add(digest)
        return digest, True

    def get_blob(self, digest: str) -> bytes:
        """Raises `BackupDamaged` for one that is missing or is not what its name says."""
        differs = f"{blob_key(digest)} at {self.name} differs from what was stored."
        try:
            data = self.store.get(blob_key(digest))
        except NotFound as error:
            raise BackupDamaged(f"{blob_key(digest)} is missing at {self.name}.") from error
        except ObjectDamaged as error:
            raise BackupDamaged(differs) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise BackupDamaged(differs)
        return data

    def put_member(self, path: str, content: Iterable[bytes], stamp: str = "") -> tuple[Member, int]:
        """Store content in chunks; the member, and how many bytes had to be sent."""
        whole, size, sent, chunks = hashlib.sha256(), 0, 0, []
        for chunk in _chunked(content):
            digest, is_new = self.put_blob(chunk)
            whole.update(chunk)
            size += len(chunk)
            sent += len(chunk) if is_new else 0
            chunks.append(digest)
        return Member(path, size, whole.hexdigest(), tuple(chunks), stamp), sent

    def read_member(self, member: Member) -> Iterator[bytes]:
        """Its content, each chunk checked before it is given out. Raises `BackupDamaged` naming the member."""
        whole, size = hashlib.sha256(), 0
        for digest in member.chunks:
            try:
                chunk = self.get_blob(digest)
            except BackupDamaged as error:
                raise BackupDamaged(f"{member.path}: {error.message}", error.hint) from error
            whole.update(chunk)
            size += len(chunk)
            yield chunk
        if (size, whole.hexdigest()) != (member.size, member.sha256):
            raise BackupDamaged(f"{member.path}: its chunks are not what the manifest names.")

    def put_backup(self, facts: dict[str, Any], created_at: datetime, listing: Member) -> Backup:
        """Make a backup of what was stored: the one moment from which it is there."""
        content = {**facts, "created_at": created_at.isoformat(), "listing": asdict(listing), "schema": SCHEMA}
        data = json.dumps(content, indent=1, sort_keys=True).encode()
        moment = f"{created_at:%Y%m%dT%H%M%S}.{created_at.microsecond // 1000:03d}Z"
        name = f"{moment}-{hashlib.sha256(data).hexdigest()[:DIGEST_IN_ID]}"
        self.store.put(f"{BACKUPS}/{name}.json", data)
        return _backup(name, data, self.name)

    def backup(self, name: str) -> Backup:
        """The backup of this id; `latest` is the newest.

        Raises `NotFound`, `BackupDamaged`, and `BadInput` for one that a newer version of the platform made.
        """
        ids = backup_ids(self)
        if name == "latest" and ids:
            name = ids[-1]
        if name not in ids:
            raise NotFound(
                f"There is no backup {name} at {self.name}.", "`its backup list` shows those that there are."
            )
        return _backup(name, self.store.get(f"{BACKUPS}/{name}.json"), self.name)

    def members(self, backup: Backup) -> list[Member]:
        """What is in a backup, sorted by path. Raises `BackupDamaged`."""
        lines = gzip.decompress(b"".join(self.read_member(backup.listing))).splitlines()
        return [_member(json.loads(line)) for line in lines]

    def put_listing(self, members: list[Member]) -> Member:
        """Store the list of a backup's members."""
        lines = "".join(json.dumps(asdict(member)) + "\n" for member in sorted(members, key=lambda one: one.path))
        return self.put_member("members.jsonl.gz", [gzip.compress(lines.encode(), mtime=0)])[0]


def open_target(settings: Settings, address: str | None = None) -> Target:
    """The place that is named, or the one of the settings; nothing is connected to yet.

    Raises `BadInput` where there is none, or the address cannot be used.
    """
    url = address or settings.backup.url
    if not url:
        raise BadInput("No place for backups is set.", f"Set {SETTING} to file:///folder or s3+https://host/bucket.")
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        if not folder.is_dir():
            raise BadInput(f"There is no folder {folder} for backups.", f"Make or mount it; {SETTING} names it.")
        return Target(DirectoryStore(folder), str(folder))
    if address is not None and parts.password:
        raise BadInput(
            "A secret on a command line is there for everyone to read.",
            f"Put the address into {SETTING}, or the secret into AWS_SECRET_ACCESS_KEY.",
        )
    store = S3Store(url, settings.backup.authority, named_by=SETTING)
    return Target(store, f"{store.endpoint}/{store.bucket}/{store.prefix}".rstrip("/"))


def backup_ids(target: Target) -> list[str]:
    """Ids of all backups, oldest first."""
    return sorted(key.removeprefix(f"{BACKUPS}/").removesuffix(".json") for key in target.store.list(f"{BACKUPS}/"))


def made_at(name: str) -> datetime:
    """When a backup was made, by its id. Raises `BackupDamaged` for a name that is none."""
    try:
        return datetime.strptime(name.partition("-")[0], ID_MOMENT).replace(tzinfo=UTC)
    except ValueError as error:
        raise BackupDamaged(f"{BACKUPS}/{name}.json is no backup's name.", "Remove it at the target.") from error


def list_backups(target: Target) -> tuple[list[Backup], dict[str, str]]:
    """The backups, oldest first, and what is wrong with each manifest that cannot be used, by its id."""
    found, wrong = [], {}
    for name in backup_ids(target):
        try:
            found.append(target.backup(name))
        except PermanentError as error:
            wrong[name] = error.message
    return found, wrong


def claim(settings: Settings, target: Target) -> str:
    """Who this platform is; the target is its own from its first backup on.

    Another platform's keys and backups would be taken for remains of ours. Raises `BadInput` where they lie there.
    """
    path = settings.home / PLATFORM
    if not path.is_file():
        write_file(path, secrets.token_hex(16).encode())
    own = path.read_text("utf-8")
    if not is_claimed(settings, target):
        target.store.put(PLATFORM, own.encode())
    return own


def is_claimed(settings: Settings, target: Target) -> bool:
    """Whether this platform has backups at the target. Raises `BadInput` where another one has."""
    if not target.store.exists(PLATFORM):
        return False
    path = settings.home / PLATFORM
    if not path.is_file() or target.store.get(PLATFORM).decode("utf-8", "replace") != path.read_text("utf-8"):
        raise BadInput(
            f"{target.name} holds the backups of another platform.",
            "Choose another folder or prefix; `its backup restore` continues that one.",
        )
    return True


def check_apart(settings: Settings, target: Target) -> None:
    """Raises `BadInput` for a target that lies in the object store, whose objects are copied.

    Each backup would hold those before it, and the keys that are to be in none.
    """
    store, own = target.store, open_plain(settings)
    if isinstance(store, DirectoryStore):
        is_within = isinstance(own, DirectoryStore) and store.folder.resolve().is_relative_to(own.folder.resolve())
    else:
        is_within = (
            isinstance(own, S3Store)
            and (store.endpoint, store.bucket) == (own.endpoint, own.bucket)
            and store.prefix.startswith(own.prefix)
        )
    if is_within:
        raise BadInput(
            f"{target.name} lies in the object store, which is to be copied there.",
            "Choose a folder or a bucket of its own, best on another machine.",
        )


def blob_key(digest: str) -> str:
    return f"{BLOBS}/{digest[:2]}/{digest}"


def _backup(name: str, data: bytes, where: str) -> Backup:
    if hashlib.sha256(data).hexdigest()[:DIGEST_IN_ID] != name.rpartition("-")[2]:
        raise BackupDamaged(f"The manifest of {name} at {where} was changed.", "Take another: `its backup list`.")
    content = json.loads(data)
    if content["schema"] > SCHEMA:
        raise BadInput(
            f"The backup {name} was made by a newer version of the platform ({content['version']}).",
            "Install that version.",
        )
    listing = _member(content.pop("listing"))
    content |= {"created_at": datetime.fromisoformat(content["created_at"]), "left_out": tuple(content["left_out"])}
    return Backup(id=name, listing=listing, **content)


def _member(content: dict[str, Any]) -> Member:
    return Member(**{**content, "chunks": tuple(content["chunks"])})


def _chunked(content: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of `CHUNK`, the last one shorter; nothing for nothing."""
    waiting = bytearray()
    for piece in content:
        waiting += piece
        while len(waiting) >= CHUNK:
            yield bytes(waiting[:CHUNK])
            del waiting[:CHUNK]
    if waiting:
        yield bytes(waiting)
