"""Bytes under a name: JPEG frames, manifests, exported models.

One protocol, two implementations (a directory, or any S3 API) that pass the same contract suite. A key is a relative
POSIX path such as `frames/ab/abcd….jpg`. Which key a thing gets is decided by the stage that stores it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from its_platform.errors import BadInput, NotFound, ServerUnavailable, TransientError
from its_platform.private_files import password
from its_platform.settings import Settings

if TYPE_CHECKING:
    from minio import Minio

BUCKET = "its"
_KEY = re.compile(r"[A-Za-z0-9_.=+@-]+(/[A-Za-z0-9_.=+@-]+)*")
# Half-written objects lie apart, so that what a killed writer left is found without walking over all the others.
_UNFINISHED = ".unfinished"
_ABANDONED_S = 3600.0
# Full, over a quota, or larger than this process may write: to whoever writes it is the same.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StorageFull(TransientError):
    """There is no room for what was to be written; nothing of it was."""


class NoBucket(BadInput):
    """The server answers and has no bucket of this name."""


def no_room(folder: Path, error: BaseException) -> StorageFull | None:
    """The error to raise when `error` says that the disk under `folder` is full; None when it says something else."""
    words = os.strerror(errno.ENOSPC)
    if getattr(error, "errno", None) not in _NO_ROOM and words not in str(error):
        return None
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    free = shutil.disk_usage(there).free / 1e6
    return StorageFull(
        f"The disk under {folder} is full: {free:.0f} MB are free; nothing that was stored is lost.",
        "Make room; what was being written is then written again.",
    )


class ObjectStore(Protocol):
    """What every object store promises.

    `put` is atomic and idempotent: a reader sees the old bytes or the new, never half. `get` raises `NotFound`.
    `list` gives the keys that start with `prefix`, sorted. `delete` of a missing key does nothing.
    A server that does not answer is `ServerUnavailable`, never an empty answer.
    """

    def put(self, key: str, data: bytes) -> None: ...
    def get(self, key: str) -> bytes: ...
    def exists(self, key: str) -> bool: ...
    def list(self, prefix: str = "") -> Iterator[str]: ...
    def delete(self, key: str) -> None: ...


def open_objects(settings: Settings) -> ObjectStore:
    """The object store of these settings; nothing is connected to yet."""
    if settings.objects_url is not None and settings.objects_url.startswith("file://"):
        folder = Path(unquote(urlsplit(settings.objects_url).path))
        if not folder.is_dir():
            raise BadInput(
                f"There is no folder {folder} for frames.", "Make or mount it; it is named by ITS_OBJECTS_URL."
            )
        return DirectoryStore(folder)
    if settings.objects_url is not None:
        return S3Store(settings.objects_url)
    if settings.runs_objects:
        key, secret = objects_key(settings)
        address = f"s3+https://{key}:{quote(secret)}@{settings.host}:{settings.ports.objects}/{BUCKET}"
        return S3Store(address, settings.certificates / "ca.pem")
    return DirectoryStore(settings.home / "objects")


def open_plain(settings: Settings) -> DirectoryStore | S3Store:
    """The store with the bytes as they lie there, under whatever stands before it: for copies, which open nothing."""
    found = open_objects(settings)
    assert isinstance(found, DirectoryStore | S3Store)
    return found


def objects_key(settings: Settings) -> tuple[str, str]:
    """Name and secret of the one user of this home's own S3 server."""
    return "its", password(settings.services / "passwords" / "objects")


def check_key(key: str) -> str:
    """The key itself when it can be used. Raises `BadInput` for one that leads out of the store or is not portable."""
    if not _KEY.fullmatch(key) or any(part in {".", ".."} for part in key.split("/")) or len(key) > 900:
        raise BadInput(f"{key!r} cannot be the key of an object.", "Use a relative path of letters, digits and _.=+@-.")
    return key


def file_stamp(path: Path) -> str:
    """A word that changes when the file is written anew. Raises `FileNotFoundError`."""
    found = path.stat()
    return f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"


