"""Documents that only one home can have written: JSON with an Ed25519 signature, and the key that makes it.

The private key is made on first use below `home/signing`, readable by its owner alone; hosts get the public one. What
is signed says what kind of document it is, so that none can stand in for another kind.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from its_platform.errors import BadInput, PermanentError
from its_platform.private_files import alone, write_file
from its_platform.settings import Settings


class PublicationRefused(PermanentError):
    """What lies in the store is not, or not wholly, what its publisher signed."""


def signing_folder(settings: Settings) -> Path:
    return settings.home / "signing"


def signing_key(settings: Settings) -> Ed25519PrivateKey:
    """The key of this home, drawn when it is first asked for. Raises `BadInput` for a file that holds none."""
    path = signing_folder(settings) / "hosts.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone(path.with_name(".lock")):
            if not path.exists():
                made = Ed25519PrivateKey.generate()
                write_file(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), is_secret=True)
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except ValueError as error:
        raise BadInput(
            f"{path} holds no key.", "Restore it from a copy, or remove it and give each host the new one."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"{path} holds a key of another kind.", "An Ed25519 key is wanted.")
    return key


def public_pem(key: Ed25519PrivateKey) -> bytes:
    """What a host is given."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_public(path: Path) -> Ed25519PublicKey:
    """The publisher's key, as a host has it. Raises `BadInput`."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except FileNotFoundError as error:
        raise BadInput(
            f"The publisher's key {path} is missing.", "`its serving host` writes it where versions are released."
        ) from error
    except ValueError as error:
        raise BadInput(f"{path} holds no public key.", "`its serving host` writes one.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadInput(f"{path} holds a key of another kind.", "An Ed25519 key is wanted.")
    return key


def fingerprint(key: Ed25519PublicKey) -> str:
    """A short name of a key."""
    return sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def sign(key: Ed25519PrivateKey, kind: str, document: dict[str, Any]) -> bytes:
    """The document with its signature, as it is stored."""
    text = json.dumps(document, sort_keys=True)
    signature = b64encode(key.sign(_signed(kind, text))).decode()
    return json.dumps({"document": text, "signature": signature}, indent=1).encode()


def verified(key: Ed25519PublicKey, kind: str, stored: bytes, name: str) -> dict[str, Any]:
    """The document, once its signature was found to be this key's. Raises `PublicationRefused` naming it otherwise."""
    try:
        read = json.loads(stored)
        text, signature = read["document"], b64decode(read["signature"], validate=True)
        key.verify(signature, _signed(kind, text))
        document = json.loads(text)
    except InvalidSignature:
        raise PublicationRefused(
            f"{name} is not signed by the publisher whose key this host has ({fingerprint(key)}).",
            "Somebody else wrote it; or the publisher has a new key, which `its serving host` hands out.",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PublicationRefused(f"{name} is no signed document.", "`its serving publish` writes it anew.") from error
    if not isinstance(document, dict):
        raise PublicationRefused(f"{name} is no signed document.", "`its serving publish` writes it anew.")
    return document


def _signed(kind: str, text: str) -> bytes:
    return f"its-platform {kind} 1\n{text}".encode()
