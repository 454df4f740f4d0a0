"""Dataset versions in a bucket of the real S3 server: pushed, proved, and restored bit for bit into an empty clone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from its_platform.settings import Settings
from its_platform.stores import versions
from its_platform.stores.data_remote import BucketRemote, open_remote
from its_platform.stores.objects import objects_key
from its_platform.stores.versions import DataRepositoryBroken
from needs import need

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]

FILES = {"manifest.jsonl": bytes(range(256)) * 40, "labels/a.json": b"{}", "empty.txt": b""}


@pytest.fixture(scope="module")
def pushed(servers: Settings) -> Settings:
    """The machine that has pushed v1 into the bucket of its own S3 server."""
    need((servers.environments / "dvc" / "bin" / "dvc").is_file(), "DVC's environment")
    versions.commit_version(servers, "v1", FILES, "the first")
    assert versions.push(servers, "v1") == len(FILES)
    return servers


@pytest.fixture
def other(pushed: Settings, tmp_path: Path) -> Settings:
    """Another machine, empty but for what it needs to be answered by that server."""
    home = tmp_path / "other"
    for name in ("services/passwords/objects", "certificates/ca.pem"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pushed.home / name, home / name)
    return pushed.model_copy(update={"home": home})


def bucket(settings: Settings) -> BucketRemote:
    far = open_remote(settings)
    assert isinstance(far, BucketRemote)
    return far


def test_the_remote_is_a_bucket_and_no_folder_of_the_home(pushed: Settings) -> None:
    assert not (pushed.home / "dvc-remote").exists()
    # Its three files, and DVC's list of them.
    assert len(list(bucket(pushed).store.list("files/"))) == len(FILES) + 1
    assert versions.pushed_versions(pushed) == ["v1"]


def test_a_pushed_version_is_the_same_in_an_empty_clone(other: Settings, tmp_path: Path) -> None:
    got = versions.checkout(other, "v1", tmp_path / "got")
    assert {path.relative_to(got).as_posix(): path.read_bytes() for path in got.rglob("*") if path.is_file()} == FILES
    assert versions.fetch(other) == ["v1"]
    assert versions.prove(other, "v1") == len(FILES)


def test_the_secret_is_in_a_file_of_its_owner_alone_and_never_in_git(pushed: Settings) -> None:
    where, (_, secret) = versions.repository(pushed), objects_key(pushed)
    local = where / ".dvc" / "config.local"
    assert secret in local.read_text("utf-8")
    assert local.stat().st_mode & 0o777 == 0o600
    tracked = subprocess.run(["git", "ls-files"], cwd=where, capture_output=True, text=True, check=True).stdout.split()
    assert ".dvc/config" in tracked
    assert not any(secret in (where / name).read_text("utf-8", "replace") for name in tracked)


def test_a_file_that_the_bucket_lost_or_holds_otherwise_is_found_by_reading_it(pushed: Settings) -> None:
    store = bucket(pushed).store
    key = max(store.list("files/"), key=lambda one: len(store.get(one)))
    kept = store.get(key)
    store.put(key, kept[:-1] + b"?")
    with pytest.raises(DataRepositoryBroken, match="damaged"):
        versions.prove(pushed, "v1")
    store.delete(key)
    with pytest.raises(DataRepositoryBroken, match="lacks"):
        versions.prove(pushed, "v1")
    store.put(key, kept)
    assert versions.prove(pushed, "v1") == len(FILES)


def test_versions_of_another_machine_have_to_be_pulled_first(pushed: Settings, other: Settings) -> None:
    versions.fetch(other)
    versions.commit_version(other, "v2", {"manifest.jsonl": b"2"}, "of the other")
    versions.push(other, "v2")
    versions.commit_version(pushed, "v3", {"manifest.jsonl": b"3"}, "ours")
    with pytest.raises(DataRepositoryBroken, match="not known here"):
        versions.push(pushed)
    assert versions.pushed_versions(pushed) == ["v1", "v2"]
