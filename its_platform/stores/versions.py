"""The data repository: git and DVC under `home/data`, one commit and tag a dataset version.

Files go in, a commit comes out; a push is believed only when the remote has been read and its bytes hash to their
names. DVC lives in an environment of its own, so it is called as a program. What a manifest says is the business of
`dataset`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from its_platform.errors import BadInput, NotFound, PermanentError, ServerUnavailable
from its_platform.settings import Settings
from its_platform.telemetry import SILENT

_REMOTE = "store"
_TAG = "dataset/"
_SHELF = "datasets"
BUNDLE = "repository.bundle"
_CONFIGURATION = f"""[core]
    remote = {_REMOTE}
    analytics = false
    check_update = false
    autostage = false
['remote "{_REMOTE}"']
    url = ../../dvc-remote/files
"""


class DataRepositoryBroken(PermanentError):
    """The data repository or its remote does not hold what it should."""


def repository(settings: Settings) -> Path:
    """Folder of the data repository."""
    return settings.home.absolute() / "data"


def remote(settings: Settings) -> Path:
    """Folder that versions are pushed to."""
    return (settings.data_remote or settings.home / "dvc-remote").absolute()


def commit_version(settings: Settings, name: str, files: Mapping[str, bytes] | Path, message: str) -> str:
    """Put a dataset version's files under `datasets/<name>`, commit and tag it, and give the commit.

    files: bytes by relative path, or a folder to copy. The same files under the same name are the same version: no new
    commit. Other files under a taken name raise `BadInput`, for a version never changes. Pushing is `push`.
    """
    contents = _read_files(files)
    with _held(settings):
        _ensure_repository(settings)
        where = repository(settings)
        known = _tagged_commit(settings, name)
        if known is not None:
            if _recorded(settings, name, known) != {path: _md5(data) for path, data in contents.items()}:
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
        _dvc(settings, "add", "--quiet", f"{_SHELF}/{name}")
        _git(where, "add", "--", f"{_SHELF}/{name}.dvc", f"{_SHELF}/.gitignore")
        # A run that was killed between commit and tag left the commit: there is nothing to add to it then.
        if _git(where, "status", "--porcelain", "--", _SHELF):
            _git(where, "commit", "--quiet", "-m", message or f"dataset {name}", "--", _SHELF)
        _git(where, "tag", "-a", f"{_TAG}{name}", "-m", message or f"dataset {name}")
        return _git(where, "rev-parse", "HEAD")


def push(settings: Settings, name: str | None = None) -> int:
    """Push all versions and prove it by reading the remote; how many files of `name` (or of all) were found there.

    Raises `DataRepositoryBroken` naming the first file that the remote lacks or holds differently.
    """
    with _held(settings):
        _ensure_repository(settings)
        _dvc(settings, "push", "--quiet", "--all-tags", "--jobs", "4")
        _git(repository(settings), "push", "--quiet", "--tags", str(remote(settings) / "git"), "HEAD:main")
        names = [name] if name is not None else list_versions(settings)
        return sum(prove(settings, one) for one in names)


def fetch(settings: Settings) -> list[str]:
    """Bring the data repository up to its remote; the names of its versions, oldest first.

    Raises `NotFound` where nothing was ever pushed, `DataRepositoryBroken` where each side has versions of its own.
    """
    far = _pushed(settings)
    with _held(settings):
        _ensure_repository(settings)
        where = repository(settings)
        _git(where, "fetch", "--quiet", "--tags", str(far), "main")
        if _git(where, "rev-list", "HEAD..FETCH_HEAD"):
            try:
                _git(where, "merge", "--quiet", "--ff-only", "FETCH_HEAD")
            except DataRepositoryBroken as error:
                raise DataRepositoryBroken(
                    f"{where} and its remote each have dataset versions of their own.",
                    "Begin with an empty ITS_HOME, and build what is missing again.",
                ) from error
        return list_versions(settings)


def pushed_versions(settings: Settings) -> list[str]:
    """Names of the versions in the remote, oldest first. Raises `NotFound` where nothing was ever pushed."""
    return _tags(_pushed(settings))


def checkout(settings: Settings, name: str, folder: Path) -> Path:
    """Fetch a version from the remote into `folder`, which appears whole or not at all; bit for bit what was committed.

    Nothing of the data repository but its remote is used. Raises `NotFound`, `DataRepositoryBroken`.
    """
    origin = _pushed(settings)
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty.", "Name an empty or a new folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".checkout-") as space:
        clone = Path(space) / "clone"
        try:
            _git(Path(space), "clone", "--quiet", "--branch", f"{_TAG}{name}", str(origin), str(clone))
        except DataRepositoryBroken as error:
            raise NotFound(
                f"The remote has no dataset version {name}.", "`its dataset list` shows those there are."
            ) from error
        _point_dvc_at(clone, remote(settings))
        _dvc(settings, "pull", "--quiet", f"{_SHELF}/{name}", where=clone)
        fetched = clone / _SHELF / name
        commit = _git(clone, "rev-parse", "HEAD")
        wanted = _recorded(settings, name, commit)
        found = {path: _md5(data) for path, data in _read_files(fetched).items()}
        if found != wanted:
            raise DataRepositoryBroken(f"What the remote gave for {name} is not what was committed.", "Push it again.")
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
    commit = _git_remote_commit(settings, name)
    if commit != _tagged_commit(settings, name):
        raise DataRepositoryBroken(f"The remote has no tag for {name}, or another one.", "Push again.")
    top = _pointer(settings, name, commit)
    recorded = _recorded(settings, name, commit)
    for md5, what in [(top, f"{name}'s list of files"), *((md5, path) for path, md5 in recorded.items())]:
        path = _object(remote(settings) / "files", md5)
        if not path.is_file():
            raise DataRepositoryBroken(f"The remote lacks {what} ({md5}).", "Push again.")
        if _md5(path.read_bytes()) != md5.removesuffix(".dir"):
            raise DataRepositoryBroken(f"The remote's copy of {what} is damaged.", f"Remove {path} and push again.")
    return len(recorded)


def bundle(settings: Settings) -> bytes | None:
    """The history of the data repository with all its tags, as `git bundle` writes it; None where there is none."""
    if not list_versions(settings):
        return None
    with _held(settings), tempfile.TemporaryDirectory(prefix="its-bundle-") as space:
        made = Path(space) / BUNDLE
        _git(repository(settings), "bundle", "create", "--quiet", str(made), "--all")
        return made.read_bytes()


def kept_files(settings: Settings) -> list[str]:
    """DVC's names (MD5) of all files of all versions, and of its lists of them."""
    found: set[str] = set()
    for name in list_versions(settings):
        commit = str(_tagged_commit(settings, name))
        found |= {_pointer(settings, name, commit), *_recorded(settings, name, commit).values()}
    return sorted(found)


