"""Alembic's entry: runs the revisions on the connection that upgrade.py opened and locked."""

from alembic import context

from manual_app.orders import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
