"""The keys that seal objects: one for each camera and day of capture, each wrapped by the master key.

Enters: whose footage is to be sealed or opened. Leaves: a data key. Destroying a data key erases everything that it
sealed, wherever copies of that lie. `KeyStore` is what sealing asks for, and what a key management service would have
to answer; `KeyFolder` keeps the keys as files. How an object is sealed is the business of `sealing.py`.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from its_platform.errors import BadInput, NotFound, PermanentError
from its_platform.private_files import alone, write_file
from its_platform.stores.audit import Action
from its_platform.stores.journal import Journal
from its_platform.telemetry import get_log

LOG = get_log(__name__)
KEY_BYTES = 32
NONCE_BYTES = 12
PLATFORM = "platform"
"""Name of the key of what belongs to no camera."""
# Keys that a process keeps unwrapped: a hundred cameras over a month.
_KEPT = 4096


class MasterKeyMissing(PermanentError):
    """Keys or objects were made with a master key that is not here; a new one could not open them."""


class MasterKeyWrong(PermanentError):
    """A master key's file does not hold the key that it is named for."""


class DataKeyMissing(PermanentError):
    """An object was sealed with a data key that is not here."""


class DataKeyDamaged(PermanentError):
    """A data key's file cannot be read or unwrapped."""


class KeyDestroyed(PermanentError):
    """What this key sealed was erased."""


@dataclass(frozen=True, order=True)
class Owner:
    """Whose footage an object is: what one data key seals, and what destroying it erases. day: of capture, in UTC."""

    camera_id: str
    day: date

    @classmethod
    def of(cls, camera_id: str, captured_at: datetime) -> Owner:
        return cls(camera_id, captured_at.astimezone(UTC).date())

    def __str__(self) -> str:
        return f"{self.camera_id}/{self.day.isoformat()}"


@dataclass(frozen=True)
class DataKey:
    """An unwrapped key. `number` tells it from any other that was ever made under the same name."""

    name: str
    number: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class KeyFacts:
    """What is known of a key without unwrapping it. state: in use, destroyed."""

    name: str
    state: str
    at: str
    master: str | None
    by: str | None = None
    why: str | None = None


class KeyStore(Protocol):
    """Where data keys come from. `ring` names the whole set of keys; it stays the same when the master key changes."""

    def ring(self) -> str | None: ...
    def begin(self) -> str: ...
    def for_sealing(self, owner: Owner | None) -> DataKey: ...
    def for_opening(self, name: str, number: str) -> DataKey: ...
    def destroyed(self) -> set[Owner]: ...


