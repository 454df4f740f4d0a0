"""What a bucket is asked to do, what it says when it cannot, and what expires."""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from its_platform.settings import Settings
from its_platform.stores.objects import DirectoryStore, S3Store, open_plain
from its_platform.stores.retention import Retention, Version, arrange, expire, expired, lacking

NOW = datetime(2026, 5, 31, tzinfo=UTC)
KEPT = Retention(raw_days=20, replaced_days=7)


def version(number: str, days_ago: float, is_mark: bool = False, is_latest: bool = False) -> Version:
    return Version(number, NOW - timedelta(days=days_ago), is_mark, is_latest)


def removed(*versions: Version, wanted: Retention = KEPT, is_raw: bool = True) -> list[str | None]:
    return [one.number for one in expired(versions, wanted, NOW, is_raw)]


def test_raw_footage_expires_and_nothing_else_does() -> None:
    old = version("a", 21, is_latest=True)
    assert removed(old) == ["a"]
    assert removed(version("a", 19, is_latest=True)) == []
    assert removed(old, is_raw=False) == []
    assert removed(old, wanted=Retention()) == []


def test_a_version_is_kept_for_a_while_after_the_next_one_came() -> None:
    assert removed(version("b", 6, is_latest=True), version("a", 30)) == []
    assert removed(version("b", 8, is_latest=True), version("a", 30)) == ["a"]


def test_what_was_deleted_goes_from_the_oldest_to_the_mark_so_that_nothing_comes_back() -> None:
    mark = version("c", 8, is_mark=True, is_latest=True)
    assert removed(mark, version("b", 9), version("a", 30)) == ["a", "b", "c"]
    assert removed(version("c", 6, is_mark=True, is_latest=True), version("b", 9)) == []


def test_a_folder_loses_raw_footage_that_is_too_old(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    for key in ("frames/north/2026-05-01/a.jpg", "frames/north/2026-05-02/b.jpg", "cards/c"):
        store.put(key, b"x")
    long_ago = time.time() - 21 * 86400
    for key in ("frames/north/2026-05-01/a.jpg", "cards/c"):
        os.utime(store.path(key), (long_ago, long_ago))
    assert expire(store, Retention()) == 0
    assert expire(store, KEPT) == 1
    assert list(store.list()) == ["cards/c", "frames/north/2026-05-02/b.jpg"]


def test_a_server_that_has_nothing_of_it_is_used_as_it_is_and_told(s3_address: str) -> None:
    store = S3Store(s3_address)
    store.create_bucket()
    arrange(store, KEPT)
    store.put("frames/a", b"x")
    assert store.get("frames/a") == b"x"
    assert len(lacking(store, KEPT)) == 3


@pytest.mark.services
def test_seaweedfs_keeps_versions_has_rules_and_encrypts(servers: Settings) -> None:
    store = open_plain(servers)
    assert isinstance(store, S3Store)
    assert lacking(store, Retention()) == [], "as its up left it"
    assert lacking(store, KEPT) == ["expiry (objects.retention_days)"]
    arrange(store, KEPT)
    assert lacking(store, KEPT) == []
    arrange(store, Retention())
    assert lacking(store, Retention()) == []
    store.prefix = f"{uuid.uuid4().hex}/"
    store.put("frames/a", b"old")
    answer = store.client.stat_object(store.bucket, f"{store.prefix}frames/a")
    assert answer.metadata is not None
    assert answer.metadata["x-amz-server-side-encryption"] == "AES256"
    assert answer.version_id


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_minio_keeps_versions_has_rules_and_encrypts(minio: str) -> None:
    store = S3Store(f"{minio}/part")
    store.create_bucket()
    assert len(lacking(store, KEPT)) == 3
    arrange(store, KEPT)
    assert lacking(store, KEPT) == []


@pytest.mark.parametrize(
    "server",
    [
        pytest.param("seaweedfs", marks=pytest.mark.services),
        pytest.param("minio", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_what_expired_is_removed_version_by_version(request: pytest.FixtureRequest, server: str) -> None:
    if server == "minio":
        store = S3Store(f"{request.getfixturevalue('minio')}/{uuid.uuid4().hex}")
        store.create_bucket()
        arrange(store, KEPT)
    else:
        opened = open_plain(request.getfixturevalue("servers"))
        assert isinstance(opened, S3Store)
        store = opened
        store.prefix = f"{uuid.uuid4().hex}/"

    def there() -> dict[str, int]:
        counted: dict[str, int] = {}
        for item in store.client.list_objects(store.bucket, store.prefix, recursive=True, include_version=True):
            name = str(item.object_name).removeprefix(store.prefix)
            counted[name] = counted.get(name, 0) + 1
        return counted

    for data in (b"one", b"two", b"three"):
        store.put("cards/replaced", data)
    store.put("cards/deleted", b"x")
    store.delete("cards/deleted")
    store.put("frames/north/2026-05-01/a.jpg", b"x")
    assert there() == {"cards/replaced": 3, "cards/deleted": 2, "frames/north/2026-05-01/a.jpg": 1}
    now = datetime.now(UTC)
    assert expire(store, KEPT, now + timedelta(days=6)) == 0
    assert expire(store, KEPT, now + timedelta(days=8)) == 4
    assert there() == {"cards/replaced": 1, "frames/north/2026-05-01/a.jpg": 1}
    assert store.get("cards/replaced") == b"three"
    assert expire(store, KEPT, now + timedelta(days=21)) == 1
    assert not store.exists("frames/north/2026-05-01/a.jpg")
    assert expire(store, KEPT, now + timedelta(days=21)) == 2, "by then the mark is old as well"
    assert there() == {"cards/replaced": 1}
