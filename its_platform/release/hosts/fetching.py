"""A published version on its way to a host: each file checked against the signed manifest before it is there.

Enters: the store, the publisher's public key, and the version that is wished. Leaves: a folder with the version's files
and the `ModelVersion` that they are, or `PublicationRefused`. Nothing is served here.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from its_platform.contract import read_size
from its_platform.errors import NotFound
from its_platform.private_files import write_file
from its_platform.release.hosts.documents import MANIFEST_FILE, Wished, read_manifest, version_key
from its_platform.release.hosts.place import Shelf
from its_platform.release.hosts.signing import PublicationRefused
from its_platform.serving.config import contract_of, detector_name
from its_platform.serving.repository import DESCRIPTION_FILE
from its_platform.stores.registry import ModelVersion

PUT_AGAIN = "`its serving publish` puts it again."


def fetch(shelf: Shelf, key: Ed25519PublicKey, wished: Wished, folder: Path) -> ModelVersion:
    """Bring a version's files into `folder`, each checked before it is there; what lies there whole is not fetched.

    Raises `PublicationRefused` where anything is not what was signed, `ServerUnavailable`.
    """
    model, number = wished.route.model, wished.route.version
    name = f"Version {number} of {model}"
    try:
        stored = shelf.store.get(version_key(model, number, MANIFEST_FILE))
    except NotFound:
        raise PublicationRefused(
            f"{name} has no manifest at {shelf.name}: it was not published whole.", "`its serving publish` does so."
        ) from None
    manifest = read_manifest(key, stored, model, number)
    if manifest.digest != wished.digest:
        raise PublicationRefused(
            f"{name} is published with digest {manifest.digest[:12]}, wished is {wished.digest[:12]}.",
            PUT_AGAIN,
        )
    folder.mkdir(parents=True, exist_ok=True)
    for file in manifest.files:
        path = folder / file.name
        if path.is_file() and sha256(path.read_bytes()).hexdigest() == file.sha256:
            continue
        try:
            data = shelf.store.get(version_key(model, number, file.name))
        except NotFound:
            raise PublicationRefused(f"{name} has no {file.name} at {shelf.name}.", PUT_AGAIN) from None
        if (len(data), sha256(data).hexdigest()) != (file.size, file.sha256):
            raise PublicationRefused(
                f"{file.name} of version {number} of {model} is not the one that was signed: {len(data)} bytes "
                f"at {shelf.name}, of {file.size}, or others.",
                PUT_AGAIN,
            )
        write_file(path, data)
    return described(folder, wished)


def described(folder: Path, wished: Wished) -> ModelVersion:
    """The version as its publisher described it. Raises `PublicationRefused` for a description of another one."""
    name = f"version {wished.route.version} of {wished.route.model}"
    try:
        told: dict[str, Any] = json.loads((folder / DESCRIPTION_FILE).read_text("utf-8"))
        version = ModelVersion(
            name=str(told["name"]),
            version=int(told["version"]),
            run_id=str(told["run_id"]),
            digest="",
            dataset_version=str(told["dataset_version"]),
            family=contract_of(wished.route.model).family,
            image_size=read_size(told["image_size"]),
            classes=list(told["classes"]),
            thresholds=dict(told["thresholds"]),
            onnx_digest=str(told["onnx_digest"]).removeprefix("sha256:"),
            format=str(told["format"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PublicationRefused(f"The description of {name} cannot be read: {error!r}.") from error
    found = detector_name(version.family, version.image_size, version.format), version.version, version.onnx_digest
    if found != (wished.route.model, wished.route.version, wished.digest):
        raise PublicationRefused(
            f"What lies in {folder} is version {found[1]} of {found[0]} with digest {found[2][:12]}, wished is {name} "
            f"with {wished.digest[:12]}.",
            "A version is never changed: where the registry began anew, begin with an empty home for the host too.",
        )
    return version
