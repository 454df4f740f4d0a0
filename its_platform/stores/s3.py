"""Objects in a bucket of any S3 API.

A request that a server or network failed is made again a few times. Each object carries the SHA-256 of its bytes, which
is compared on every read. Large objects are sent in parts; until the last one is there, nothing can be read.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from its_platform.certificates import EXPIRED_HINT
from its_platform.errors import BadInput, NotFound, PermanentError, ServerUnavailable
from its_platform.stores.object_store import ABANDONED_S, ObjectDamaged, check_key

if TYPE_CHECKING:
    from minio import Minio
    from minio.datatypes import Object


class NotOffered(PermanentError):
    """The server does not have what was asked for."""


class NoBucket(BadInput):
    """The server answers and has no bucket of this name."""


T = TypeVar("T")
PART_BYTES = 16 << 20
"""A larger object is sent in parts of this size."""
ATTEMPTS = 5
FIRST_PAUSE_S = 0.2
CHECKSUM = "x-amz-meta-sha256"
# What a server says when it would have answered at another moment.
_PASSING = {"InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "OperationAborted"}
# And of what it will not do at any.
_NOT_OFFERED = {"NotImplemented", "MethodNotAllowed", "MalformedXML", "InvalidRequest", "InvalidArgument"}


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
                timeout=urllib3.Timeout(connect=5, read=30),
                maxsize=16,
                # Whole requests are made again here, with the reading of their answers.
                retries=urllib3.Retry(total=0),
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
        if self._has_bucket():
            return
        try:
            self.asked(self.bucket, lambda: self.client.make_bucket(self.bucket))
        except ServerUnavailable:
            # Another process may have made it since, or an earlier request whose answer was lost.
            if not self._has_bucket():
                raise

    def put(self, key: str, data: bytes) -> None:
        name = self.prefix + check_key(key)
        checksum: dict[str, Any] = {CHECKSUM: hashlib.sha256(data).hexdigest()}
        self.asked(
            key,
            lambda: self.client.put_object(
                self.bucket, name, BytesIO(data), len(data), metadata=checksum, part_size=PART_BYTES
            ),
        )

    def get(self, key: str) -> bytes:
        """The object's bytes, all of them. Raises `NotFound`, and `ObjectDamaged` where they are not those stored."""
        name = self.prefix + check_key(key)
        data, checksum = self.asked(key, lambda: self._read(name))
        # Objects of earlier releases, and of others, have none.
        if checksum is not None and hashlib.sha256(data).hexdigest() != checksum:
            raise ObjectDamaged(
                f"The object {key} at {self.endpoint} does not have the checksum that it was stored with.",
                "Restore it from a copy of the object store.",
            )
        return data

    def exists(self, key: str) -> bool:
        name = self.prefix + check_key(key)
        try:
            self.asked(key, lambda: self.client.stat_object(self.bucket, name))
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[str]:
        return (str(item.object_name).removeprefix(self.prefix) for item in self._items(prefix))

    def delete(self, key: str) -> None:
        name = self.prefix + check_key(key)
        self.asked(key, lambda: self.client.remove_object(self.bucket, name))

    def erase(self, key: str) -> None:
        """Delete it so that nothing of it can be had again: every version that the bucket kept."""
        name = self.prefix + check_key(key)

        def kept() -> list[str | None]:
            versions = self.client.list_objects(self.bucket, prefix=name, recursive=True, include_version=True)
            return [item.version_id for item in versions if item.object_name == name]

        try:
            found = self.asked(key, kept)
        except NotOffered:
            # It keeps none then.
            found = [None]
        for version in found:
            self.asked(key, partial(self.client.remove_object, self.bucket, name, version_id=version))

    def stamps(self) -> Iterator[tuple[str, str]]:
        """Each key with a word that changes when the object does, without reading it."""
        for item in self._items():
            moment = item.last_modified.isoformat() if item.last_modified else ""
            yield str(item.object_name).removeprefix(self.prefix), f"{item.etag}-{item.size}-{moment}"

    def sweep(self) -> int:
        """Remove the parts that writers which were killed left behind; of how many objects."""
        try:
            return self.asked(self.prefix, self._abort_abandoned)
        except NotOffered:
            return 0

    def _has_bucket(self) -> bool:
        return self.asked(self.bucket, lambda: self.client.bucket_exists(self.bucket))

    def _items(self, prefix: str = "") -> Iterator[Object]:
        """What the server lists; goes on after the last one where a page had to be asked for again."""
        last, attempt = None, 0
        while True:
            try:
                with self._translated(prefix):
                    for item in self.client.list_objects(
                        self.bucket, prefix=self.prefix + prefix, recursive=True, start_after=last
                    ):
                        last, attempt = str(item.object_name), 0
                        yield item
                return
            except ServerUnavailable as error:
                _pause(attempt, ATTEMPTS, error)
                attempt += 1

    def _read(self, name: str) -> tuple[bytes, str | None]:
        answer = self.client.get_object(self.bucket, name)
        try:
            # Fewer bytes than were announced are an error of urllib3's.
            data: bytes = answer.read()
            return data, answer.headers.get(CHECKSUM)
        finally:
            answer.close()
            answer.release_conn()

    def _abort_abandoned(self) -> int:
        # The SDK has these two requests and no public name for them.
        removed, now = 0, datetime.now(UTC)
        answer = self.client._list_multipart_uploads(self.bucket, prefix=self.prefix)
        for upload in answer.uploads:
            began, name, number = upload.initiated_time, upload.object_name, upload.upload_id
            if began is not None and number and abs((now - began).total_seconds()) > ABANDONED_S:
                self.client._abort_multipart_upload(self.bucket, name, number)
                removed += 1
        return removed

    def asked(self, key: str, request: Callable[[], T], attempts: int = ATTEMPTS) -> T:
        """The answer to a request, made again where the server or the way to it may be better in a moment."""
        for attempt in count():
            try:
                with self._translated(key):
                    return request()
            except ServerUnavailable as error:
                _pause(attempt, attempts, error)
        raise AssertionError

    def translated(self, answers: Iterable[T]) -> Iterator[T]:
        """The answers of a request that comes in pages. Raises what `asked` raises."""
        with self._translated(self.prefix):
            yield from answers

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
            if error.code in _NOT_OFFERED:
                raise NotOffered(f"The object store at {self.endpoint} does not offer this ({error.code}).") from error
            if error.code == "NoSuchBucket":
                raise NoBucket(
                    f"The bucket {self.bucket} does not exist at {self.endpoint}.",
                    f"`its up`, a first backup or a first push makes it; or check {self.named_by}.",
                ) from error
            if error.code in {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}:
                raise BadInput(
                    f"The object store at {self.endpoint} refuses the credentials ({error.code}).",
                    f"Check {self.named_by} or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
                ) from error
            raise ServerUnavailable(f"The object store at {self.endpoint} answers {error.code}.") from error
        except (HTTPError, MinioException, OSError) as error:
            if "certificate has expired" in str(error):
                raise ServerUnavailable(
                    f"The object store at {self.endpoint} shows a certificate that has expired.",
                    EXPIRED_HINT
                    if self.root is not None
                    else f"Who runs it has to renew it; or check {self.named_by}.",
                ) from error
            raise ServerUnavailable(
                f"The object store at {self.endpoint} does not answer.", f"Start it, or check {self.named_by}."
            ) from error


def _pause(attempt: int, attempts: int, error: ServerUnavailable) -> None:
    """Wait before the next attempt; raise the error where there is none, or where it will not pass by itself."""
    if attempt == attempts - 1 or getattr(error.__cause__, "code", "InternalError") not in _PASSING:
        raise error
    # Spread, so that all who wait for a server that comes back do not ask it at once.
    time.sleep(FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.5))
