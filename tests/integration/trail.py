"""The audit trail as tests read it, and as somebody changes it who should not."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from its_platform.settings import Settings
from its_platform.stores import Stores
from its_platform.stores.audit import Chain, record, verify
from its_platform.stores.schema import AuditRow


def rows(stores: Stores) -> list[AuditRow]:
    with stores.database.session() as session:
        return list(session.scalars(sa.select(AuditRow).order_by(AuditRow.id)))


def said(stores: Stores) -> list[tuple[str, str, str]]:
    return [(row.action, row.subject, row.outcome) for row in rows(stores)]


def chain(stores: Stores, **words: Any) -> Chain:
    with stores.database.session() as session:
        return verify(session, **words)


def write(stores: Stores, count: int = 5) -> None:
    for number in range(count):
        with stores.database.session() as session:
            record(session, "camera.added", f"c{number}", "a person", "a reason", detail={"number": number})


def past_the_trigger(stores: Stores, *statements: str) -> None:
    """What somebody does who owns the table."""
    with stores.database.session() as session:
        for statement in ("ALTER TABLE audit DISABLE TRIGGER ALL", *statements):
            session.execute(sa.text(statement))
        session.execute(sa.text("ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_is_only_added_to"))


def without_database(stores: Stores) -> Settings:
    """The home of the stores, with a database that does not answer."""
    return stores.settings.model_copy(update={"database_url": "postgresql+psycopg2://nobody@127.0.0.1:1/"})
