"""Alembic's entry: upgrades the connection that `sizewise.store.database` passes."""

from alembic import context

from sizewise.store.tables import TABLES

context.configure(connection=context.config.attributes["connection"], target_metadata=TABLES)
context.run_migrations()
