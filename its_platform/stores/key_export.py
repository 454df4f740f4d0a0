"""The keys of a home in one file for a safe, sealed with a passphrase: the master key, and all data keys wrapped by it.

A data key that was destroyed after the export is still in the file: destroy old exports as well. Importing never brings
a key back that was destroyed where it is imported, and destroys here what was destroyed where the file came from.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from its_platform.errors import BadInput, NotFound
from its_platform.private_files import write_file
from its_platform.stores.keys import KEY_BYTES, NONCE_BYTES, KeyFolder

SHORTEST_PASSPHRASE = 12
# 128 MB and some tenths of a second for each guess.
_COST = {"n": 2**17, "r": 8, "p": 1}
_MOST_COST = 2**20
_FORMAT = "its keys 1"


def export_keys(keys: KeyFolder, path: Path, passphrase: str) -> int:
    """Write the keys to a new file; how many data keys it holds.

    Raises `BadInput` for a short passphrase and a file that is there, `NotFound` where there are no keys yet.
    """
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise BadInput(f"The passphrase has fewer than {SHORTEST_PASSPHRASE} characters.", "Take a longer one.")
    if path.exists():
        raise BadInput(f"{path} is there already.", "Name a new file.")
    held = keys.held()
    if held is None:
        raise NotFound(f"There are no keys in {keys.folder} yet.", "The first sealed object makes them.")
    salt, nonce = os.urandom(16), os.urandom(NONCE_BYTES)
    about: dict[str, Any] = {"format": _FORMAT, **_COST, "salt": b64encode(salt).decode()}
    sealed = AESGCM(_derived(passphrase, about)).encrypt(nonce, json.dumps(held).encode(), _FORMAT.encode())
    about["sealed"] = b64encode(nonce + sealed).decode()
    count = sum(not name.startswith("destroyed/") for name in held["files"])
    with keys.recorded("key.exported", str(path.absolute())) as detail:
        detail["data_keys"] = count
        write_file(path, (json.dumps(about, indent=1) + "\n").encode(), is_secret=True)
    return count


def import_keys(keys: KeyFolder, path: Path, passphrase: str) -> tuple[int, int]:
    """Bring the keys of such a file here; how many data keys are new, and how many were destroyed by it.

    Raises `BadInput` for another file, a wrong passphrase, and keys of another ring than those that are here.
    """
    try:
        about = json.loads(path.read_text("utf-8"))
        sealed = b64decode(about["sealed"], validate=True)
        if about["format"] != _FORMAT:
            raise ValueError
        secret = _derived(passphrase, about)
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} holds no exported keys.", "`its keys export FILE` writes such a file.") from error
    try:
        held = json.loads(AESGCM(secret).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _FORMAT.encode()))
    except InvalidTag:
        raise BadInput(f"The passphrase does not open {path}, or the file was changed.", "Try another copy.") from None
    with keys.recorded("key.imported", str(path.absolute())) as detail:
        new, destroyed = keys.take(held)
        detail |= {"new": new, "destroyed": destroyed}
    return new, destroyed


def _derived(passphrase: str, about: dict[str, Any]) -> bytes:
    cost = {name: int(about[name]) for name in _COST}
    if not 2**14 <= cost["n"] * cost["r"] * cost["p"] // 8 <= _MOST_COST:
        raise ValueError("a cost that nobody chose")
    return Scrypt(salt=b64decode(about["salt"]), length=KEY_BYTES, **cost).derive(passphrase.encode())
