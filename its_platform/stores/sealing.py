"""The layer above all stores: objects are sealed with AES-256-GCM on their way in and opened on their way out.

A sealed object is `BEGIN`, the length of the key's name, the name, a nonce, the ciphertext with its tag, and `END`. The
header and the object's own key are authenticated with it, so that a changed byte and two swapped objects are noticed.
What has neither `BEGIN` nor `END` was stored unsealed and is read as it is.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from its_platform.errors import BadInput, NotFound
from its_platform.stores.keys import NONCE_BYTES, PLATFORM, DataKey, KeyStore, MasterKeyMissing, Owner
from its_platform.stores.object_store import ObjectDamaged, ObjectStore, check_key

BEGIN, END = b"ITS\x00SEAL\x01", b"\x01LAES\x00STI"
MARKER = "sealed.json"
"""Object that says by which ring of keys a store is sealed; it is no sealed object itself, and not listed."""
# A header may have been forged: its name leads to a file.
_NAME = re.compile(rf"({PLATFORM}|[a-z0-9][a-z0-9_.-]*/\d{{4}}-\d\d-\d\d)/([0-9a-f]{{16}})")
# AES-GCM of one message, less what the header takes.
LARGEST = 2**31 - 1024


def seal(key: DataKey, object_key: str, data: bytes) -> bytes:
    """The sealed object. Raises `BadInput` for one of 2 GB and more."""
    if len(data) > LARGEST:
        raise BadInput(f"{object_key} has {len(data) / 1e9:.1f} GB; an object has at most 2.", "Store it in parts.")
    name = f"{key.name}/{key.number}".encode()
    header = BEGIN + bytes([len(name)]) + name
    nonce = os.urandom(NONCE_BYTES)
    return b"".join((header, nonce, AESGCM(key.secret).encrypt(nonce, data, header + object_key.encode()), END))


def is_sealed(data: bytes) -> bool:
    """Whether these are the bytes of a sealed object, be they damaged or cut."""
    return data.startswith(BEGIN) or data.endswith(END)


def sealed_by(data: bytes) -> tuple[str, str] | None:
    """Name and number of the key that an object's beginning says it was sealed with; None for any other bytes."""
    start = len(BEGIN) + 1
    if not data.startswith(BEGIN) or len(data) < start:
        return None
    named = _NAME.fullmatch(data[start : start + data[start - 1]].decode("latin-1"))
    return None if named is None else (named[1], named[2])


def unseal(keys: KeyStore, object_key: str, sealed: bytes) -> bytes:
    """What was sealed. Raises `ObjectDamaged` where any byte is not the one that was stored, and errors of `keys`."""
    start, stop = len(BEGIN) + 1, len(sealed) - len(END)
    if stop < start or not (sealed.startswith(BEGIN) and sealed.endswith(END)):
        raise _damaged(object_key)
    nonce = start + sealed[start - 1]
    body = nonce + NONCE_BYTES
    named = sealed_by(sealed)
    if named is None or body > stop:
        raise _damaged(object_key)
    key = keys.for_opening(*named)
    try:
        # A view: a frame is not copied once more to be opened.
        ciphertext = memoryview(sealed)[body:stop]
        return AESGCM(key.secret).decrypt(sealed[nonce:body], ciphertext, sealed[:nonce] + object_key.encode())
    except InvalidTag:
        raise _damaged(object_key) from None


class SealedStore:
    """An object store whose objects are sealed on their way in and opened on their way out.

    is_sealing: whether new objects are sealed; sealed ones are opened either way.
    """

    def __init__(self, inner: ObjectStore, keys: KeyStore, is_sealing: bool = True) -> None:
        self.inner = inner
        self.keys = keys
        self.is_sealing = is_sealing
        self._ring: str | None = None
        self._guard = threading.Lock()

    def __repr__(self) -> str:
        return f"SealedStore({self.inner!r})"

    def put(self, key: str, data: bytes, owner: Owner | None = None) -> None:
        """Store an object of this camera and day, or of the platform.

        Raises `KeyDestroyed` where what belongs to `owner` was erased, and `MasterKeyMissing` where the store is sealed
        by keys that are not here.
        """
        check_key(key)
        if self.is_sealing:
            self._claim()
            self.inner.put(key, seal(self.keys.for_sealing(owner), key, data))
        elif is_sealed(data):
            raise BadInput(f"{key} looks like a sealed object and is not to be sealed.", "Set objects.sealed.")
        else:
            self.inner.put(key, data)

    def get(self, key: str) -> bytes:
        """The object as it was put. Raises `NotFound`, and what `unseal` raises."""
        data = self.inner.get(key)
        return unseal(self.keys, key, data) if is_sealed(data) else data

    def is_sealed(self, key: str) -> bool:
        """Whether this object is sealed. Raises `NotFound`."""
        return is_sealed(self.inner.get(key))

    def exists(self, key: str) -> bool:
        return self.inner.exists(key)

    def list(self, prefix: str = "") -> Iterator[str]:
        return (key for key in self.inner.list(prefix) if key != MARKER)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def _claim(self) -> None:
        """See that this store is sealed by these keys, or by none yet, and then say so in it."""
        with self._guard:
            # Each time: a folder of keys may go while this process lives, and nothing else would keep it from new ones.
            own = self.keys.ring()
            if own is not None and own == self._ring:
                return
            try:
                sealed_by = json.loads(self.inner.get(MARKER))["ring"]
            except NotFound:
                sealed_by = None
            except (ValueError, KeyError, TypeError) as error:
                raise ObjectDamaged(f"{MARKER} in the object store cannot be read.", "Restore it.") from error
            if sealed_by is not None and own != sealed_by:
                raise MasterKeyMissing(
                    f"The object store is sealed by the keys {sealed_by}, and this home has "
                    f"{'none' if own is None else own}.",
                    "Bring them here: `its keys export` where they are, `its keys import` here; or set objects.keys.",
                )
            if sealed_by is None:
                own = self.keys.begin()
                self.inner.put(MARKER, json.dumps({"ring": own}).encode())
            self._ring = own


def _damaged(object_key: str) -> ObjectDamaged:
    return ObjectDamaged(
        f"The object {object_key} was changed since it was stored.", "Restore it from a copy of the object store."
    )
