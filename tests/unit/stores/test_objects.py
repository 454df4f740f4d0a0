"""The contract of object stores: on a directory, on a real S3 server, and on a small one that stands in for it."""

from __future__ import annotations

import errno
import os
import time
import uuid
from pathlib import Path

import pytest

from its_platform.errors import BadInput, NotFound, ServerUnavailable
from its_platform.settings import Settings, load_settings
from its_platform.stores import s3
from its_platform.stores.keys import KeyFolder
from its_platform.stores.objects import DirectoryStore, ObjectStore, S3Store, StorageFull, open_objects, open_plain
from its_platform.stores.sealing import SealedStore

# MinIO is built by the first test that asks for it.
BUILT = [pytest.mark.slow, pytest.mark.timeout(1800)]
PLAIN = [
    "directory",
    "s3",
    "s3 below a prefix",
    pytest.param("seaweedfs", marks=pytest.mark.services),
    pytest.param("minio", marks=BUILT),
]
SEALED = [
    "directory, sealed",
    "s3, sealed",
    pytest.param("seaweedfs, sealed", marks=pytest.mark.services),
    pytest.param("minio, sealed", marks=BUILT),
]


@pytest.fixture(params=[*PLAIN, *SEALED])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    name, _, is_sealed = request.param.partition(", ")
    store: ObjectStore
    if name == "directory":
        store = DirectoryStore(tmp_path / "objects")
    elif name == "seaweedfs":
        store = open_plain(request.getfixturevalue("servers"))
        assert isinstance(store, S3Store)
        store.prefix = f"{uuid.uuid4().hex}/"
    elif name == "minio":
        store = S3Store(f"{request.getfixturevalue('minio')}/{uuid.uuid4().hex}")
        store.create_bucket()
    else:
        store = S3Store(request.getfixturevalue("s3_address") + ("/part" if "prefix" in name else ""))
        store.create_bucket()
    return SealedStore(store, KeyFolder(tmp_path / "keys")) if is_sealed else store


def test_what_was_put_is_got_back_bit_for_bit(objects: ObjectStore) -> None:
    data = bytes(range(256)) * 500
    objects.put("frames/ab/abcd.jpg", data)
    assert objects.get("frames/ab/abcd.jpg") == data


def test_an_empty_object_is_an_object(objects: ObjectStore) -> None:
    objects.put("empty", b"")
    assert objects.exists("empty")
    assert objects.get("empty") == b""


def test_putting_twice_leaves_one_object(objects: ObjectStore) -> None:
    objects.put("a", b"x")
    objects.put("a", b"x")
    assert list(objects.list()) == ["a"]


def test_putting_other_bytes_replaces_the_old_ones(objects: ObjectStore) -> None:
    objects.put("a", b"old")
    objects.put("a", b"new")
    assert objects.get("a") == b"new"


def test_a_missing_object_is_not_found(objects: ObjectStore) -> None:
    assert not objects.exists("nothing")
    with pytest.raises(NotFound, match="nothing"):
        objects.get("nothing")


def test_listing_gives_the_keys_under_a_prefix_in_order(objects: ObjectStore) -> None:
    for key in ("frames/b", "frames/a", "frames/a1/x", "labels/a"):
        objects.put(key, b"x")
    assert list(objects.list("frames/")) == ["frames/a", "frames/a1/x", "frames/b"]
    assert list(objects.list("frames/a")) == ["frames/a", "frames/a1/x"]
    assert list(objects.list("none/")) == []


def test_deleting_removes_and_a_second_time_does_nothing(objects: ObjectStore) -> None:
    objects.put("a", b"x")
    objects.delete("a")
    objects.delete("a")
    assert not objects.exists("a")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../outside", "a/../../b", "a//b", "a b", "a/", "ä"])
def test_a_key_that_leads_out_of_the_store_is_refused(objects: ObjectStore, key: str) -> None:
    with pytest.raises(BadInput):
        objects.put(key, b"x")


def test_a_put_that_fails_leaves_the_old_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(tmp_path)
    store.put("a", b"old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fdatasync", fail)
    with pytest.raises(OSError, match="disk full"):
        store.put("a", b"new")
    assert store.get("a") == b"old"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a"]


def test_an_s3_server_that_is_away_is_unavailable_and_not_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "FIRST_PAUSE_S", 0.001)
    store = S3Store("s3+http://key:secret@127.0.0.1:9/bucket")
    with pytest.raises(ServerUnavailable):
        store.exists("a")
    with pytest.raises(ServerUnavailable):
        list(store.list())


def test_the_secret_stays_out_of_words(objects: ObjectStore) -> None:
    assert "secret" not in repr(objects)


def test_the_services_profile_has_a_server_of_its_own_unless_it_is_given_one(tmp_path: Path) -> None:
    own = open_plain(load_settings(profile="services", home=tmp_path))
    assert isinstance(own, S3Store)
    assert own.endpoint == "127.0.0.1:18333"
    address = "s3+https://key:secret@s3.example.org/frames"
    given = open_plain(load_settings(profile="services", home=tmp_path, objects_url=address))
    assert isinstance(given, S3Store)
    assert given.endpoint == "s3.example.org"


@pytest.mark.parametrize("address", ["http://host/bucket", "s3+http://host", "nonsense"])
def test_an_address_that_cannot_be_read_is_refused(address: str) -> None:
    with pytest.raises(BadInput):
        S3Store(address)


def test_a_folder_that_others_share_is_used_where_it_is_and_never_made(settings: Settings, tmp_path: Path) -> None:
    shared = settings.model_copy(update={"objects_url": f"file://{tmp_path / 'shared'}"})
    with pytest.raises(BadInput, match="no folder"):
        open_objects(shared)
    assert not (tmp_path / "shared").exists()
    (tmp_path / "shared").mkdir()
    open_objects(shared).put("frames/a.jpg", b"picture")
    assert (tmp_path / "shared" / "frames" / "a.jpg").is_file()
    assert open_objects(shared).get("frames/a.jpg") == b"picture"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_in_words_and_leaves_the_old_object_and_no_half_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = DirectoryStore(tmp_path / "objects")
    store.put("a", b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fdatasync", refuse)
    with pytest.raises(StorageFull, match=f"The disk under {store.folder} is full: .* nothing that was stored is lost"):
        store.put("a", b"new")
    monkeypatch.undo()
    assert store.get("a") == b"old"
    assert [path.name for path in store.folder.rglob("*") if path.is_file()] == ["a"]


def test_another_error_of_the_disk_is_not_called_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.fdatasync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        DirectoryStore(tmp_path).put("a", b"x")


def test_what_a_killed_writer_left_is_swept_later_and_never_listed(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.put("a", b"x")
    left, fresh = tmp_path / ".unfinished" / "left", tmp_path / ".unfinished" / "fresh"
    for path in (left, fresh):
        path.write_bytes(b"hal")
    long_ago = time.time() - 7200
    os.utime(left, (long_ago, long_ago))
    assert list(store.list()) == ["a"]
    assert store.sweep() == 1
    assert not left.exists()
    assert fresh.exists(), "its writer may still be at it"