def read_file(settings: Settings, md5: str) -> bytes:
    """A file by DVC's name of it, from this machine or from the remote. Raises `DataRepositoryBroken`."""
    for store in (repository(settings) / ".dvc" / "cache", remote(settings) / "files"):
        path = _object(store, md5)
        if path.is_file() and _md5(data := path.read_bytes()) == md5.removesuffix(".dir"):
            return data
    raise DataRepositoryBroken(f"The file {md5} of a dataset version is gone or damaged.", "`its doctor` names it.")


def file_key(md5: str) -> str:
    """Where DVC keeps a file of this name, below a remote or its cache."""
    return _object(Path(), md5).as_posix()


def restore(settings: Settings, bundled: bytes, files: Iterator[tuple[str, bytes]]) -> int:
    """Fill an empty remote with what `bundle` and `read_file` gave, prove it, and begin the repository from it.

    files: what `file_key` says, and the content. Gives how many versions there are then. A remote that has versions
    keeps them, and is only proved.
    """
    far = remote(settings)
    if not (far / "git").is_dir():
        (far / "files").mkdir(parents=True, exist_ok=True)
        for key, data in files:
            path = far / "files" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        with tempfile.TemporaryDirectory(prefix="its-bundle-") as space:
            (Path(space) / BUNDLE).write_bytes(bundled)
            _git(far, "clone", "--quiet", "--bare", str(Path(space) / BUNDLE), "git.new")
        (far / "git.new").rename(far / "git")
    return sum(1 for name in fetch(settings) if prove(settings, name))


