"""A data key that is destroyed at home is gone at the target too, and none is lost by mistake."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from its_platform.backup import Target, forget_key, verify_backup
from its_platform.backup.keys import keys_folder, mirror_keys, restore_keys
from its_platform.errors import BadInput
from its_platform.settings import Settings
from its_platform.stores.keys import KeyFolder, Owner
from its_platform.stores.objects import DirectoryStore
from its_platform.stores.sealing import seal

NORTH = Owner("north", date(2026, 5, 1))


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(DirectoryStore(tmp_path / "target"), "target")


def write_key(settings: Settings, camera: str, day: str, content: str = "wrapped") -> Path:
    path = keys_folder(settings.home) / "data" / camera / f"{day}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def mark_destroyed(settings: Settings, camera: str, day: str) -> Path:
    path = keys_folder(settings.home) / "destroyed" / camera / f"{day}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("destroyed")
    return path


def mirrored(target: Target) -> list[str]:
    return list(target.store.list("keys/"))


def test_the_mirror_is_what_the_home_has_and_no_master_key(settings: Settings, target: Target) -> None:
    write_key(settings, "north", "2026-05-01")
    gone = write_key(settings, "north", "2026-05-02")
    for name in ("master/1.key", "ring.json", "platform.json", "destroyed/north/2026-04-01.json", ".keys.lock"):
        (settings.home / "keys" / name).parent.mkdir(parents=True, exist_ok=True)
        (settings.home / "keys" / name).write_text(name)
    others = ["keys/destroyed/north/2026-04-01.json", "keys/platform.json", "keys/ring.json"]
    assert mirror_keys(settings, target) == 2
    assert mirrored(target) == ["keys/data/north/2026-05-01.json", "keys/data/north/2026-05-02.json", *others]
    mark_destroyed(settings, "north", "2026-05-02")
    gone.unlink()
    assert mirror_keys(settings, target) == 1
    others.insert(1, "keys/destroyed/north/2026-05-02.json")
    assert mirrored(target) == ["keys/data/north/2026-05-01.json", *others]


def test_a_key_whose_destruction_was_cut_off_is_gone_already(settings: Settings, target: Target) -> None:
    write_key(settings, "north", "2026-05-01")
    mirror_keys(settings, target)
    mark_destroyed(settings, "north", "2026-05-01")
    assert mirror_keys(settings, target) == 0
    assert mirrored(target) == ["keys/destroyed/north/2026-05-01.json"]


def test_a_key_that_was_wrapped_anew_replaces_the_old(settings: Settings, target: Target) -> None:
    write_key(settings, "north", "2026-05-01", "by the first master key")
    mirror_keys(settings, target)
    write_key(settings, "north", "2026-05-01", "by the second")
    mirror_keys(settings, target)
    assert target.store.get("keys/data/north/2026-05-01.json") == b"by the second"


def test_a_key_is_forgotten_at_once(settings: Settings, target: Target) -> None:
    write_key(settings, "north", "2026-05-01")
    write_key(settings, "south", "2026-05-01")
    mirror_keys(settings, target)
    forget_key(settings, target, "north", "2026-05-01")
    forget_key(settings, target, "north", "2026-05-01")
    assert mirrored(target) == ["keys/data/south/2026-05-01.json"]
    with pytest.raises(BadInput):
        forget_key(settings, target, "../..", "x")


@pytest.mark.parametrize("lost", ["", "platform.json", "data", "data/north", "data/north/2026-05-01.json"])
def test_a_key_that_was_lost_and_not_destroyed_is_not_erased(settings: Settings, target: Target, lost: str) -> None:
    assert mirror_keys(settings, target) == 0
    for day in ("2026-05-01", "2026-05-02"):
        write_key(settings, "north", day)
        write_key(settings, "south", day)
    (keys_folder(settings.home) / "platform.json").write_text("wrapped")
    mirror_keys(settings, target)
    before = mirrored(target)
    path = keys_folder(settings.home) / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(BadInput, match=r"lacks \d keys that target has and that were not destroyed"):
        mirror_keys(settings, target)
    assert mirrored(target) == before


def test_restored_keys_are_readable_by_their_owner_alone(settings: Settings, target: Target, tmp_path: Path) -> None:
    write_key(settings, "north", "2026-05-01")
    mirror_keys(settings, target)
    assert restore_keys(tmp_path / "new", target) == 1
    path = keys_folder(tmp_path / "new") / "data" / "north" / "2026-05-01.json"
    assert path.read_text() == "wrapped"
    assert path.stat().st_mode & 0o777 == 0o600


def sealed_backup(settings: Settings, target: Target, owner: Owner) -> str:
    """A backup of one object that is sealed by this owner's key, which is mirrored; the path of the key's copy."""
    key = KeyFolder(keys_folder(settings.home)).for_sealing(owner)
    member, _ = target.put_member("objects/frame", [seal(key, "frame", b"pixels")])
    listing = target.put_listing([member])
    facts = {"platform": "its", "version": "1", "profile": "embedded", "home": "/home", "postgres": 18}
    facts |= {"tables_step": "0001", "left_out": [], "members": 1, "size": member.size}
    target.put_backup(facts, datetime(2026, 5, 2, tzinfo=UTC), listing)
    mirror_keys(settings, target)
    return f"keys/data/{owner}.json"


def test_verify_names_what_no_key_at_the_target_opens(settings: Settings, target: Target) -> None:
    copy = sealed_backup(settings, target, NORTH)
    assert verify_backup(target).problems == {}
    kept = target.store.get(copy)
    target.store.erase(copy)
    assert "was sealed by the key north/2026-05-01" in verify_backup(target).problems["objects/frame"]
    target.store.put(copy, kept[:20])
    assert list(verify_backup(target).problems) == [copy, "objects/frame"]
    target.store.put(copy, kept.replace(json.loads(kept)["number"].encode(), b"0" * 16))
    assert list(verify_backup(target).problems) == ["objects/frame"]
    mirror_keys(settings, target)
    assert verify_backup(target).is_whole


def test_verify_misses_no_key_that_was_destroyed(settings: Settings, target: Target) -> None:
    sealed_backup(settings, target, NORTH)
    KeyFolder(keys_folder(settings.home)).destroy(NORTH, by="anna")
    forget_key(settings, target, "north", "2026-05-01")
    assert mirrored(target) == ["keys/destroyed/north/2026-05-01.json", "keys/ring.json"]
    assert verify_backup(target).is_whole


class Meanwhile(DirectoryStore):
    """A target at which something happens at home before one of its requests is answered."""

    def __init__(self, folder: Path, request: str, happens: Callable[[], None]) -> None:
        super().__init__(folder)
        self.request = request
        self.happens = happens

    def get(self, key: str) -> bytes:
        self._at("get", key)
        return super().get(key)

    def put(self, key: str, data: bytes) -> None:
        self._at("put", key)
        super().put(key, data)

    def list(self, prefix: str = "") -> Iterator[str]:
        found = list(super().list(prefix))
        self._at("list", prefix)
        return iter(found)

    def _at(self, request: str, key: str) -> None:
        if request == self.request and (request == "list" or key.endswith("north/2026-05-01.json")):
            self.request = ""
            self.happens()


@pytest.mark.parametrize("before", ["list", "get", "put"])
@pytest.mark.parametrize("is_mirrored", [True, False])
def test_a_key_that_is_destroyed_while_it_is_mirrored_is_gone_at_the_target(
    settings: Settings, target: Target, tmp_path: Path, before: str, is_mirrored: bool
) -> None:
    path = write_key(settings, "north", "2026-05-01")
    write_key(settings, "south", "2026-05-01")
    if is_mirrored:
        mirror_keys(settings, target)
        path.write_text("wrapped anew")

    def destroy() -> None:
        mark_destroyed(settings, "north", "2026-05-01")
        path.unlink()
        forget_key(settings, target, "north", "2026-05-01")

    mirror_keys(settings, Target(Meanwhile(tmp_path / "target", before, destroy), "target"))
    assert mirrored(target)[0] == "keys/data/south/2026-05-01.json"
