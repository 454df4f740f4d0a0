"""Where dataset versions are pushed to: a folder, or a bucket of an S3 server.

Two things lie there: git's history, in a folder as a bare repository and in a bucket as one bundle, and DVC's files,
each named by its MD5. What a version is belongs to `versions.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from its_platform.errors import NotFound
from its_platform.settings import Settings
from its_platform.stores.objects import NoBucket, S3Store, objects_key, own_address
from its_platform.stores.programs import DataRepositoryBroken, git

BUCKET = "its-data"
BUNDLE = "repository.bundle"
SETTING = "ITS_DATA_REMOTE"
_FILES = "files"
_GIT = "git"


class DataRemote(Protocol):
    """What every remote of the data repository promises. name: for people."""

    name: str

    def prepare(self) -> None:
        """Make what a first push needs."""

    def history(self) -> AbstractContextManager[Path | None]:
        """A bare repository with what was pushed, for as long as it is looked at; None where nothing ever was."""

    def push_history(self, repository: Path) -> None:
        """Hand over main and all tags. Raises `DataRepositoryBroken` where others pushed what is not known here."""

    def read(self, md5: str) -> bytes:
        """A file by DVC's name of it. Raises `NotFound`."""

    def fill(self, bundle: bytes, files: Iterable[tuple[str, bytes]]) -> None:
        """Put a history and files (by `file_key`) into an empty remote, the history last."""

    def configuration(self) -> dict[str, str]:
        """How DVC is to find and ask it."""


def open_remote(settings: Settings) -> DataRemote:
    """The remote of these settings; nothing is connected to yet."""
    if settings.data_remote is not None and settings.data_remote.startswith("s3+"):
        return BucketRemote(S3Store(settings.data_remote, named_by=SETTING))
    if settings.data_remote is None and settings.runs_objects:
        address = own_address(settings, BUCKET, objects_key(settings))
        return BucketRemote(S3Store(address, settings.certificates.absolute() / "ca.pem"))
    return FolderRemote(Path(settings.data_remote or settings.home / "dvc-remote").absolute())


def file_key(md5: str) -> str:
    """Where DVC keeps a file of this name, below a remote or its cache."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


class FolderRemote:
    """A folder, of this machine or a shared one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def prepare(self) -> None:
        if not (self.folder / _GIT).is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            git(self.folder, "init", "--quiet", "--bare", "--initial-branch=main", "git.new")
            (self.folder / "git.new").rename(self.folder / _GIT)

    @contextmanager
    def history(self) -> Iterator[Path | None]:
        there = self.folder / _GIT
        yield there if there.is_dir() else None

    def push_history(self, repository: Path) -> None:
        there = self.folder / _GIT
        if git(there, "branch", "--list", "main"):
            _check_known(repository, there, self.name)
        # All or nothing: another home may push at this moment.
        git(repository, "push", "--quiet", "--atomic", "--tags", str(there), "HEAD:main")

    def read(self, md5: str) -> bytes:
        path = self.folder / _FILES / file_key(md5)
        if not path.is_file():
            raise NotFound(f"There is no file {path}.")
        return path.read_bytes()

    def fill(self, bundle: bytes, files: Iterable[tuple[str, bytes]]) -> None:
        for key, data in files:
            path = self.folder / _FILES / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        with tempfile.TemporaryDirectory(prefix="its-bundle-") as space:
            (Path(space) / BUNDLE).write_bytes(bundle)
            self.prepare()
            # All of its branches and tags, or none: a cut off one is known by having none.
            git(self.folder / _GIT, "fetch", "--quiet", "--atomic", str(Path(space) / BUNDLE), "+refs/*:refs/*")

    def configuration(self) -> dict[str, str]:
        return {"url": str(self.folder / _FILES)}


class BucketRemote:
    """A bucket, or a prefix in one. git does not speak S3, so its history is one object, replaced as a whole."""

    def __init__(self, store: S3Store) -> None:
        self.store = store
        self.name = f"{store.endpoint}/{store.bucket}/{store.prefix}".rstrip("/")

    def prepare(self) -> None:
        self.store.create_bucket()

    @contextmanager
    def history(self) -> Iterator[Path | None]:
        with tempfile.TemporaryDirectory(prefix="its-history-") as space:
            there = Path(space) / _GIT
            with suppress(NotFound, NoBucket):
                (Path(space) / BUNDLE).write_bytes(self.store.get(f"{_GIT}/{BUNDLE}"))
                git(Path(space), "clone", "--quiet", "--bare", BUNDLE, _GIT)
            yield there if there.is_dir() else None

    def push_history(self, repository: Path) -> None:
        with self.history() as far:
            if far is not None:
                _check_known(repository, far, self.name)
                # They would be missing from what replaces it.
                git(repository, "fetch", "--quiet", "--tags", str(far), "main")
        with tempfile.TemporaryDirectory(prefix="its-bundle-") as space:
            git(repository, "bundle", "create", "--quiet", str(Path(space) / BUNDLE), "HEAD", "main", "--tags")
            self.store.put(f"{_GIT}/{BUNDLE}", (Path(space) / BUNDLE).read_bytes())

    def read(self, md5: str) -> bytes:
        return self.store.get(f"{_FILES}/{file_key(md5)}")

    def fill(self, bundle: bytes, files: Iterable[tuple[str, bytes]]) -> None:
        self.store.create_bucket()
        for key, data in files:
            self.store.put(f"{_FILES}/{key}", data)
        self.store.put(f"{_GIT}/{BUNDLE}", bundle)

    def configuration(self) -> dict[str, str]:
        store = self.store
        key, secret = store.key
        found = {
            "url": f"s3://{store.bucket}/{store.prefix}{_FILES}",
            "endpointurl": store.url,
            # DVC's client wants one to sign with; a server of one's own takes any.
            "region": "us-east-1",
        }
        if key:
            found |= {"access_key_id": key, "secret_access_key": secret}
        if store.root is not None:
            found["ssl_verify"] = str(store.root)
        return found


def _check_known(repository: Path, far: Path, name: str) -> None:
    """Raises `DataRepositoryBroken` where main of the remote has what this repository has not."""
    git(repository, "fetch", "--quiet", "--no-tags", str(far), "main")
    if git(repository, "rev-list", "HEAD..FETCH_HEAD"):
        raise DataRepositoryBroken(
            f"{name} has dataset versions that are not known here.", "Run `its dataset pull` first."
        )