def _pushed(settings: Settings) -> Path:
    """The git side of the remote. Raises `NotFound` where nothing was ever pushed to it."""
    far = remote(settings) / "git"
    if not far.is_dir() or not _tags(far):
        raise NotFound(
            f"No dataset version was ever pushed to {far.parent}.",
            "`its dataset build` makes and pushes one; ITS_DATA_REMOTE names another folder.",
        )
    return far


def _tags(where: Path) -> list[str]:
    order = ("--sort=version:refname", "--sort=creatordate")  # the name decides between two of one second
    lines = _git(where, "tag", "--list", f"{_TAG}*", *order).splitlines()
    return [line.removeprefix(_TAG) for line in lines]


def _recorded(settings: Settings, name: str, commit: str) -> dict[str, str]:
    """MD5 by path, as the commit records them through DVC's list of the folder."""
    md5 = _pointer(settings, name, commit)
    for store in (repository(settings) / ".dvc" / "cache", remote(settings) / "files"):
        listing = _object(store, md5)
        if listing.is_file():
            return {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_text())}
    raise DataRepositoryBroken(f"DVC's list of the files of {name} is gone.", "Restore home/dvc-remote.")


def _pointer(settings: Settings, name: str, commit: str) -> str:
    """DVC's hash of the version's folder, from the pointer file in the commit."""
    import yaml

    where = repository(settings) if (repository(settings) / ".git").is_dir() else remote(settings) / "git"
    pointer = yaml.safe_load(_git(where, "show", f"{commit}:{_SHELF}/{name}.dvc"))
    return str(pointer["outs"][0]["md5"])


def _object(store: Path, md5: str) -> Path:
    return store / "files" / "md5" / md5[:2] / md5[2:]


def _tagged_commit(settings: Settings, name: str) -> str | None:
    where = repository(settings)
    if not _git(where, "tag", "--list", f"{_TAG}{name}"):
        return None
    return _git(where, "rev-parse", f"{_TAG}{name}^{{commit}}")


def _git_remote_commit(settings: Settings, name: str) -> str:
    try:
        return _git(remote(settings) / "git", "rev-parse", f"{_TAG}{name}^{{commit}}")
    except DataRepositoryBroken as error:
        raise DataRepositoryBroken(f"The remote has no tag for {name}.", "Push again.") from error


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


