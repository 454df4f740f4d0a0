"""The data repository: git and DVC under `home/data`, one commit and tag a dataset version.

Files go in, a commit comes out; a push is believed only when the remote has been read and its bytes hash to their
names. DVC lives in an environment of its own, so it is called as a program. What a manifest says is the business of
`dataset`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from its_platform.errors import BadInput, NotFound
from its_platform.private_files import write_file
from its_platform.settings import Settings
from its_platform.stores.data_remote import BUNDLE, DataRemote, file_key, open_remote
from its_platform.stores.programs import DataRepositoryBroken, dvc, dvc_program, git

__all__ = ["BUNDLE", "DataRepositoryBroken", "file_key"]

_REMOTE = "store"
_TAG = "dataset/"
_SHELF = "datasets"
_CONFIGURATION = f"""[core]
    remote = {_REMOTE}
    analytics = false
    check_update = false
    autostage = false
['remote "{_REMOTE}"']
    url = ../../dvc-remote/files
"""
_OF_ITS_OWN = {
    "user.name": "its-platform",
    "user.email": "its-platform@localhost",
    "commit.gpgsign": "false",
    "tag.gpgsign": "false",
    "core.autocrlf": "false",
    "core.hooksPath": "/dev/null",
}


def repository(settings: Settings) -> Path:
    """Folder of the data repository."""
    return settings.home.absolute() / "data"


def commit_version(settings: Settings, name: str, files: Mapping[str, bytes] | Path, message: str) -> str:
    """Put a dataset version's files under `datasets/<name>`, commit and tag it, and give the commit.

    files: bytes by relative path, or a folder to copy. The same files under the same name are the same version: no new
    commit. Other files under a taken name raise `BadInput`, for a version never changes. Pushing is `push`.
    """
    contents = _read_files(files)
    with _held(settings):
        _ensure_repository(settings, open_remote(settings))
        where = repository(settings)
        known = _tagged_commit(settings, name)
        if known is not None:
            if _recorded(settings, where, name, known) != {path: _md5(data) for path, data in contents.items()}:
                raise BadInput(
                    f"The dataset version {name} exists and holds other files.", "Commit these under another name."
                )
            return known
        folder = where / _SHELF / name
        shutil.rmtree(folder, ignore_errors=True)
        for path, data in contents.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        dvc(settings, where, "add", f"{_SHELF}/{name}")
        git(where, "add", "--", f"{_SHELF}/{name}.dvc", f"{_SHELF}/.gitignore")
        # A run that was killed between commit and tag left the commit: there is nothing to add to it then.
        if git(where, "status", "--porcelain", "--", _SHELF):
            git(where, "commit", "--quiet", "-m", message or f"dataset {name}", "--", _SHELF)
        git(where, "tag", "-a", f"{_TAG}{name}", "-m", message or f"dataset {name}")
        return git(where, "rev-parse", "HEAD")


def push(settings: Settings, name: str | None = None) -> int:
    """Push all versions and prove it by reading the remote; how many files of `name` (or of all) were found there.

    Raises `DataRepositoryBroken` naming the first file that the remote lacks or holds differently.
    """
    far = open_remote(settings)
    with _held(settings):
        _ensure_repository(settings, far)
        dvc(settings, repository(settings), "push", "--all-tags", "--jobs", "4")
        far.push_history(repository(settings))
        names = [name] if name is not None else list_versions(settings)
        with far.history() as history:
            return sum(_prove(settings, far, history, one) for one in names)


def fetch(settings: Settings) -> list[str]:
    """Bring the data repository up to its remote; the names of its versions, oldest first.

    Raises `NotFound` where nothing was ever pushed, `DataRepositoryBroken` where each side has versions of its own.
    """
    far = open_remote(settings)
    with _pushed(far) as history, _held(settings):
        _ensure_repository(settings, far)
        where = repository(settings)
        git(where, "fetch", "--quiet", "--tags", str(history), "main")
        if git(where, "rev-list", "HEAD..FETCH_HEAD"):
            try:
                git(where, "merge", "--quiet", "--ff-only", "FETCH_HEAD")
            except DataRepositoryBroken as error:
                raise DataRepositoryBroken(
                    f"{where} and its remote each have dataset versions of their own.",
                    "Begin with an empty ITS_HOME, and build what is missing again.",
                ) from error
        return list_versions(settings)


def pushed_versions(settings: Settings) -> list[str]:
    """Names of the versions in the remote, oldest first. Raises `NotFound` where nothing was ever pushed."""
    with _pushed(open_remote(settings)) as history:
        return _tags(history)


def checkout(settings: Settings, name: str, folder: Path) -> Path:
    """Fetch a version from the remote into `folder`, which appears whole or not at all; bit for bit what was committed.

    Nothing of the data repository but its remote is used. Raises `NotFound`, `DataRepositoryBroken`.
    """
    far = open_remote(settings)
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty.", "Name an empty or a new folder.")
    # Git runs beside it, where a path that begins here would lead elsewhere.
    folder = folder.absolute()
    with _pushed(far) as history:
        if name not in _tags(history):
            raise NotFound(f"The remote has no dataset version {name}.", "`its dataset list` shows those there are.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".checkout-") as space:
            clone = Path(space) / "clone"
            git(Path(space), "clone", "--quiet", "--branch", f"{_TAG}{name}", str(history), str(clone))
            _point_dvc_at(clone, far)
            dvc(settings, clone, "pull", f"{_SHELF}/{name}")
            fetched = clone / _SHELF / name
            wanted = _recorded(settings, clone, name, git(clone, "rev-parse", "HEAD"))
            found = {path: _md5(data) for path, data in _read_files(fetched).items()}
            if found != wanted:
                raise DataRepositoryBroken(
                    f"What the remote gave for {name} is not what was committed.", "Push it again."
                )
            if folder.exists():
                folder.rmdir()
            # DVC checks out read-only links into its cache; copies outlive the clone.
            shutil.copytree(fetched, Path(space) / "whole", symlinks=False)
            (Path(space) / "whole").rename(folder)
    return folder


def list_versions(settings: Settings) -> list[str]:
    """Names of the committed versions, oldest first."""
    return _tags(repository(settings)) if (repository(settings) / ".git").is_dir() else []


def commit_of(settings: Settings, name: str) -> str | None:
    """The commit of a version in the data repository; None for a version that it does not have."""
    return _tagged_commit(settings, name)


def prove(settings: Settings, name: str) -> int:
    """Read every file of a version back from the remote; how many. Raises `DataRepositoryBroken`."""
    far = open_remote(settings)
    with far.history() as history:
        return _prove(settings, far, history, name)


def bundle(settings: Settings) -> bytes | None:
    """The history of the data repository with all its tags, as `git bundle` writes it; None where there is none."""
    if not list_versions(settings):
        return None
    with _held(settings), tempfile.TemporaryDirectory(prefix="its-bundle-") as space:
        made = Path(space) / BUNDLE
        git(repository(settings), "bundle", "create", "--quiet", str(made), "--all")
        return made.read_bytes()


def kept_files(settings: Settings) -> list[str]:
    """DVC's names (MD5) of all files of all versions, and of its lists of them."""
    found: set[str] = set()
    where = repository(settings)
    for name in list_versions(settings):
        commit = str(_tagged_commit(settings, name))
        found |= {_pointer(where, name, commit), *_recorded(settings, where, name, commit).values()}
    return sorted(found)


