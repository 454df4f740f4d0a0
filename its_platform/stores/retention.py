"""How long objects are kept: versions of what is replaced or deleted, and the expiry of raw footage.

A bucket gets versioning, rules of its lifecycle, and encryption by its server, as far as that server has them; what it
lacks is said by `lacking`. Others' servers carry the rules out. SeaweedFS keeps them and leaves that to a worker of its
own, and a folder knows none: for those of this home, and where `objects.expire_here` says so, `expire` does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING

from its_platform.errors import BadInput, ServerUnavailable
from its_platform.settings import Settings
from its_platform.stores.directory import DirectoryStore
from its_platform.stores.s3 import NotOffered, S3Store

if TYPE_CHECKING:
    from minio.lifecycleconfig import LifecycleConfig

RAW_FOOTAGE = "frames/"
_RAW, _REPLACED = "its-raw-footage", "its-replaced"
_PROBE = "encryption-is-tried"


@dataclass(frozen=True)
class Retention:
    """Days after which raw footage expires (None: never), and that replaced and deleted versions are kept."""

    raw_days: int | None = None
    replaced_days: int = 30


@dataclass(frozen=True)
class Version:
    """One version of an object. is_mark: it says that the object was deleted. is_latest: it is the one in force."""

    number: str | None
    at: datetime
    is_mark: bool
    is_latest: bool


def retention_of(settings: Settings) -> Retention:
    return Retention(settings.objects.retention_days, settings.objects.replaced_days)


def is_expired_here(settings: Settings) -> bool:
    """Whether this home removes what has expired: from a folder, its own server, or where the settings say so."""
    url = settings.objects_url
    return url is None or url.startswith("file://") or settings.objects.expire_here


def arrange(store: S3Store, wanted: Retention) -> None:
    """Have the bucket keep versions, expire them and raw footage, and encrypt, where its server has that.

    Versioning that somebody suspended stays so, and so do rules that are not the platform's. Raises
    `ServerUnavailable`.
    """
    for step in (_keep_versions, _set_rules, _encrypt):
        try:
            step(store, wanted)
        except (NotOffered, BadInput):
            # No such thing there, or no right to it: the doctor tells.
            continue


def lacking(store: S3Store, wanted: Retention, is_expired_here: bool = False) -> list[str]:
    """What the bucket does not do of what `arrange` asks for, in words. Raises `ServerUnavailable`.

    is_expired_here: what has expired is removed by the supervisor, whatever rules the bucket has.
    """
    checks: list[tuple[Callable[[], bool], str]] = [
        (lambda: _status(store) == "Enabled", "versions of what is replaced or deleted"),
        (
            lambda: is_expired_here or _own_rules(_rules(store)) == _wanted(store, wanted),
            "expiry (objects.retention_days)",
        ),
        (lambda: _is_encrypting(store), "encryption by the server"),
    ]
    return [words for is_so, words in checks if not _answered(is_so)]


def expire(store: S3Store | DirectoryStore, wanted: Retention, now: datetime | None = None) -> int:
    """Remove raw footage and replaced versions that are older than `wanted`; how many objects and versions."""
    now = now or datetime.now(UTC)
    if isinstance(store, S3Store):
        return _expire_in_bucket(store, wanted, now, store.prefix)
    return 0 if wanted.raw_days is None else _expire_in_folder(store, now - timedelta(days=wanted.raw_days))


def _expire_in_folder(store: DirectoryStore, before: datetime) -> int:
    old = [key for key in store.list(RAW_FOOTAGE) if store.path(key).stat().st_mtime < before.timestamp()]
    for key in old:
        store.delete(key)
    return len(old)


def _expire_in_bucket(store: S3Store, wanted: Retention, now: datetime, prefix: str) -> int:
    """Folder by folder, as all versions of a name have to be seen before one of them is judged."""
    found: dict[str, list[Version]] = {}
    folders, removed = [], 0
    listed = store.client.list_objects(store.bucket, prefix=prefix, include_version=True)
    for item in store.translated(listed):
        name = str(item.object_name)
        if item.is_dir:
            folders.append(name)
        elif item.last_modified is not None:
            found.setdefault(name, []).append(
                Version(item.version_id, item.last_modified, bool(item.is_delete_marker), item.is_latest != "false")
            )
    for name, versions in found.items():
        for doomed in expired(versions, wanted, now, is_raw=name.startswith(store.prefix + RAW_FOOTAGE)):
            _remove(store, name, doomed.number if not doomed.is_latest or doomed.is_mark else None)
            removed += 1
    return removed + sum(_expire_in_bucket(store, wanted, now, folder) for folder in folders)


def expired(versions: Iterable[Version], wanted: Retention, now: datetime, is_raw: bool) -> list[Version]:
    """Those versions of one object that are to be removed, the oldest first: else one of them would be in force again.

    A version is kept from when the next one came, a mark of deletion from when it was set.
    """
    ordered = sorted(versions, key=lambda one: (one.is_latest, one.at))
    found = []
    for one, after in zip(ordered, [*ordered[1:], None], strict=True):
        if after is not None or one.is_mark:
            if (after or one).at < now - timedelta(days=wanted.replaced_days):
                found.append(one)
        elif is_raw and wanted.raw_days is not None and one.at < now - timedelta(days=wanted.raw_days):
            found.append(one)
    return found


def _remove(store: S3Store, name: str, version: str | None) -> None:
    store.asked(name, lambda: store.client.remove_object(store.bucket, name, version_id=version))


def _keep_versions(store: S3Store, wanted: Retention) -> None:
    from minio.versioningconfig import ENABLED, OFF, VersioningConfig

    if _status(store) == OFF:
        store.asked(store.bucket, lambda: store.client.set_bucket_versioning(store.bucket, VersioningConfig(ENABLED)))


def _set_rules(store: S3Store, wanted: Retention) -> None:
    from minio.commonconfig import ENABLED, Filter
    from minio.lifecycleconfig import Expiration, LifecycleConfig, NoncurrentVersionExpiration, Rule

    there = _rules(store)
    if _own_rules(there) == _wanted(store, wanted):
        return
    rules = [rule for rule in (there.rules if there else []) if rule.rule_id not in (_RAW, _REPLACED)]
    if wanted.raw_days is not None:
        where = Filter(prefix=store.prefix + RAW_FOOTAGE)
        rules.append(Rule(ENABLED, rule_filter=where, rule_id=_RAW, expiration=Expiration(days=wanted.raw_days)))
    rules.append(
        Rule(
            ENABLED,
            rule_filter=Filter(prefix=store.prefix),
            rule_id=_REPLACED,
            expiration=Expiration(expired_object_delete_marker=True),
            noncurrent_version_expiration=NoncurrentVersionExpiration(noncurrent_days=wanted.replaced_days),
        )
    )
    store.asked(store.bucket, lambda: store.client.set_bucket_lifecycle(store.bucket, LifecycleConfig(rules)))


def _encrypt(store: S3Store, wanted: Retention) -> None:
    """By a trial: a server may take the wish, and then refuse every object for want of a key."""
    from minio.sse import SseS3
    from minio.sseconfig import Rule, SSEConfig

    if _is_encrypting(store):
        return
    name = store.prefix + _PROBE
    try:
        tried = store.asked(
            name, lambda: store.client.put_object(store.bucket, name, BytesIO(b"x"), 1, sse=SseS3()), attempts=1
        )
    except ServerUnavailable:
        return
    store.asked(name, lambda: store.client.remove_object(store.bucket, name, version_id=tried.version_id))
    rule = SSEConfig(Rule.new_sse_s3_rule())
    store.asked(store.bucket, lambda: store.client.set_bucket_encryption(store.bucket, rule))


def _status(store: S3Store) -> str:
    from minio.versioningconfig import OFF

    return store.asked(store.bucket, lambda: store.client.get_bucket_versioning(store.bucket).status) or OFF


def _is_encrypting(store: S3Store) -> bool:
    return store.asked(store.bucket, lambda: store.client.get_bucket_encryption(store.bucket)) is not None


def _rules(store: S3Store) -> LifecycleConfig | None:
    return store.asked(store.bucket, lambda: store.client.get_bucket_lifecycle(store.bucket))


def _own_rules(there: LifecycleConfig | None) -> set[tuple[str, str, int | None]]:
    """The platform's own: name, prefix, days."""
    found: set[tuple[str, str, int | None]] = set()
    for rule in there.rules if there else []:
        days = rule.expiration.days if rule.expiration else None
        if rule.noncurrent_version_expiration:
            days = rule.noncurrent_version_expiration.noncurrent_days
        if rule.rule_id in (_RAW, _REPLACED) and rule.status == "Enabled":
            found.add((rule.rule_id, (rule.rule_filter.prefix or "") if rule.rule_filter else "", days))
    return found


def _wanted(store: S3Store, wanted: Retention) -> set[tuple[str, str, int | None]]:
    rules: set[tuple[str, str, int | None]] = {(_REPLACED, store.prefix, wanted.replaced_days)}
    if wanted.raw_days is not None:
        rules.add((_RAW, store.prefix + RAW_FOOTAGE, wanted.raw_days))
    return rules


def _answered(is_so: Callable[[], bool]) -> bool:
    try:
        return is_so()
    except (NotOffered, BadInput):
        return False
