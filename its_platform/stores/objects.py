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
    "DirectoryStore",
    "NoBucket",
    "ObjectDamaged",
    "ObjectStore",
    "S3Store",
    "SealedStore",
    "StorageFull",
    "check_key",
    "file_stamp",
    "no_room",
    "objects_key",
    "open_keys",
    "open_objects",
    "open_plain",
]

BUCKET = "its"


def open_objects(settings: Settings) -> SealedStore:
    """The object store of these settings, for all who read and write objects; nothing is connected to yet."""
    return SealedStore(open_plain(settings), open_keys(settings), settings.objects.sealed)


def open_keys(settings: Settings) -> KeyFolder:
    """The keys of these settings, whether there are any yet or not."""
    return KeyFolder((settings.objects.keys or settings.home / "keys").absolute(), Journal(settings))


def open_plain(settings: Settings) -> DirectoryStore | S3Store:
    """The store below, with the bytes as they lie there: for its server, its health and copies of it."""
    if settings.objects_url is not None and settings.objects_url.startswith("file://"):
        folder = Path(unquote(urlsplit(settings.objects_url).path))
        if not folder.is_dir():
            raise BadInput(
                f"There is no folder {folder} for frames.", "Make or mount it; it is named by ITS_OBJECTS_URL."
            )
        return DirectoryStore(folder)
    if settings.objects_url is not None:
        return S3Store(settings.objects_url)
    if settings.runs_objects:
        key, secret = objects_key(settings)
        address = f"s3+https://{key}:{quote(secret)}@{settings.host}:{settings.ports.objects}/{BUCKET}"
        return S3Store(address, settings.certificates / "ca.pem")
    return DirectoryStore(settings.home / "objects")


def objects_key(settings: Settings) -> tuple[str, str]:
    """Name and secret of the one user of this home's own S3 server."""
    return "its", password(settings.services / "passwords" / "objects")