def read_file(settings: Settings, md5: str) -> bytes:
    """A file by DVC's name of it, from this machine or from the remote. Raises `DataRepositoryBroken`."""
    path = repository(settings) / ".dvc" / "cache" / file_key(md5)
    if path.is_file() and _is_named(data := path.read_bytes(), md5):
        return data
    try:
        data = open_remote(settings).read(md5)
    except NotFound as error:
        raise DataRepositoryBroken(
            f"A file of the dataset versions ({md5}) is gone.", "Restore the data repository's remote from a backup."
        ) from error
    if not _is_named(data, md5):
        raise DataRepositoryBroken(f"A file of the dataset versions ({md5}) is damaged.", "Push it again.")
    return data


def restore(settings: Settings, bundled: bytes, files: Iterable[tuple[str, bytes]]) -> int:
    """Fill an empty remote with what `bundle` and `read_file` gave, prove it, and begin the repository from it.

    files: what `file_key` says, and the content. Gives how many versions there are then. A remote that has versions
    keeps them, and is only proved.
    """
    far = open_remote(settings)
    with far.history() as history:
        is_empty = history is None or not _tags(history)
    if is_empty:
        far.fill(bundled, files)
    return sum(1 for name in fetch(settings) if prove(settings, name))


@contextmanager
def _pushed(far: DataRemote) -> Iterator[Path]:
    """The git side of the remote. Raises `NotFound` where nothing was ever pushed to it."""
    with far.history() as history:
        if history is None or not _tags(history):
            raise NotFound(
                f"No dataset version was ever pushed to {far.name}.",
                "`its dataset build` makes and pushes one; ITS_DATA_REMOTE names another place.",
            )
        yield history


def _prove(settings: Settings, far: DataRemote, history: Path | None, name: str) -> int:
    try:
        commit = git(history, "rev-parse", f"{_TAG}{name}^{{commit}}") if history is not None else None
    except DataRepositoryBroken:
        commit = None
    if commit is None or commit != _tagged_commit(settings, name):
        raise DataRepositoryBroken(f"The remote has no tag for {name}, or another one.", "Push again.")
    where = repository(settings)
    recorded = _recorded(settings, where, name, commit)
    listing = _pointer(where, name, commit)
    for md5, what in [(listing, f"{name}'s list of files"), *((md5, path) for path, md5 in recorded.items())]:
        try:
            data = far.read(md5)
        except NotFound as error:
            raise DataRepositoryBroken(f"The remote lacks {what} ({md5}).", "Push again.") from error
        if not _is_named(data, md5):
            raise DataRepositoryBroken(
                f"The remote's copy of {what} is damaged.", f"Remove {file_key(md5)} in {far.name} and push again."
            )
    return len(recorded)


