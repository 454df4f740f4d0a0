"""The S3 store where servers and networks fail: what is made again, what is told, what is never half."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from its_platform.errors import BadInput, NotFound, ServerUnavailable
from its_platform.settings import Settings
from its_platform.stores import s3
from its_platform.stores.object_store import ObjectDamaged
from its_platform.stores.objects import NoBucket, S3Store, open_plain


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "FIRST_PAUSE_S", 0.001)


@pytest.fixture
def store(s3_server: Any) -> S3Store:
    store = S3Store(s3_server.address)
    store.create_bucket()
    return store


@pytest.fixture
def seaweed(servers: Settings) -> S3Store:
    store = open_plain(servers)
    assert isinstance(store, S3Store)
    store.prefix = f"{uuid.uuid4().hex}/"
    return store


@pytest.mark.parametrize("fault", ["503", "hang up", "cut"])
def test_what_fails_for_a_moment_is_asked_again(store: S3Store, s3_server: Any, fault: str) -> None:
    store.put("a", b"x" * 1000)
    s3_server.faults = [fault] * 3
    assert store.get("a") == b"x" * 1000
    s3_server.faults = [fault] * 3
    store.put("a", b"y" * 1000)
    assert store.get("a") == b"y" * 1000
    s3_server.faults = [fault] * 2
    assert list(store.list()) == ["a"]
    assert s3_server.faults == []
    s3_server.faults = [fault] * 2
    assert [key for key, _ in store.stamps()] == ["a"]
    assert s3_server.faults == []


@pytest.mark.parametrize("fault", ["503", "hang up", "cut"])
def test_what_goes_on_failing_is_unavailable_and_never_half(store: S3Store, s3_server: Any, fault: str) -> None:
    store.put("a", b"x" * 1000)
    s3_server.faults = [fault] * 100
    with pytest.raises(ServerUnavailable):
        store.get("a")
    assert len(s3_server.faults) == 100 - s3.ATTEMPTS


def test_a_bucket_whose_making_was_not_answered_is_there(
    store: S3Store, s3_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for code in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
        there = iter([False, True])
        monkeypatch.setattr(store.client, "bucket_exists", lambda bucket, there=there: next(there))
        s3_server.faults = ["hang up", code]
        store.create_bucket()
    assert s3_server.faults == []


def test_a_bucket_that_is_missing_is_told_with_the_setting_that_names_it(s3_server: Any) -> None:
    s3_server.faults = ["NoSuchBucket"]
    with pytest.raises(NoBucket, match="bucket does not exist") as told:
        S3Store(s3_server.address, named_by="ITS_BACKUP__URL").get("a")
    assert "ITS_BACKUP__URL" in told.value.hint


def test_a_server_that_knows_no_versions_erases_what_it_has(store: S3Store, s3_server: Any) -> None:
    store.put("a", b"key")
    s3_server.faults = ["NotImplemented"]
    store.erase("a")
    assert not store.exists("a")
    store.erase("a")


def test_what_will_not_pass_is_asked_once(store: S3Store, s3_server: Any) -> None:
    for fault, error in (("AccessDenied", BadInput), ("NoSuchKey", NotFound), ("EntityTooLarge", ServerUnavailable)):
        s3_server.faults = [fault] * 3
        with pytest.raises(error):
            store.get("a")
        assert len(s3_server.faults) == 2


def test_bytes_that_changed_at_the_server_are_damaged(store: S3Store, s3_server: Any) -> None:
    store.put("a", b"picture")
    s3_server.contents["a"] = b"picturE"
    with pytest.raises(ObjectDamaged, match="checksum"):
        store.get("a")


def test_an_object_without_a_checksum_is_read(store: S3Store, s3_server: Any) -> None:
    s3_server.contents["a"] = b"picture"
    assert store.get("a") == b"picture"


@pytest.mark.services
def test_a_large_object_goes_in_parts_and_comes_back_whole(seaweed: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 5 << 20)
    data = os.urandom((11 << 20) + 7)
    seaweed.put("large", data)
    assert seaweed.get("large") == data
    tag = seaweed.client.stat_object(seaweed.bucket, f"{seaweed.prefix}large").etag
    assert tag is not None
    assert tag.endswith("-3"), "in three parts"


@pytest.mark.services
def test_an_upload_that_was_killed_is_no_object_and_is_swept(seaweed: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{seaweed.prefix}large"
    upload = seaweed.client._create_multipart_upload(seaweed.bucket, name, {})
    seaweed.client._upload_part(seaweed.bucket, name, os.urandom(5 << 20), None, upload, 1)
    assert not seaweed.exists("large")
    with pytest.raises(NotFound):
        seaweed.get("large")
    assert list(seaweed.list()) == []
    assert seaweed.sweep() == 0, "its writer may still be at it"

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromtimestamp(datetime.now(UTC).timestamp() + 7200, UTC)

    monkeypatch.setattr(s3, "datetime", Later)
    assert seaweed.sweep() == 1
    assert seaweed.sweep() == 0
