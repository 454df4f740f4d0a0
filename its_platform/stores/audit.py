"""The audit trail: who changed what, when, from where, why and with what outcome, as rows that are only ever added.

Enters: an action of a closed vocabulary and what it was done to. Leaves: a row that holds the SHA-256 of its content
and of the row before it, so that one that was rewritten or removed is found by `verify`. `record` belongs into the
transaction of the change itself, so that both are there or neither is; what is no change of rows is recorded through
`journal.py`. Nothing secret belongs into a row: names and texts that look like one are blanked all the same.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import math
import os
import re
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.orm import Session

from its_platform.errors import BadInput
from its_platform.stores.database import Database, hold_lock
from its_platform.stores.schema import AuditRow
from its_platform.telemetry import redact

# What is before the dot is the kind of thing that was acted on.
Action = Literal[
    "backup.created",
    "backup.pruned",
    "backup.restored",
    "camera.added",
    "camera.changed",
    "camera.removed",
    "canary.ended",
    "canary.held",
    "canary.resumed",
    "canary.started",
    "canary.widened",
    "certificate.issued",
    "certificate.made",
    "certificate.renewed",
    "dataset.built",
    "dataset.pulled",
    "dataset.pushed",
    "experiment.ended",
    "experiment.started",
    "key.destroyed",
    "key.exported",
    "key.imported",
    "key.made",
    "key.rotated",
    "labels.added",
    "model.registered",
    "release.failed",
    "release.frozen",
    "release.promoted",
    "release.refused",
    "release.rolled_back",
    "release.staged",
    "release.thawed",
    "release.waived",
    "retraining.decided",
    "settings.changed",
    "stack.started",
    "stack.stopped",
]
Outcome = Literal["done", "failed", "refused", "cut_off"]
ACTIONS: tuple[Action, ...] = get_args(Action)
KINDS = tuple(dict.fromkeys(action.partition(".")[0] for action in ACTIONS))
FIRST = "0" * 64
"""What the first row names as the digest of the row before it."""


@dataclass(frozen=True, slots=True)
class Event:
    """What is recorded of one action. `event` tells it from all others, `subject` is what it was done to.

    outcome: done; failed, with the error in the detail; refused; cut_off, for a step whose process ended in its midst.
    """

    event: str
    at: datetime
    by: str
    program: str
    host: str
    action: Action
    subject: str
    outcome: Outcome
    why: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chain:
    """What a walk along the rows found. newest, digest: the last row that was looked at, 0 and `FIRST` without any.

    broken: number of the first row that is not as it was written, and what is wrong with it.
    """

    rows: int
    newest: int
    digest: str
    broken: tuple[int, str] | None = None


def record(
    session: Session,
    action: Action,
    subject: str | int,
    by: str = "",
    why: str = "",
    outcome: Outcome = "done",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add a row in this transaction, as its last statement: until it ends, all others that record wait.

    by: who; the user of this process unless given.
    """
    append(session, make_event(action, subject, by, why, outcome, detail))


def make_event(
    action: Action,
    subject: str | int,
    by: str = "",
    why: str = "",
    outcome: Outcome = "done",
    detail: Mapping[str, Any] | None = None,
) -> Event:
    """An event of this moment and program, without secrets. Raises `ValueError` for an action that nobody knows."""
    if action not in ACTIONS:
        raise ValueError(f"{action!r} is not among the actions that are recorded")
    said = without_secrets({"by": by or person(), "subject": str(subject), "why": why})
    return Event(
        event=uuid.uuid4().hex,
        at=datetime.now(UTC),
        program=program_of(sys.argv),
        host=os.uname().nodename,
        action=action,
        outcome=outcome,
        detail=without_secrets(detail or {}),
        **said,
    )


