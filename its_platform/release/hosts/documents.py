"""What is published for hosts, as values: the manifest of a version, and the wish that says who serves which.

Enters: signed bytes from a store that others may have written to. Leaves: values in which every name was checked, or
`PublicationRefused`. In the store a version is `triton/<model>/<version>/` with its files and, put there last, its
manifest; the wish is `triton/wish.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from its_platform.contract import size_text
from its_platform.errors import BadInput
from its_platform.release.hosts.signing import PublicationRefused, sign, verified
from its_platform.release.stages import SERVED
from its_platform.release.upkeep import route_as_json, route_from_json
from its_platform.serving.config import contract_of
from its_platform.serving.repository import DESCRIPTION_FILE, Route

PREFIX = "triton"
MANIFEST_FILE = "manifest.json"
WISH_KEY = f"{PREFIX}/wish.json"
MANIFEST, WISH = "manifest", "wish"


def version_key(model: str, version: int, file: str) -> str:
    """Where a file of a version lies in the store."""
    return f"{PREFIX}/{model}/{version}/{file}"


def version_files(model: str) -> tuple[str, ...]:
    """What a version of a model consists of. Raises `BadInput` for a name that is no detector's."""
    return (DESCRIPTION_FILE, *contract_of(model).format.files)


@dataclass(frozen=True)
class PublishedFile:
    """One file of a version; size in bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a version is. digest: of what is served of it, as the registry and the table of releases have it."""

    model: str
    version: int
    digest: str
    files: tuple[PublishedFile, ...]

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """As it is stored."""
        files = [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in self.files]
        facts = {"model": self.model, "version": self.version, "contract": contract_words(self.model)}
        return sign(key, MANIFEST, {**facts, "digest": self.digest, "files": files})


@dataclass(frozen=True)
class Wished:
    """A version that every host is to serve, and how live traffic is led to it."""

    route: Route
    digest: str


@dataclass(frozen=True)
class Wish:
    """What is served at each stage. generation: grows with each wish, so that a host knows an old one."""

    generation: int
    at: datetime
    stages: Mapping[str, Wished]

    def as_json(self) -> dict[str, Any]:
        stages = {
            name: {**route_as_json(wished.route), "digest": wished.digest} for name, wished in self.stages.items()
        }
        return {"generation": self.generation, "at": self.at.isoformat(), "stages": stages}


def contract_words(model: str) -> dict[str, str]:
    """What a detector takes and is, in words."""
    contract = contract_of(model)
    size = size_text(contract.image_size)
    return {"family": contract.family, "format": contract.format.name, "image_size": size}


def read_manifest(key: Ed25519PublicKey, stored: bytes, model: str, version: int) -> Manifest:
    """The manifest that stands for this version. Raises `PublicationRefused`."""
    name = f"the manifest of version {version} of {model}"
    found = verified(key, MANIFEST, stored, name)
    try:
        files = tuple(
            PublishedFile(str(file["name"]), int(file["size"]), str(file["sha256"])) for file in found["files"]
        )
        manifest = Manifest(str(found["model"]), int(found["version"]), str(found["digest"]), files)
        contract = found["contract"]
    except (ValueError, KeyError, TypeError) as error:
        raise PublicationRefused(f"{_begun(name)} cannot be read: {error!r}.", "Is the publisher newer?") from error
    if (manifest.model, manifest.version) != (model, version):
        raise PublicationRefused(f"{_begun(name)} is that of version {manifest.version} of {manifest.model}.")
    if contract != contract_words(model):
        raise PublicationRefused(f"{_begun(name)} names another contract: {contract}.")
    for file in files:
        if Path(file.name).name != file.name or file.name in {"", ".", ".."}:
            raise PublicationRefused(f"{_begun(name)} names {file.name!r}, which leads out of the version's folder.")
    named, wanted = [file.name for file in files], version_files(model)
    if missing := [one for one in wanted if one not in named]:
        raise PublicationRefused(f"{_begun(name)} has no {missing[0]}.")
    if sorted(named) != sorted(wanted):
        unknown = next((one for one in named if one not in wanted), named[0])
        raise PublicationRefused(f"{_begun(name)} names {unknown!r}, which a version of this format has not.")
    return manifest


def signed_wish(key: Ed25519PrivateKey, wish: Wish) -> bytes:
    """As it is stored."""
    return sign(key, WISH, wish.as_json())


def read_wish(key: Ed25519PublicKey, stored: bytes) -> Wish:
    """Raises `PublicationRefused`."""
    return wish_from_json(verified(key, WISH, stored, WISH_KEY))


def wish_from_json(found: Mapping[str, Any]) -> Wish:
    """Raises `PublicationRefused` for one that no publisher of this version of the platform writes."""
    try:
        stages = {
            str(name): Wished(
                route_from_json({key: value for key, value in wished.items() if key != "digest"}),
                str(wished["digest"]),
            )
            for name, wished in found["stages"].items()
        }
        wish = Wish(int(found["generation"]), datetime.fromisoformat(found["at"]), stages)
        for wished in stages.values():
            contract_of(wished.route.model)
    except (ValueError, KeyError, TypeError, AttributeError, BadInput) as error:
        raise PublicationRefused(f"{WISH_KEY} cannot be read: {error!r}.", "Is the publisher newer?") from error
    if unknown := [name for name in stages if name not in SERVED]:
        raise PublicationRefused(f"{WISH_KEY} names the stage {unknown[0]!r}, which there is not.")
    return wish


def _begun(name: str) -> str:
    return name[0].upper() + name[1:]
