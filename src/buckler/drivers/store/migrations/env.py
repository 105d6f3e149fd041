"""Alembic's entry: runs on the connection that buckler.drivers.store.database gives it, and on no other."""

from __future__ import annotations

from alembic import context

from buckler.drivers.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
