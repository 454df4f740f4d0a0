"""What lies at a target is what was put there, or is told as damaged."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from its_platform.backup import Backup, Target, list_backups, open_target, prune_backups, verify_backup
from its_platform.backup import target as place
from its_platform.backup.target import BackupDamaged, claim
from its_platform.errors import BadInput, NotFound
from its_platform.settings import Settings
from its_platform.stores.objects import DirectoryStore, S3Store

FACTS: dict[str, Any] = {
    "platform": "p",
    "version": "1",
    "profile": "embedded",
    "home": "/somewhere",
    "postgres": 18,
    "tables_step": "0001",
    "left_out": [],
}
MOMENT = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(DirectoryStore(tmp_path / "target"), "target")


def back_up(target: Target, contents: dict[str, bytes], day: int = 1) -> Backup:
    members = [target.put_member(path, [data])[0] for path, data in contents.items()]
    facts = FACTS | {"members": len(members), "size": sum(member.size for member in members)}
    return target.put_backup(facts, MOMENT.replace(day=day), target.put_listing(members))


def blob_of(target: Target, data: bytes) -> Path:
    assert isinstance(target.store, DirectoryStore)
    return target.store.path(place.blob_key(hashlib.sha256(data).hexdigest()))


def test_content_of_any_size_comes_back_in_order(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "CHUNK", 4)
    for content in (b"", b"abc", b"abcd", b"abcdefghij"):
        member, _ = target.put_member("x", [content[:3], content[3:]])
        assert b"".join(target.read_member(member)) == content
        assert [member.size, len(member.chunks)] == [len(content), -(-len(content) // 4)]
        assert member.sha256 == hashlib.sha256(content).hexdigest()


def test_the_same_content_is_sent_once(target: Target) -> None:
    assert target.put_member("a", [b"frame"])[1] == 5
    assert target.put_member("b", [b"frame"])[1] == 0
    assert Target(target.store, "").put_member("c", [b"frame"])[1] == 0


def test_a_backup_is_there_from_its_manifest_on(target: Target) -> None:
    member, _ = target.put_member("a", [b"frame"])
    listing = target.put_listing([member])
    assert list_backups(target) == ([], {})
    made = target.put_backup(FACTS | {"members": 1, "size": 5}, MOMENT, listing)
    assert list_backups(target) == ([made], {})
    assert target.members(made) == [member]
    assert target.backup("latest") == made


def test_nobody_else_reads_what_is_half_written_and_what_a_killed_backup_left_is_removed(target: Target) -> None:
    assert isinstance(target.store, DirectoryStore)
    target.store.folder.mkdir()
    target.prepare()
    back_up(target, {"database/its.dump": b"passwords of cameras"})
    open_to_all = [path.name for path in target.store.folder.iterdir() if path.is_dir() and path.stat().st_mode & 0o077]
    assert open_to_all == []
    left = target.store.folder / ".unfinished" / "left"
    left.write_bytes(b"passwords of cam")
    os.utime(left, (1, 1))
    target.prepare()
    assert not left.exists()


def test_verify_names_what_is_missing_and_what_differs(target: Target) -> None:
    made = back_up(target, {"a": b"first", "b": b"second", "c": b"third"})
    assert verify_backup(target).is_whole
    blob_of(target, b"first").write_bytes(b"other")
    blob_of(target, b"second").unlink()
    verdict = verify_backup(target, made.id)
    assert set(verdict.problems) == {"a", "b"}
    assert "differs" in verdict.problems["a"]
    assert "missing" in verdict.problems["b"]


def test_a_manifest_that_was_changed_is_none(target: Target) -> None:
    made = back_up(target, {"a": b"first"})
    path = target.store.path(f"backups/{made.id}.json")  # type: ignore[union-attr]
    path.write_text(path.read_text().replace('"members": 1', '"members": 2'))
    with pytest.raises(BackupDamaged, match="was changed"):
        target.backup(made.id)
    found, wrong = list_backups(target)
    assert (found, list(wrong)) == ([], [made.id])


def test_a_manifest_whose_members_were_exchanged_is_damaged(target: Target) -> None:
    made = back_up(target, {"a": b"first"})
    assert isinstance(target.store, DirectoryStore)
    target.store.path(place.blob_key(made.listing.chunks[0])).write_bytes(b"[]")
    with pytest.raises(BackupDamaged, match="differs"):
        verify_backup(target)


def test_an_unknown_id_and_a_newer_schema_are_told(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="no backup latest"):
        target.backup("latest")
    monkeypatch.setattr(place, "SCHEMA", 2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(place, "_backup", lambda *_: None)
        back_up(target, {"a": b"first"})
    monkeypatch.setattr(place, "SCHEMA", 1)
    (name,) = place.backup_ids(target)
    with pytest.raises(BadInput, match="newer version"):
        target.backup(name)
    with pytest.raises(NotFound, match="no backup 2020"):
        target.backup("2020")


def test_pruning_removes_what_no_kept_backup_names(target: Target, settings: Settings) -> None:
    first = back_up(target, {"a": b"old", "b": b"both"}, day=1)
    second = back_up(target, {"b": b"both", "c": b"new"}, day=2)
    assert prune_backups(settings, target, keep=2) == []
    assert prune_backups(settings, target, keep=1) == [first.id]
    assert not blob_of(target, b"old").exists()
    assert [one.id for one in list_backups(target)[0]] == [second.id]
    assert verify_backup(target).is_whole
    with pytest.raises(BadInput, match="At least one"):
        prune_backups(settings, target, keep=0)


def test_nothing_is_pruned_where_a_manifest_cannot_be_read(target: Target, settings: Settings) -> None:
    back_up(target, {"a": b"old"}, day=1)
    second = back_up(target, {"c": b"new"}, day=2)
    target.store.put(f"backups/{second.id}.json", json.dumps({"broken": True}).encode())
    with pytest.raises(BackupDamaged, match="cannot be told"):
        prune_backups(settings, target, keep=1)
    assert blob_of(target, b"old").exists()
    assert blob_of(target, b"new").exists()


def test_nothing_is_pruned_where_a_kept_backup_has_no_list_any_more(target: Target, settings: Settings) -> None:
    first = back_up(target, {"a": b"old"}, day=1)
    second = back_up(target, {"c": b"new"}, day=2)
    assert isinstance(target.store, DirectoryStore)
    target.store.path(place.blob_key(second.listing.chunks[0])).unlink()
    with pytest.raises(BackupDamaged, match=f"What the backup {second.id} needs cannot be told") as told:
        prune_backups(settings, target, keep=1)
    assert f"remove backups/{second.id}.json" in told.value.hint
    assert blob_of(target, b"old").exists()
    target.store.delete(f"backups/{second.id}.json")
    assert prune_backups(settings, target, keep=1) == []
    assert verify_backup(target, first.id).is_whole
    assert not blob_of(target, b"new").exists()


def test_a_blob_that_a_bucket_finds_damaged_is_named_like_any_other(s3_server: Any) -> None:
    target = Target(S3Store(s3_server.address), "target")
    target.prepare()
    made = back_up(target, {"a": b"first", "b": b"second"})
    s3_server.contents[place.blob_key(hashlib.sha256(b"first").hexdigest())] = b"other"
    assert list(verify_backup(target, made.id).problems) == ["a"]


def test_a_target_belongs_to_one_platform(target: Target, settings: Settings, tmp_path: Path) -> None:
    settings.home.mkdir(parents=True)
    assert claim(settings, target) == claim(settings, target)
    stranger = settings.model_copy(update={"home": tmp_path / "stranger"})
    stranger.home.mkdir()
    with pytest.raises(BadInput, match="another platform"):
        claim(stranger, target)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (None, "No place for backups is set"),
        ("file:///nowhere/at/all", "There is no folder"),
        ("s3+https://key:secret@127.0.0.1:1/bucket", "secret on a command line"),
        ("ftp://host/folder", "cannot be read"),
    ],
)
def test_a_place_that_cannot_be_used_is_told(settings: Settings, address: str | None, said: str) -> None:
    with pytest.raises(BadInput, match=said) as told:
        open_target(settings, address)
    assert "ITS_BACKUP__URL" in told.value.hint
