"""How Alembic runs the steps: on the connection that `migrate` hands over, in one transaction."""

from __future__ import annotations

from alembic import context

from its_platform.stores.schema import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
