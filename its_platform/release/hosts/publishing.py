"""The truth about what is served, told to hosts elsewhere: the versions' files, their manifests, and the wish.

The open rows of `releases` and the files in this home's model repository enter; objects that hosts can check leave. The
manifest of a version is put after its files and the wish after all manifests, so that what was put half does not exist.
How a host follows is in `syncing.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from its_platform.errors import BadInput, NotFound
from its_platform.private_files import write_file
from its_platform.release.hosts.documents import (
    MANIFEST_FILE,
    PREFIX,
    WISH_KEY,
    Manifest,
    PublishedFile,
    Wish,
    Wished,
    read_manifest,
    read_wish,
    signed_wish,
    version_files,
    version_key,
    wish_from_json,
)
from its_platform.release.hosts.place import Shelf, publishing_shelf
from its_platform.release.hosts.signing import PublicationRefused, fingerprint, signing_folder, signing_key
from its_platform.release.truth import Lease, served_everywhere
from its_platform.release.upkeep import true_routes
from its_platform.serving.repository import flaw_of, placed_versions, served_models
from its_platform.settings import Settings
from its_platform.stores import Stores


@dataclass(frozen=True)
class Told:
    """What hosts were told last: where, signed by which key, and what."""

    shelf: str
    key: str
    wish: Wish


def publish(held: Lease, is_anew: bool = False) -> Told | None:
    """Have hosts be told of what is served now; None where this home publishes nothing, or never had anything to.

    is_anew: put every file and document again, whatever is there. Raises `ServerUnavailable` where the store is away,
    `BadInput` where it refuses: then hosts go on with what they were told before.
    """
    stores, settings = held.stores, held.stores.settings
    shelf, told = publishing_shelf(settings), last_told(settings)
    if shelf is None or (told is None and not served_everywhere(stores)):
        return None
    if not is_anew and not is_untold(stores):
        return told
    key, stages = signing_key(settings), true_wishes(stores)
    shelf.prepare()
    last = _last_generation(shelf, key, told, is_anew)
    for model, version, digest in sorted({(one.route.model, one.route.version, one.digest) for one in stages.values()}):
        _publish_version(settings, shelf, key, model, version, digest, is_anew)
    held.renew()
    # Seconds, so that it grows though all that is known here was lost; a clock that was set back does not lower it.
    generation = max(int(time.time()), last + 1)
    wish = Wish(generation, datetime.now(UTC), stages)
    shelf.store.put(WISH_KEY, signed_wish(key, wish))
    now = Told(shelf.name, fingerprint(key.public_key()), wish)
    facts = {"shelf": now.shelf, "key": now.key, "wish": wish.as_json()}
    write_file(_told_path(settings), json.dumps(facts, indent=1).encode())
    _prune(settings, shelf, wish)
    return now


def is_untold(stores: Stores) -> bool:
    """Whether hosts have yet to be told of what is served now; nothing but the table of releases is asked."""
    shelf, told = publishing_shelf(stores.settings), last_told(stores.settings)
    if shelf is None:
        return False
    stages = true_wishes(stores)
    if told is None:
        return bool(stages)
    key = fingerprint(signing_key(stores.settings).public_key())
    return (told.shelf, told.key, told.wish.stages) != (shelf.name, key, stages)


def last_told(settings: Settings) -> Told | None:
    """What hosts were told last; None where nothing ever was. Raises `BadInput` where that cannot be read."""
    path = _told_path(settings)
    try:
        read: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return Told(read["shelf"], read["key"], wish_from_json(read["wish"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, PublicationRefused) as error:
        raise BadInput(f"{path} cannot be read.", "Remove it: hosts are then told anew.") from error


def true_wishes(stores: Stores) -> Mapping[str, Wished]:
    """What each stage is served by, as the truth has it."""
    routes = true_routes(stores)
    return {
        name: Wished(routes[name], row.digest.removeprefix("sha256:"))
        for name, row in served_everywhere(stores).items()
    }


def _last_generation(shelf: Shelf, key: Ed25519PrivateKey, told: Told | None, is_anew: bool) -> int:
    """Of the last wish of this home; 0 before the first. Raises `BadInput` where another home publishes there.

    Each would remove what the other one has published.
    """
    public, known = key.public_key(), told.wish.generation if told is not None else 0
    if told is not None and (told.shelf, told.key) == (shelf.name, fingerprint(public)):
        return known
    try:
        return max(known, read_wish(public, shelf.store.get(WISH_KEY)).generation)
    except NotFound:
        return known
    except PublicationRefused as error:
        if is_anew:
            return known
        raise BadInput(
            f"{shelf.name} has a wish that this home did not sign: another one publishes there.",
            "Name another place; or, where that home is gone, take this one over: `its serving publish`.",
        ) from error


def _publish_version(
    settings: Settings, shelf: Shelf, key: Ed25519PrivateKey, model: str, version: int, digest: str, is_anew: bool
) -> None:
    folder = settings.model_repository / model / str(version)
    flaw = flaw_of(settings, model, version) or ("" if folder.is_dir() else "is not in the repository")
    if flaw:
        raise BadInput(f"Version {version} of {model} {flaw}.", "Run `its release reconcile`.")
    contents = {name: (folder / name).read_bytes() for name in version_files(model)}
    files = tuple(PublishedFile(name, len(data), sha256(data).hexdigest()) for name, data in contents.items())
    manifest = Manifest(model, version, digest, files)
    manifest_key = version_key(model, version, MANIFEST_FILE)
    if not is_anew and _published(shelf, key, model, version) == manifest:
        return
    shelf.store.delete(manifest_key)
    for name, data in contents.items():
        shelf.store.put(version_key(model, version, name), data)
    shelf.store.put(manifest_key, manifest.signed(key))


def _published(shelf: Shelf, key: Ed25519PrivateKey, model: str, version: int) -> Manifest | None:
    try:
        stored = shelf.store.get(version_key(model, version, MANIFEST_FILE))
        return read_manifest(key.public_key(), stored, model, version)
    except (NotFound, PublicationRefused):
        return None


def _prune(settings: Settings, shelf: Shelf, wish: Wish) -> None:
    """Remove versions that no stage has and this home does not keep either, their manifests first."""
    kept = {(one.route.model, str(one.route.version)) for one in wish.stages.values()}
    kept |= {(model, str(number)) for model in served_models(settings) for number in placed_versions(settings, model)}
    found = [key for key in shelf.store.list(f"{PREFIX}/") if key.count("/") == 3]
    spent = [key for key in found if tuple(key.split("/")[1:3]) not in kept]
    for key in sorted(spent, key=lambda key: not key.endswith(f"/{MANIFEST_FILE}")):
        shelf.store.delete(key)


def _told_path(settings: Settings) -> Path:
    return signing_folder(settings) / "told.json"
