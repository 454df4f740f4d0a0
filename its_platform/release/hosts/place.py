"""Where released versions are published and fetched: a folder, or a bucket of any S3 API.

This home's own S3 server has a bucket for them alone, which the key that hosts are given may read, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from its_platform.errors import BadInput
from its_platform.private_files import write_file
from its_platform.release.hosts.signing import public_pem, signing_key
from its_platform.settings import Settings
from its_platform.stores.objects import (
    MODELS_BUCKET,
    DirectoryStore,
    S3Store,
    host_key,
    objects_key,
    open_at,
    own_address,
)

PUBLISH_SETTING, SYNC_SETTING = "ITS_HOSTS__PUBLISH_URL", "ITS_HOSTS__SYNC_URL"
# As a host's settings look for them in its home.
AUTHORITY_FILE, KEY_FILE = "publisher-ca.pem", "publisher.pem"


@dataclass(frozen=True)
class Shelf:
    """The store, and its name for people, without secrets."""

    store: DirectoryStore | S3Store
    name: str

    def prepare(self) -> None:
        """Make the bucket."""
        if isinstance(self.store, S3Store):
            self.store.create_bucket()


def publishing_shelf(settings: Settings) -> Shelf | None:
    """Where this home publishes; None where it does not. Nothing is connected to yet."""
    if settings.is_host:
        return None
    if (url := settings.hosts.publish_url) is not None:
        return _shelf(open_at(url, PUBLISH_SETTING, "versions", settings.hosts.authority))
    if settings.runs_objects:
        return _shelf(S3Store(own_address(settings, MODELS_BUCKET, objects_key(settings)), _own_authority(settings)))
    return None


def host_shelf(settings: Settings) -> Shelf:
    """Where this host fetches. Raises `BadInput` in a home that is no host."""
    if settings.hosts.sync_url is None:
        raise BadInput(
            "This home is no host: its own releases decide what it serves.",
            f"Set {SYNC_SETTING} in a home of its own; `its serving host` writes what that needs.",
        )
    authority = settings.hosts.authority or settings.home / AUTHORITY_FILE
    known = authority if settings.hosts.authority is not None or authority.is_file() else None
    return _shelf(open_at(settings.hosts.sync_url, SYNC_SETTING, "versions", known))


def host_public_key(settings: Settings) -> Path:
    """The publisher's public key, as this host has it."""
    return settings.hosts.public_key or settings.home / KEY_FILE


def write_host_home(settings: Settings, out: Path, address: str = "") -> list[Path]:
    """Write what a host needs into a folder that becomes its home; the files. The address in it is a secret.

    address: `host:port` by which the host reaches this home's own S3 server, where that is not the one of this machine.
    Raises `BadInput` where this home publishes nothing, or the folder has settings already.
    """
    if publishing_shelf(settings) is None:
        raise BadInput("This home publishes no versions.", f"Set {PUBLISH_SETTING}, or use the services profile.")
    written = out / "settings.yaml"
    if written.exists():
        raise BadInput(f"{written} is there already.", "Name a new folder.")
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = settings.hosts.authority
    if settings.hosts.publish_url is not None:
        url = _without_secret(settings.hosts.publish_url)
    else:
        url, authority = own_address(settings, MODELS_BUCKET, host_key(settings), address), _own_authority(settings)
    files = [out / KEY_FILE]
    write_file(files[0], public_pem(signing_key(settings)))
    if authority is not None:
        files.append(out / AUTHORITY_FILE)
        write_file(files[-1], authority.read_bytes())
    content: dict[str, Any] = {"hosts": {"sync_url": url}}
    write_file(written, yaml.safe_dump(content, sort_keys=False).encode(), is_secret=True)
    return [*files, written]


def _shelf(store: DirectoryStore | S3Store) -> Shelf:
    if isinstance(store, DirectoryStore):
        return Shelf(store, str(store.folder))
    return Shelf(store, f"{store.endpoint}/{store.bucket}/{store.prefix}".rstrip("/"))


def _own_authority(settings: Settings) -> Path:
    return settings.certificates / "ca.pem"


def _without_secret(url: str) -> str:
    """Who publishes may write; a host gets a key of its own that may not."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
