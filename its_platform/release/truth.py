"""The truth about what is served: the table `releases`, and the lease under which alone it is changed.

A row says that a version was seen answering at a stage, through the front, from `since` until `until`. Gates, drift
and rollback read only this. Which version ought to be served is not known here (`reconciling.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa

from its_platform.errors import LeaseHeld
from its_platform.release.stages import SERVED, Stage, stage_of
from its_platform.stores import Stores
from its_platform.stores.audit import Action, record
from its_platform.stores.database import check_fencing, process_holder
from its_platform.stores.registry import MODEL_NAME
from its_platform.stores.runs import MADE_BY, made_by
from its_platform.stores.schema import LeaseRow, ReleaseRow

LEASE = "release"
# Longer than any one step between two renewals (a load by a busy Triton), and short enough to wait out.
LEASE_S = 300.0
ChangeKind = Literal["released", "rolled_back", "ended", "restored", "refused", "failed", "unchanged"]


@dataclass(frozen=True, slots=True)
class Release:
    """One version at one stage. `model` is Triton's name for it, `digest` that of its ONNX file."""

    id: int
    stage: str
    model_name: str
    version: int
    model: str
    digest: str
    endpoint: str
    since: datetime
    until: datetime | None
    by: str
    why: str
    fencing: int | None
    evidence: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ReleaseChange:
    """One thing that happened, or was kept from happening, at a stage.

    `version` is the one it is about, `previous` the one served before; `release` is the new row, if there is one.
    """

    stage: str
    kind: ChangeKind
    version: int
    previous: int | None
    reason: str
    at: datetime
    release: Release | None = None


@dataclass(frozen=True)
class Lease:
    """The right to change what is served, held by one caller in one process."""

    stores: Stores
    holder: str
    fencing: int

    def renew(self) -> None:
        """Hold it for another while. Raises `LeaseHeld` when it has changed hands."""
        if self.stores.database.lease(LEASE, self.holder, LEASE_S) != self.fencing:
            raise LeaseHeld("The lease on releases has run out.", "The next reconcile goes on from what is true.")


@contextmanager
def lease(stores: Stores, wait_s: float = 0.0) -> Iterator[Lease]:
    """Be the only one who changes what is served. Raises `LeaseHeld` at once, or after `wait_s` seconds.

    The advisory lock goes with its process, so that a crash blocks nobody; the fencing number keeps one who lost
    the lock without knowing (a paused process, a cut connection) from writing afterwards.
    """
    database = stores.database
    with database.lock(LEASE, wait_s=wait_s):
        with database.session() as session:
            left_behind = session.execute(sa.select(LeaseRow.fencing).where(LeaseRow.name == LEASE)).scalar()
        if left_behind is not None:
            database.release_lease(LEASE, left_behind)
        # A holder of its own for each call: two threads of a process are two.
        holder = f"{process_holder()}:{uuid.uuid4().hex[:8]}"
        held = Lease(stores, holder, database.lease(LEASE, holder, LEASE_S))
        try:
            yield held
        finally:
            database.release_lease(LEASE, held.fencing)


def served(stores: Stores, stage: str = "production") -> Release | None:
    """What is served at a stage now; None means that nothing was ever released there."""
    query = sa.select(ReleaseRow).where(
        ReleaseRow.stage == stage, ReleaseRow.until.is_(None), ReleaseRow.model_name == MODEL_NAME
    )
    with stores.database.session() as session:
        row = session.execute(query).scalar_one_or_none()
        return _release(row) if row is not None else None


def history(stores: Stores, stage: str | None = None) -> list[Release]:
    """Every release there was, the latest first."""
    query = sa.select(ReleaseRow).where(ReleaseRow.model_name == MODEL_NAME)
    if stage is not None:
        query = query.where(ReleaseRow.stage == stage)
    with stores.database.session() as session:
        return [_release(row) for row in session.execute(query.order_by(ReleaseRow.id.desc())).scalars()]


def former_versions(stores: Stores, stage: str = "production") -> list[int]:
    """Versions that were served at a stage before the one that is served now, the latest first, each once."""
    current = served(stores, stage)
    found = [release.version for release in history(stores, stage)]
    return [version for version in dict.fromkeys(found) if current is None or version != current.version]