class DirectoryStore:
    """Objects as files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where the object lies, for readers that want a file rather than bytes."""
        return self.folder / check_key(key)

    def put(self, key: str, data: bytes) -> None:
        """Raises `StorageFull`; the object is then as it was."""
        path = self.path(key)
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return
        unfinished = self.folder / _UNFINISHED / uuid.uuid4().hex
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.parent.mkdir(exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(data)
                file.flush()
                os.fdatasync(file.fileno())
            unfinished.replace(path)
        except OSError as error:
            if (full := no_room(self.folder, error)) is not None:
                raise full from error
            raise
        finally:
            unfinished.unlink(missing_ok=True)

    def sweep(self) -> int:
        """Remove what writers that were killed left half-written; how many there were."""
        removed = 0
        for left in (self.folder / _UNFINISHED).glob("*"):
            # By either sign of the difference: the clock may have been set since.
            if abs(time.time() - left.stat().st_mtime) > _ABANDONED_S:
                left.unlink(missing_ok=True)
                removed += 1
        return removed

    def get(self, key: str) -> bytes:
        try:
            return self.path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFound(f"There is no object {key}.") from error

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def list(self, prefix: str = "") -> Iterator[str]:
        top = self.folder / prefix.rpartition("/")[0]
        keys = (
            path.relative_to(self.folder).as_posix()
            for path in top.rglob("*")
            if path.parent.name != _UNFINISHED and path.is_file()
        )
        yield from sorted(key for key in keys if key.startswith(prefix))

    def delete(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def erase(self, key: str) -> None:
        """Delete it so that nothing of it can be had again."""
        self.delete(key)

    def stamps(self) -> Iterator[tuple[str, str]]:
        """Each key with a word that changes when the object does, without reading it."""
        for key in self.list():
            try:
                yield key, file_stamp(self.path(key))
            except FileNotFoundError:
                continue


class S3Store:
    """Objects in a bucket of any S3 API.

    address: `s3+http://key:secret@host:port/bucket` or `s3+https://…`, optionally with `/prefix` after the bucket.
    Without a key in it, the credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from
    ~/.aws/credentials. root: the authority that signed the server's certificate, where the system does not know it.
    named_by: the setting that a person looks at where something is wrong with the address.
    """

    def __init__(self, address: str, root: Path | None = None, named_by: str = "ITS_OBJECTS_URL") -> None:
        self.root = root
        self.named_by = named_by
        parts = urlsplit(address)
        bucket, _, prefix = parts.path.strip("/").partition("/")
        if parts.scheme not in {"s3+http", "s3+https"} or not parts.hostname or not bucket:
            raise BadInput(
                "The address of the object store cannot be read.",
                f"{named_by} looks like s3+http://key:secret@host:port/bucket.",
            )
        self.endpoint = parts.hostname + (f":{parts.port}" if parts.port else "")
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self._is_secure = parts.scheme == "s3+https"
        self._access = unquote(parts.username or "")
        self._secret = unquote(parts.password or "")
        self._client: Minio | None = None

    def __repr__(self) -> str:
        return f"S3Store({self.endpoint}/{self.bucket}/{self.prefix})"

    @property
    def url(self) -> str:
        """The server, for other clients."""
        return f"{'https' if self._is_secure else 'http'}://{self.endpoint}"

    @property
    def key(self) -> tuple[str, str]:
        """Name and secret of who asks; empty where the environment has them."""
        return self._access, self._secret

    @property
    def client(self) -> Minio:
        if self._client is None:
            import urllib3
            from minio import Minio
            from minio.credentials import AWSConfigProvider, ChainedProvider, EnvAWSProvider

            pool = urllib3.PoolManager(
                ca_certs=str(self.root) if self.root is not None else None,
                timeout=urllib3.Timeout(connect=5, read=60),
                maxsize=16,
                retries=urllib3.Retry(total=3, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
            )
            credentials: dict[str, Any] = (
                {"access_key": self._access, "secret_key": self._secret}
                if self._access
                else {"credentials": ChainedProvider([EnvAWSProvider(), AWSConfigProvider()])}
            )
            self._client = Minio(self.endpoint, secure=self._is_secure, http_client=pool, **credentials)
        return self._client

    def ask(self) -> None:
        """Raises `ServerUnavailable` where the server does not answer, `BadInput` where it refuses who asks."""
        with self._translated(self.bucket):
            self.client.bucket_exists(self.bucket)

    def create_bucket(self) -> None:
        """Make the bucket unless it is there."""
        with self._translated(self.bucket):
            if not self.client.bucket_exists(self.bucket):
                self.client.make_bucket(self.bucket)

    def put(self, key: str, data: bytes) -> None:
        name = self.prefix + check_key(key)
        with self._translated(key):
            self.client.put_object(self.bucket, name, BytesIO(data), len(data))

    def get(self, key: str) -> bytes:
        name = self.prefix + check_key(key)
        with self._translated(key):
            answer = self.client.get_object(self.bucket, name)
            try:
                data: bytes = answer.read()
                return data
            finally:
                answer.close()
                answer.release_conn()

    def exists(self, key: str) -> bool:
        name = self.prefix + check_key(key)
        try:
            with self._translated(key):
                self.client.stat_object(self.bucket, name)
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[str]:
        with self._translated(prefix):
            for item in self.client.list_objects(self.bucket, prefix=self.prefix + prefix, recursive=True):
                yield str(item.object_name).removeprefix(self.prefix)

    def delete(self, key: str) -> None:
        name = self.prefix + check_key(key)
        with self._translated(key):
            self.client.remove_object(self.bucket, name)

    def erase(self, key: str) -> None:
        """Delete it so that nothing of it can be had again: every version that the bucket kept."""
        name = self.prefix + check_key(key)
        with self._translated(key):
            for item in self.client.list_objects(self.bucket, prefix=name, recursive=True, include_version=True):
                if item.object_name == name:
                    self.client.remove_object(self.bucket, name, version_id=item.version_id)

    def stamps(self) -> Iterator[tuple[str, str]]:
        """Each key with a word that changes when the object does, without reading it."""
        with self._translated(self.bucket):
            for item in self.client.list_objects(self.bucket, prefix=self.prefix, recursive=True):
                moment = item.last_modified.isoformat() if item.last_modified else ""
                yield str(item.object_name).removeprefix(self.prefix), f"{item.etag}-{item.size}-{moment}"

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """What the SDK raises, in the platform's words."""
        from minio.error import MinioException, S3Error
        from urllib3.exceptions import HTTPError

        try:
            yield
        except S3Error as error:
            if error.code in {"NoSuchKey", "NoSuchObject", "ResourceNotFound"}:
                raise NotFound(f"There is no object {key}.") from error
            if error.code == "NoSuchBucket":
                raise NoBucket(
                    f"The bucket {self.bucket} does not exist at {self.endpoint}.", "its up creates it."
                ) from error
            if error.code in {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}:
                raise BadInput(
                    f"The object store at {self.endpoint} refuses the credentials ({error.code}).",
                    f"Check {self.named_by} or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
                ) from error
            raise ServerUnavailable(f"The object store at {self.endpoint} answers {error.code}.") from error
        except (HTTPError, MinioException, OSError) as error:
            raise ServerUnavailable(
                f"The object store at {self.endpoint} does not answer.", f"Start it, or check {self.named_by}."
            ) from error