def _tags(where: Path) -> list[str]:
    order = ("--sort=version:refname", "--sort=creatordate")  # the name decides between two of one second
    lines = git(where, "tag", "--list", f"{_TAG}*", *order).splitlines()
    return [line.removeprefix(_TAG) for line in lines]


def _recorded(settings: Settings, where: Path, name: str, commit: str) -> dict[str, str]:
    """MD5 by path, as the commit in the repository `where` records them through DVC's list of the folder."""
    listing = read_file(settings, _pointer(where, name, commit))
    return {entry["relpath"]: entry["md5"] for entry in json.loads(listing)}


def _pointer(where: Path, name: str, commit: str) -> str:
    """DVC's hash of the version's folder, from the pointer file in the commit."""
    import yaml

    pointer = yaml.safe_load(git(where, "show", f"{commit}:{_SHELF}/{name}.dvc"))
    return str(pointer["outs"][0]["md5"])


def _tagged_commit(settings: Settings, name: str) -> str | None:
    where = repository(settings)
    if not git(where, "tag", "--list", f"{_TAG}{name}"):
        return None
    return git(where, "rev-parse", f"{_TAG}{name}^{{commit}}")


def _read_files(files: Mapping[str, bytes] | Path) -> dict[str, bytes]:
    if isinstance(files, Path):
        contents = {
            path.relative_to(files).as_posix(): path.read_bytes() for path in sorted(files.rglob("*")) if path.is_file()
        }
    else:
        contents = dict(files)
    for path in contents:
        if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise BadInput(f"{path!r} cannot be a file of a dataset version.", "Use relative paths.")
    if not contents:
        raise BadInput("A dataset version without files cannot be committed.")
    return contents


@contextmanager
def _held(settings: Settings) -> Iterator[None]:
    """One writer at a time; DVC and git each fail, rather than wait, when two meet."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "data.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _ensure_repository(settings: Settings, far: DataRemote) -> None:
    where = repository(settings)
    dvc_program(settings)
    far.prepare()
    if (where / ".dvc").is_dir():
        _point_dvc_at(where, far)
    # What a killed git or DVC left would keep the next one out; nobody else is here.
    for stale in (*where.glob(".git/**/*.lock"), where / ".dvc" / "tmp" / "lock", where / ".dvc" / "tmp" / "rwlock"):
        stale.unlink(missing_ok=True)
    # The last step of making it; a killed one is begun again.
    if (where / ".git" / "its-ready").exists():
        return
    where.mkdir(parents=True, exist_ok=True)
    git(where, "init", "--quiet", "--initial-branch=main")
    for key, value in _OF_ITS_OWN.items():
        git(where, "config", key, value)
    with far.history() as history:
        if history is not None and git(history, "branch", "--list", "main"):
            # Another machine's versions are there already: a history of our own beside theirs could never be pushed.
            git(where, "fetch", "--quiet", "--tags", str(history), "main")
            git(where, "reset", "--quiet", "--hard", "FETCH_HEAD")
    if not (where / ".dvc" / "config").is_file():
        shutil.rmtree(where / ".dvc", ignore_errors=True)
        dvc(settings, where, "init", "--quiet")
    # Written here rather than by five calls of DVC, each of which takes a second. Paths within the home folder are
    # relative, so that it can be moved.
    (where / ".dvc" / "config").write_text(_CONFIGURATION)
    (where / _SHELF).mkdir(exist_ok=True)
    (where / "README.md").write_text("Dataset versions; each is a tag `dataset/<name>`. Written by `its dataset`.\n")
    git(where, "add", "--all")
    if git(where, "status", "--porcelain"):
        git(where, "commit", "--quiet", "-m", "data repository")
    _point_dvc_at(where, far)
    (where / ".git" / "its-ready").touch()


def _point_dvc_at(clone: Path, far: DataRemote) -> None:
    """Let DVC in a clone use the remote. In a file that git ignores and nobody else reads: it may hold a secret.

    Written here: a call of DVC takes a second.
    """
    lines = "".join(f'    {name} = "{value}"\n' for name, value in far.configuration().items())
    write_file(clone / ".dvc" / "config.local", f"['remote \"{_REMOTE}\"']\n{lines}".encode(), is_secret=True)


def _is_named(data: bytes, md5: str) -> bool:
    """Whether DVC's name of a file is its content's; the name of a list of files has an ending."""
    return _md5(data) == md5.removesuffix(".dir")


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