def first_row(stores: Stores, row: Release) -> Release:
    """The row with which the version of a row began to be at its stage, through all that followed without a break."""
    first = row
    for earlier in history(stores, row.stage):
        if earlier.id >= row.id:
            continue
        if earlier.version != row.version or earlier.until is None or earlier.until < first.since:
            break
        first = earlier
    return first


def record_release(
    held: Lease,
    *,
    stage: str,
    version: int,
    model: str,
    digest: str,
    endpoint: str,
    by: str,
    why: str,
    evidence: dict[str, Any],
    action: Action,
) -> Release:
    """Write what was just seen answering, and end the row before it, in one transaction with its row of `audit`.

    Raises `LeaseHeld` when the lease has changed hands since; then nothing is written.
    """
    now = datetime.now(UTC)
    # A canary's next step takes over the evidence of the one before, which another run may have made.
    evidence = {name: value for name, value in evidence.items() if name != MADE_BY} | made_by()
    with held.stores.database.session() as session:
        check_fencing(session, LEASE, held.fencing)
        session.execute(
            sa.update(ReleaseRow)
            .where(ReleaseRow.stage == stage, ReleaseRow.until.is_(None), ReleaseRow.model_name == MODEL_NAME)
            .values(until=now)
        )
        row = ReleaseRow(
            stage=stage,
            model_name=MODEL_NAME,
            version=version,
            model=model,
            digest=digest,
            endpoint=endpoint,
            since=now,
            by=by,
            why=why,
            fencing=held.fencing,
            evidence=evidence,
        )
        session.add(row)
        session.flush()
        record(session, action, version, by, why, detail=_told(row))
        return _release(row)


def end_release(held: Lease, stage: str, by: str, why: str) -> Release | None:
    """Write that a stage is served no more, as only a canary ends; the row that ended, None where there was none.

    Raises `LeaseHeld`.
    """
    with held.stores.database.session() as session:
        check_fencing(session, LEASE, held.fencing)
        query = sa.select(ReleaseRow).where(
            ReleaseRow.stage == stage, ReleaseRow.until.is_(None), ReleaseRow.model_name == MODEL_NAME
        )
        row = session.execute(query).scalar_one_or_none()
        if row is None:
            return None
        row.until = datetime.now(UTC)
        session.flush()
        record(session, "canary.ended", row.version, by, why, detail=_told(row))
        return _release(row)


def served_everywhere(stores: Stores) -> dict[str, Release]:
    """The open row of each stage that has one."""
    return {stage: row for stage in SERVED if (row := served(stores, stage)) is not None}


def stage_now(stores: Stores, version: int, is_rejected: bool = False) -> Stage:
    """The furthest stage at which a version is, as the truth has it."""
    live = {release.version for release in history(stores) if release.stage != "staging"}
    now = {stage: row.version for stage, row in served_everywhere(stores).items()}
    return stage_of(version, now, live, is_rejected)


def change_now(
    stage: str, kind: ChangeKind, version: int, previous: int | None, reason: str, release: Release | None = None
) -> ReleaseChange:
    """A change that happens at this moment."""
    return ReleaseChange(stage, kind, version, previous, reason, datetime.now(UTC), release)


def _told(row: ReleaseRow) -> dict[str, Any]:
    """What `audit` keeps of a release, beside who and why."""
    share, experiment = row.evidence.get("route", {}).get("percent"), row.evidence.get("experiment")
    found = {"release": row.id, "stage": row.stage, "digest": row.digest, "percent": share, "experiment": experiment}
    return {name: value for name, value in found.items() if value is not None}


def _release(row: ReleaseRow) -> Release:
    return Release(
        id=row.id,
        stage=row.stage,
        model_name=row.model_name,
        version=row.version,
        model=row.model,
        digest=row.digest,
        endpoint=row.endpoint,
        since=row.since,
        until=row.until,
        by=row.by,
        why=row.why,
        fencing=row.fencing,
        evidence=row.evidence,
    )