class KeyFolder:
    """Keys as files: `ring.json`, `master/*.key`, `data/CAMERA/DAY.json`, `platform.json`, `destroyed/CAMERA/DAY.json`.

    Every file is readable by its owner alone. Processes of one machine meet on one key by the lock in the folder.
    """

    def __init__(self, folder: Path, journal: Journal | None = None) -> None:
        self.folder = folder
        self._journal = journal
        self._kept: dict[Path, tuple[tuple[int, int], DataKey]] = {}
        self._guard = threading.Lock()

    def ring(self) -> str | None:
        """Name of the set of keys, None before the first key was made. Raises `DataKeyDamaged`."""
        known = self._read(self.folder / "ring.json")
        return None if known is None else str(known["ring"])

    def begin(self) -> str:
        """Make the master key where there is none yet; the ring. Raises `MasterKeyMissing` where there was one."""
        with self._alone():
            known = self._read(self.folder / "ring.json")
            if known is None:
                if any(self.data_files()):
                    raise MasterKeyMissing(f"{self.folder / 'ring.json'} is missing beside its keys.", _PUT_BACK)
                with self.recorded("key.made", "master key") as detail:
                    known = {"ring": secrets.token_hex(8), "master": self._make_master()}
                    self._write(self.folder / "ring.json", known)
                    detail |= known
            return str(known["ring"])

    def for_sealing(self, owner: Owner | None) -> DataKey:
        """The key of a camera and day, or of the platform; made when it is first asked for.

        Raises `KeyDestroyed`, and `MasterKeyMissing`, `MasterKeyWrong`, `DataKeyDamaged` where keys were lost.
        """
        name = PLATFORM if owner is None else str(owner)
        found = self._load(name)
        if found is None:
            self.begin()
            with self._alone():
                found = self._load(name) or self._make(name)
        return found

    def for_opening(self, name: str, number: str) -> DataKey:
        """The key that sealed an object. Raises `DataKeyMissing`, and what `for_sealing` raises."""
        found = self._load(name)
        if found is None:
            raise DataKeyMissing(f"The key {name} is not in {self.folder}.", _PUT_BACK)
        if found.number != number:
            raise DataKeyMissing(
                f"The key {name} in {self.folder} is not the one that sealed this ({found.number}, not {number}).",
                _PUT_BACK,
            )
        return found

    def destroy(self, owner: Owner, by: str, why: str = "") -> None:
        """Destroy the key, once for all: nothing that it sealed can be opened, nothing new is sealed for its owner.

        Raises `NotFound` where there is no such key. One that was cut off is finished by doing it again.
        """
        path, mark = self._path(str(owner)), self._mark(str(owner))
        with self.recorded("key.destroyed", str(owner), by, why), self._alone():
            if not path.exists() and not mark.exists():
                raise NotFound(f"There is no key {owner}.", "`its keys list` names them.")
            if not mark.exists():
                at = datetime.now(UTC).isoformat(timespec="seconds")
                self._write(mark, {"name": str(owner), "at": at, "by": by, "why": why})
            path.unlink(missing_ok=True)

    def recorded(
        self, action: Action, subject: str, by: str = "", why: str = ""
    ) -> AbstractContextManager[dict[str, Any]]:
        """Have a block of code recorded where the audit trail of these keys is known."""
        if self._journal is None:
            return nullcontext({})
        return self._journal.step(action, subject, by, why)

    def destroyed(self) -> set[Owner]:
        """Whose keys were destroyed."""
        marks = (self.folder / "destroyed").glob("*/*.json")
        return {Owner(path.parent.name, date.fromisoformat(path.stem)) for path in marks}

    def facts(self) -> list[KeyFacts]:
        """Every key that is in use or was destroyed, by name."""
        used = [self._read(path) or {} for path in self.data_files() if not self._is_marked(path)]
        gone = [self._read(path) or {} for path in (self.folder / "destroyed").glob("*/*.json")]
        found = [KeyFacts(one["name"], "in use", one["at"], one["master"]) for one in used if one]
        found += [KeyFacts(one["name"], "destroyed", one["at"], None, one["by"], one["why"]) for one in gone if one]
        return sorted(found, key=lambda one: one.name)

    def rotate(self) -> tuple[str, int]:
        """Wrap every data key by a new master key; its id and how many were wrapped.

        What was killed in its midst is finished by the next call: until all keys are wrapped by the newest master key,
        no newer one is made, and an old one is removed when nothing is wrapped by it. Objects stay as they are.
        """
        self.begin()
        with self.recorded("key.rotated", "master key") as detail, self._alone("rotation"):
            with self._alone():
                known = self._read(self.folder / "ring.json") or {}
                if not any(True for _ in self._wrapped_by_others(known["master"])):
                    known["master"] = self._make_master()
                    self._write(self.folder / "ring.json", known)
            wrapped = 0
            for path in list(self._wrapped_by_others(known["master"])):
                # Lock by lock: a camera that begins a new day in the meantime need not wait for all of them.
                with self._alone():
                    if (entry := self._read(path)) is not None:
                        self._write(path, self._wrapped(self._unwrap(path, entry), known["master"], entry["at"]))
                        wrapped += 1
            with self._alone():
                for path in (self.folder / "master").glob("*.key"):
                    if path.stem != known["master"]:
                        path.unlink()
            detail |= {"master": known["master"], "wrapped": wrapped}
        return known["master"], wrapped

    def check(self) -> tuple[int, list[Path]]:
        """How many data keys there are, and which files others could read.

        Raises `MasterKeyMissing`, `MasterKeyWrong`, `DataKeyDamaged` where one could not be opened.
        """
        paths = list(self.data_files())
        for path in paths:
            self._opened(path)
        secret = [*paths, self.folder / "ring.json", *(self.folder / "master").glob("*.key")]
        return len(paths), [path for path in secret if path.stat().st_mode & 0o077]

    def held(self) -> dict[str, Any] | None:
        """All keys as one value, the data keys wrapped; None before the first was made."""
        with self._alone():
            known = self._read(self.folder / "ring.json")
            if known is None:
                return None
            paths = [*self.data_files(), *(self.folder / "destroyed").glob("*/*.json")]
            masters = [self._master(path.stem).hex() for path in (self.folder / "master").glob("*.key")]
            files = {path.relative_to(self.folder).as_posix(): self._read(path) for path in paths}
            return {**known, "masters": masters, "files": files}

    def take(self, held: dict[str, Any]) -> tuple[int, int]:
        """Add what `held` gave, here or elsewhere; how many data keys are new, and how many were destroyed by it.

        What is here and can be opened stays, and so does what was destroyed here. Raises `BadInput` for keys of another
        ring.
        """
        # A rotation would remove the master keys that come.
        with self._alone("rotation"), self._alone():
            known = self._read(self.folder / "ring.json")
            if known is not None and known["ring"] != held["ring"]:
                raise BadInput(
                    f"{self.folder} holds the keys {known['ring']}, and these are {held['ring']}.",
                    "Bring them to the home that they belong to.",
                )
            for secret in held["masters"]:
                self._write_master(bytes.fromhex(secret))
            if known is None or not (self.folder / "master" / f"{known['master']}.key").exists():
                # Of a restored home there may be the wrapped keys alone, and what is new is to be wrapped by a key.
                self._write(self.folder / "ring.json", {"ring": held["ring"], "master": held["master"]})
            new = destroyed = 0
            for name, entry in sorted(held["files"].items(), reverse=True):
                path, mark = self._path(entry["name"]), self._mark(entry["name"])
                if name.startswith("destroyed/") and not mark.exists():
                    self._write(mark, entry)
                    path.unlink(missing_ok=True)
                    destroyed += 1
                elif not name.startswith("destroyed/") and not mark.exists():
                    new += self._take(path, entry)
            return new, destroyed

    def _take(self, path: Path, entry: dict[str, Any]) -> bool:
        """Add a data key unless it is here and can be opened; whether it was added. Whoever asks holds the lock."""
        try:
            here = self._read(path)
            if here is not None and here.get("number") not in (None, entry["number"]):
                # Two homes made one each. What the other sealed by it is read there alone.
                LOG.warning(
                    "another key of this name is here",
                    owner=entry["name"],
                    kept=here["number"],
                    left_out=entry["number"],
                )
                return False
            if here is not None:
                self._unwrap(path, here)
                return False
        except (DataKeyDamaged, MasterKeyMissing, MasterKeyWrong):
            LOG.warning("a key that could not be opened is replaced", owner=entry["name"])
        self._write(path, entry)
        return True

    def data_files(self) -> Iterator[Path]:
        """Files of the data keys, the platform's among them."""
        yield from sorted((self.folder / "data").glob("*/*.json"))
        if (self.folder / f"{PLATFORM}.json").exists():
            yield self.folder / f"{PLATFORM}.json"

    def _path(self, name: str) -> Path:
        return self.folder / f"{PLATFORM}.json" if name == PLATFORM else self.folder / "data" / f"{name}.json"

    def _master(self, number: str) -> bytes:
        """A master key. Raises `MasterKeyMissing` and `MasterKeyWrong`."""
        path = self.folder / "master" / f"{number}.key"
        try:
            secret = bytes.fromhex(path.read_text("ascii"))
        except FileNotFoundError:
            raise MasterKeyMissing(f"The master key {path} is missing.", _PUT_BACK) from None
        except ValueError:
            secret = b""
        if len(secret) != KEY_BYTES or _number_of(secret) != number:
            raise MasterKeyWrong(f"{path} does not hold the master key {number}.", _PUT_BACK)
        return secret

    def _make_master(self) -> str:
        """A new master key's number; whoever asks holds the lock."""
        secret = secrets.token_bytes(KEY_BYTES)
        self._write_master(secret)
        return _number_of(secret)

    def _write_master(self, secret: bytes) -> None:
        path = self.folder / "master" / f"{_number_of(secret)}.key"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(path, secret.hex().encode(), is_secret=True)

    def _write(self, path: Path, entry: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(path, json.dumps(entry, indent=1).encode(), is_secret=True)

    def _alone(self, what: str = "keys") -> Any:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return alone(self.folder / f".{what}.lock")

    def _mark(self, name: str) -> Path:
        return self.folder / "destroyed" / f"{name}.json"

    def _is_marked(self, path: Path) -> bool:
        """Whether a key's destruction was begun, and perhaps cut off before its file was removed."""
        return self._mark(f"{path.parent.name}/{path.stem}").exists()

    def _load(self, name: str) -> DataKey | None:
        """The key of this name, None where there is none. A key that another process changed is read anew."""
        if name != PLATFORM and (mark := self._read(self._mark(name))) is not None:
            raise KeyDestroyed(f"The footage of {name} was erased: its key was destroyed {mark['at']}.", _ERASED)
        path = self._path(name)
        try:
            state = path.stat()
        except FileNotFoundError:
            return None
        stamp = (state.st_mtime_ns, state.st_ino)
        with self._guard:
            kept = self._kept.get(path)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        found = self._opened(path)
        if found is None:
            return None
        if found.name != name:
            raise DataKeyDamaged(f"{path} holds the key {found.name}.", _PUT_BACK)
        with self._guard:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[path] = (stamp, found)
        return found

    def _make(self, name: str) -> DataKey:
        master = (self._read(self.folder / "ring.json") or {})["master"]
        made = DataKey(name, secrets.token_hex(8), secrets.token_bytes(KEY_BYTES))
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self._write(self._path(name), self._wrapped(made, master, at))
        return made

    def _wrapped(self, key: DataKey, master: str, at: str) -> dict[str, Any]:
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + AESGCM(self._master(master)).encrypt(nonce, key.secret, _about(key.name, key.number))
        return {
            "name": key.name,
            "number": key.number,
            "at": at,
            "master": master,
            "wrapped": b64encode(sealed).decode(),
        }

    def _unwrap(self, path: Path, entry: dict[str, Any]) -> DataKey:
        try:
            name, number, sealed = entry["name"], entry["number"], b64decode(entry["wrapped"], validate=True)
            opened = AESGCM(self._master(entry["master"]))
            secret = opened.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _about(name, number))
        except (KeyError, TypeError, ValueError, InvalidTag) as error:
            raise DataKeyDamaged(f"The key in {path} was changed and cannot be unwrapped.", _PUT_BACK) from error
        return DataKey(name, number, secret)

    def _opened(self, path: Path) -> DataKey | None:
        """The key in a file; None where there is none."""
        entry = self._read(path)
        while entry is not None:
            try:
                return self._unwrap(path, entry)
            except MasterKeyMissing:
                # A rotation may have wrapped it anew since it was read, and removed the master key of before.
                before, entry = entry, self._read(path)
                if entry == before:
                    raise
        return None

    def _wrapped_by_others(self, master: str) -> Iterator[Path]:
        for path in self.data_files():
            entry = self._read(path)
            if entry is not None and entry.get("master") != master:
                yield path

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            entry = json.loads(path.read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise DataKeyDamaged(f"{path} cannot be read.", _PUT_BACK) from error
        if not isinstance(entry, dict):
            raise DataKeyDamaged(f"{path} cannot be read.", _PUT_BACK)
        return entry


_PUT_BACK = "Put the keys back: `its keys import FILE`, or the folder from a copy."
_ERASED = "That is final; build datasets anew without it."


def _number_of(master: bytes) -> str:
    """What a master key is known by, which says nothing about it."""
    return sha256(b"its master key\n" + master).hexdigest()[:16]


def _about(name: str, number: str) -> bytes:
    return f"its data key\n{name}\n{number}".encode()