def without_secrets(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts as JSON that PostgreSQL gives back as it was; what is named or looks like a secret is blanked."""
    return {name: _stored(value) for name, value in redact(None, "", facts).items()}


def append(session: Session, event: Event) -> None:
    """Add an event to the end of the chain, once: one that is there already is left alone."""
    session.flush()
    hold_lock(session, "audit")
    if session.scalar(sa.select(AuditRow.id).where(AuditRow.event == event.event)) is not None:
        return
    last = session.execute(sa.select(AuditRow.id, AuditRow.digest).order_by(AuditRow.id.desc()).limit(1)).one_or_none()
    row = AuditRow(
        id=last.id + 1 if last else 1,
        previous=last.digest if last else FIRST,
        **{name: getattr(event, name) for name in Event.__slots__},
    )
    row.digest = digest_of(row)
    session.add(row)
    session.flush()


def digest_of(row: AuditRow) -> str:
    """SHA-256 of a row's content and of the digest of the row before it.

    Of a JSON array in ASCII without spaces: number, event, time in UTC to the microsecond, by, program, host, action,
    subject, outcome, why, detail with its names in order, digest of the row before.
    """
    at = row.at.astimezone(UTC).isoformat(timespec="microseconds")
    content = [row.id, row.event, at, row.by, row.program, row.host, row.action, row.subject, row.outcome, row.why]
    text = json.dumps([*content, row.detail, row.previous], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def verify(session: Session, newest: int | None = None, known: tuple[int, str] | None = None) -> Chain:
    """Walk along the chain, and stop at the first row that is not as it was written.

    newest: look at so many rows at the end only. known: number and digest of a row that somebody noted down; the chain
    itself cannot say whether its end was cut off, or all of it written anew.
    """
    query = sa.select(AuditRow).order_by(AuditRow.id)
    if newest is not None:
        query = query.where(AuditRow.id > sa.select(sa.func.max(AuditRow.id)).scalar_subquery() - newest)
    rows, number, digest = 0, 0, FIRST
    for row in session.scalars(query.execution_options(yield_per=1000)):
        if rows == 0 and newest is not None:
            number, digest = row.id - 1, row.previous
        broken = _broken(row, number, digest, known)
        if broken is not None:
            return Chain(rows, number, digest, broken)
        rows, number, digest = rows + 1, row.id, row.digest
    if known is not None and newest is None and known[0] > number:
        return Chain(rows, number, digest, (number + 1, f"it is missing, and so are all up to {known[0]}"))
    return Chain(rows, number, digest)


def _broken(row: AuditRow, number: int, digest: str, known: tuple[int, str] | None) -> tuple[int, str] | None:
    if row.id != number + 1:
        return number + 1, "it is missing"
    if row.previous != digest:
        return row.id, "the row before it is not the one that it was written after"
    if row.digest != digest_of(row):
        return row.id, "its content is not what its digest says"
    if known is not None and row.id == known[0] and row.digest != known[1]:
        return row.id, "its digest is not the one that was noted down"
    return None


async def read_events(
    database: Database,
    since: datetime | None = None,
    kind: str | None = None,
    by: str | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """What was recorded, the latest row first. Raises `BadInput` for a kind that there is not."""
    query = sa.select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
    if kind is not None and kind not in KINDS:
        raise BadInput(f"Nothing is recorded of a kind {kind!r}.", f"There are {', '.join(KINDS)}.")
    if kind is not None:
        query = query.where(AuditRow.action.startswith(f"{kind}."))
    if since is not None:
        query = query.where(AuditRow.at >= since)
    if by is not None:
        query = query.where(AuditRow.by == by)
    async with database.async_session() as session:
        return [_facts(row) for row in await session.scalars(query)]


def _facts(row: AuditRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "at": row.at.astimezone(UTC),
        "by": row.by,
        "program": row.program,
        "host": row.host,
        "action": row.action,
        "subject": row.subject,
        "outcome": row.outcome,
        "why": row.why,
        "detail": row.detail,
        "digest": row.digest,
    }


def person() -> str:
    """The user that this process runs as."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In a container, a user without a name.
        return f"user {os.getuid()}"


def program_of(argv: Sequence[str]) -> str:
    """The program by its first word, and of `its` which command: no option or argument, which may hold a secret."""
    path = Path(argv[0])
    name = path.parent.name if path.name == "__main__.py" else "python" if argv[0] == "-c" else path.stem
    if name not in {"its", "cli"}:
        return name
    words = [word for word in argv[1:] if word != "--debug"]
    return " ".join(["its", *list(takewhile(lambda word: re.fullmatch(r"[a-z][a-z-]*", word), words))[:2]])


def _stored(value: Any) -> Any:
    """The value as the database gives it back: plain JSON, and text without what PostgreSQL cannot hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")
    if isinstance(value, Mapping):
        return {_stored(str(name)): _stored(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_stored(entry) for entry in value]
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _stored(str(value))
