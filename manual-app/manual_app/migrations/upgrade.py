"""Applies the revisions that are missing: in one transaction, by one process at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from manual_app import connect, revision

HERE = Path(__file__).parent
LOCK = 7_305_001
"""The advisory lock that a migrating process holds until its transaction ends."""


def config() -> Config:
    """Return Alembic's configuration: where the revisions are, and nothing else."""
    made = Config()
    made.set_main_option("script_location", str(HERE).replace("%", "%%"))
    return made


def upgrade(creator: Callable[[], psycopg.Connection[Any]], app_user: str) -> bool:
    """Bring the schema to this build's revision, all of it or nothing; say whether this call did.

    `creator` connects as the owner of the schema; `app_user` is the role that may use what is in it.
    Of two processes at once the second waits, then finds nothing left to do.
    """
    engine = create_engine("postgresql+psycopg://", creator=creator, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
        if revision.is_current(connect.revision(connection.exec_driver_sql)):
            return False
        made = config()
        made.attributes["connection"] = connection
        made.attributes["app_user"] = app_user
        command.upgrade(made, revision.HEAD)
        return True
