"""The data repository with real git and DVC: what was committed comes back bit for bit, and a push is read back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from its_platform.errors import BadInput, NotFound, ServerUnavailable
from its_platform.settings import Settings
from its_platform.stores.data_remote import open_remote
from its_platform.stores.versions import (
    DataRepositoryBroken,
    bundle,
    checkout,
    commit_version,
    file_key,
    kept_files,
    list_versions,
    push,
    pushed_versions,
    read_file,
    repository,
    restore,
)

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(900)]

FILES = {"manifest.parquet": bytes(range(256)), "labels/a.json": b"{}", "empty.txt": b""}


@pytest.fixture
def data(settings: Settings, require: Callable[[bool, str], None]) -> Settings:
    require((settings.environments / "dvc" / "bin" / "dvc").is_file(), "DVC's environment")
    return settings


def commits(settings: Settings) -> list[str]:
    command = ["git", "-C", str(repository(settings)), "log", "--format=%H"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_a_version_comes_back_from_the_remote_alone_bit_for_bit(data: Settings, tmp_path: Path) -> None:
    commit = commit_version(data, "v1", FILES, "the first")
    assert push(data, "v1") == len(FILES)
    repository(data).rename(tmp_path / "gone")
    got = checkout(data, "v1", tmp_path / "got")
    assert {path.relative_to(got).as_posix(): path.read_bytes() for path in got.rglob("*") if path.is_file()} == FILES
    assert len(commit) == 40


def test_a_version_is_fetched_into_a_folder_that_is_named_from_here(
    data: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_version(data, "v1", FILES, "the first")
    push(data, "v1")
    monkeypatch.chdir(tmp_path)
    got = checkout(data, "v1", Path("got"))
    assert {path.relative_to(got).as_posix(): path.read_bytes() for path in got.rglob("*") if path.is_file()} == FILES
    assert got.resolve() == tmp_path / "got"


def test_the_same_files_are_the_same_version_and_others_are_refused(data: Settings) -> None:
    first = commit_version(data, "v1", FILES, "the first")
    before = commits(data)
    assert commit_version(data, "v1", FILES, "again") == first
    assert commits(data) == before
    with pytest.raises(BadInput, match="other files"):
        commit_version(data, "v1", {**FILES, "labels/a.json": b"[]"}, "changed")


def test_a_push_that_lost_an_object_is_found_by_reading_the_remote(data: Settings) -> None:
    commit_version(data, "v1", FILES, "the first")
    push(data, "v1")
    files = Path(open_remote(data).name) / "files"
    stored = max(files.rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
    stored.chmod(0o644)
    stored.write_bytes(b"damaged")
    with pytest.raises(DataRepositoryBroken, match="damaged"):
        push(data, "v1")


def test_versions_are_listed_and_an_unknown_one_is_named(data: Settings, tmp_path: Path) -> None:
    assert list_versions(data) == []
    commit_version(data, "v1", FILES, "the first")
    commit_version(data, "v2", {"manifest.parquet": b"2"}, "the second")
    push(data)
    assert list_versions(data) == ["v1", "v2"]
    with pytest.raises(NotFound, match="v9"):
        checkout(data, "v9", tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_a_remote_whose_history_is_damaged_is_not_called_one_without_the_version(
    data: Settings, tmp_path: Path
) -> None:
    commit_version(data, "v1", FILES, "the first")
    push(data)
    far = Path(open_remote(data).name) / "git"
    named = subprocess.run(
        ["git", "-C", far, "rev-parse", "dataset/v1:datasets/v1.dvc"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (far / "objects" / named[:2] / named[2:]).unlink()
    with pytest.raises(DataRepositoryBroken):
        checkout(data, "v1", tmp_path / "got")


@pytest.mark.parametrize("lock", [".git/index.lock", ".git/HEAD.lock", ".git/refs/heads/main.lock", ".git/config.lock"])
@pytest.mark.parametrize("is_ready", [False, True])
def test_a_repository_whose_maker_or_writer_was_killed_goes_on(data: Settings, lock: str, is_ready: bool) -> None:
    if is_ready:
        push(data)
    else:
        repository(data).mkdir(parents=True)
        subprocess.run(["git", "init", "--quiet", "--initial-branch=main", repository(data)], check=True)
    (repository(data) / lock).touch()
    commit_version(data, "v1", FILES, "the first")
    assert list_versions(data) == ["v1"]


def test_a_push_beside_versions_of_another_home_leaves_nothing_of_its_own(
    data: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {"data_remote": str(tmp_path / "shared")}
    here = data.model_copy(update=shared)
    there = data.model_copy(update={**shared, "home": tmp_path / "there"})
    push(there)
    commit_version(here, "v1", FILES, "the first")
    commit_version(there, "v2", FILES, "the second")
    push(here)
    with pytest.raises(DataRepositoryBroken, match="not known here") as told:
        push(there)
    assert "its dataset pull" in told.value.hint
    assert pushed_versions(here) == ["v1"]


@pytest.mark.parametrize("left", ["git.new", "git"])
def test_a_restore_that_was_cut_off_is_begun_again(data: Settings, tmp_path: Path, left: str) -> None:
    commit_version(data, "v1", FILES, "the first")
    kept = [(file_key(md5), read_file(data, md5)) for md5 in kept_files(data)]
    bundled = bundle(data)
    assert bundled is not None
    there = data.model_copy(update={"home": tmp_path / "there", "data_remote": str(tmp_path / "shared")})
    (tmp_path / "shared").mkdir()
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "shared" / left], check=True)
    assert restore(there, bundled, kept) == 1
    assert checkout(there, "v1", tmp_path / "got").is_dir()


def test_a_missing_environment_is_one_clear_error(settings: Settings, tmp_path: Path) -> None:
    without = settings.model_copy(update={"environments": tmp_path / "none"})
    with pytest.raises(ServerUnavailable, match="DVC is not installed"):
        commit_version(without, "v1", FILES, "the first")