def _ensure_repository(settings: Settings) -> None:
    where, far = repository(settings), remote(settings)
    program(settings)
    if not (far / "git").is_dir():
        far.mkdir(parents=True, exist_ok=True)
        _git(far, "init", "--quiet", "--bare", "--initial-branch=main", "git.new")
        (far / "git.new").rename(far / "git")
    # What is committed names the folder in the home folder; another one is this machine's own affair.
    if (where / ".dvc").is_dir():
        _point_dvc_at(where, settings.data_remote and far)
    # The last step of making it; a killed one is begun again.
    if (where / ".git" / "its-ready").exists():
        # What a killed git or DVC left would keep the next one out; nobody else is here.
        for stale in (
            where / ".git" / "index.lock",
            where / ".dvc" / "tmp" / "lock",
            where / ".dvc" / "tmp" / "rwlock",
        ):
            stale.unlink(missing_ok=True)
        return
    where.mkdir(parents=True, exist_ok=True)
    _git(where, "init", "--quiet", "--initial-branch=main")
    for key, value in {
        "user.name": "its-platform",
        "user.email": "its-platform@localhost",
        "commit.gpgsign": "false",
        "tag.gpgsign": "false",
        "core.autocrlf": "false",
        "core.hooksPath": "/dev/null",
    }.items():
        _git(where, "config", key, value)
    if _git(far / "git", "branch", "--list", "main"):
        # Another machine's versions are there already: a history of our own beside theirs could never be pushed.
        _git(where, "fetch", "--quiet", "--tags", str(far / "git"), "main")
        _git(where, "reset", "--quiet", "--hard", "FETCH_HEAD")
    if not (where / ".dvc" / "config").is_file():
        shutil.rmtree(where / ".dvc", ignore_errors=True)
        _dvc(settings, "init", "--quiet")
    # Written here rather than by five calls of DVC, each of which takes a second. Paths within the home folder are
    # relative, so that it can be moved.
    (where / ".dvc" / "config").write_text(_CONFIGURATION)
    (where / _SHELF).mkdir(exist_ok=True)
    (where / "README.md").write_text("Dataset versions; each is a tag `dataset/<name>`. Written by `its dataset`.\n")
    _git(where, "add", "--all")
    if _git(where, "status", "--porcelain"):
        _git(where, "commit", "--quiet", "-m", "data repository")
    _point_dvc_at(where, settings.data_remote and far)
    (where / ".git" / "its-ready").touch()


def _point_dvc_at(clone: Path, far: Path | None) -> None:
    """Let DVC in a clone use the remote `far`, or the committed one. Written here: a call of DVC takes a second."""
    local = clone / ".dvc" / "config.local"
    if far is None:
        local.unlink(missing_ok=True)
    else:
        local.write_text(f"['remote \"{_REMOTE}\"']\n    url = {far / 'files'}\n")


def program(settings: Settings) -> Path:
    """DVC's own program. Raises `ServerUnavailable` when its environment is missing."""
    path = settings.environments / "dvc" / "bin" / "dvc"
    if not path.is_file():
        raise ServerUnavailable(f"DVC is not installed at {path.parent.parent}.", "Run `make install`.")
    return path


def _dvc(settings: Settings, *words: str, where: Path | None = None) -> str:
    return _run([str(program(settings)), *words], where or repository(settings), settings)


def _git(where: Path, *words: str) -> str:
    return _run(["git", "-c", "safe.directory=*", *words], where, None)


def _run(command: list[str], where: Path, settings: Settings | None) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "DVC_"))}
    # Neither a person's own git configuration nor the checkout around the home folder has a say here.
    environment |= {**SILENT, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}
    environment |= {"GIT_CEILING_DIRECTORIES": str(where.parent), "DVC_NO_ANALYTICS": "1", "LC_ALL": "C.UTF-8"}
    if settings is not None:
        # DVC keeps a site cache and its configuration in the home of whoever runs it, unless told otherwise.
        environment["DVC_SITE_CACHE_DIR"] = str(settings.home.absolute() / "dvc-site")
        environment["DVC_GLOBAL_CONFIG_DIR"] = str(settings.home.absolute() / "dvc-site" / "global")
        environment["DVC_SYSTEM_CONFIG_DIR"] = str(settings.home.absolute() / "dvc-site" / "system")
    try:
        done = subprocess.run(
            command, cwd=where, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=600, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ServerUnavailable(f"{command[0]} is not installed.", "Install git and run `make install`.") from error
    except subprocess.TimeoutExpired as error:
        raise ServerUnavailable(f"`{Path(command[0]).name} {command[-1]}` took more than ten minutes.") from error
    if done.returncode != 0:
        told = [line for line in (done.stderr + done.stdout).strip().splitlines() if line.strip()]
        what = " ".join([Path(command[0]).name, *command[1:]])
        raise DataRepositoryBroken(
            f"`{what}` failed in {where}: {told[0] if told else 'no word from it'}", "`its doctor` looks further."
        )
    return done.stdout.strip()


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
