"""Alembic's scripts for the database `its`; `its_platform.stores.database.migrate` runs them."""
