"""Bytes under a name: JPEG frames, manifests, exported models.

One protocol, two implementations (a directory, or any S3 API) that pass the same contract suite, and one layer above
them that seals and opens. A key is a relative POSIX path such as `frames/north/2026-05-01/abcd….jpg`. Which key a thing
gets is decided by the stage that stores it; which store the settings mean, here.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from its_platform.errors import BadInput
from its_platform.private_files import password
from its_platform.settings import Settings
from its_platform.stores.directory import DirectoryStore, file_stamp
from its_platform.stores.journal import Journal
from its_platform.stores.keys import KeyFolder
from its_platform.stores.object_store import ObjectDamaged, ObjectStore, StorageFull, check_key, no_room
from its_platform.stores.s3 import NoBucket, S3Store
from its_platform.stores.sealing import SealedStore

__all__ = [
    "MODELS_BUCKET",
    "DirectoryStore",
    "NoBucket",
    "ObjectDamaged",
    "ObjectStore",
    "S3Store",
    "SealedStore",
    "StorageFull",
    "check_key",
    "file_stamp",
    "host_key",
    "no_room",
    "objects_key",
    "open_at",
    "open_keys",
    "open_objects",
    "open_plain",
    "own_address",
]

BUCKET = "its"
MODELS_BUCKET = "its-models"
"""What hosts fetch lies apart from footage, so that their key leads to nothing else."""


def open_objects(settings: Settings) -> SealedStore:
    """The object store of these settings, for all who read and write objects; nothing is connected to yet."""
    return SealedStore(open_plain(settings), open_keys(settings), settings.objects.sealed)


def open_keys(settings: Settings) -> KeyFolder:
    """The keys of these settings, whether there are any yet or not."""
    return KeyFolder((settings.objects.keys or settings.home / "keys").absolute(), Journal(settings))


def open_plain(settings: Settings) -> DirectoryStore | S3Store:
    """The store below, with the bytes as they lie there: for its server, its health and copies of it."""
    if settings.objects_url is not None:
        return open_at(settings.objects_url, "ITS_OBJECTS_URL", "frames")
    if settings.runs_objects:
        return S3Store(own_address(settings, BUCKET, objects_key(settings)), settings.certificates / "ca.pem")
    return DirectoryStore(settings.home / "objects")


def open_at(url: str, named_by: str, what: str, root: Path | None = None) -> DirectoryStore | S3Store:
    """The store of an address, `file:///folder` or `s3+https://…`; nothing is connected to yet.

    named_by: the setting it comes from; what: is kept there, for people; root: as `S3Store` has it. Raises `BadInput`.
    """
    if url.startswith("file://"):
        folder = Path(unquote(urlsplit(url).path))
        if not folder.is_dir():
            raise BadInput(f"There is no folder {folder} for {what}.", f"Make or mount it; it is named by {named_by}.")
        return DirectoryStore(folder)
    return S3Store(url, root, named_by)


def own_address(settings: Settings, bucket: str, key: tuple[str, str], endpoint: str = "") -> str:
    """The address of a bucket of this home's own S3 server, with the secret in it: not for logs.

    endpoint: `host:port` of the server, where it is not asked on this machine.
    """
    name, secret = key
    return f"s3+https://{name}:{quote(secret)}@{endpoint or f'{settings.host}:{settings.ports.objects}'}/{bucket}"


def objects_key(settings: Settings) -> tuple[str, str]:
    """Name and secret of the platform itself at this home's own S3 server."""
    return "its", password(settings.services / "passwords" / "objects")


def host_key(settings: Settings) -> tuple[str, str]:
    """Name and secret of the hosts there, who may read released versions."""
    return "host", password(settings.services / "passwords" / "objects.host")
