"""Opens connections to PostgreSQL. Nothing here or above waits without a limit."""

from collections.abc import Callable
from typing import Any

import psycopg

from manual_app.settings import DatabaseSettings

CONNECT_SECONDS = 2  # the least that libpq promises to honour


def connect(settings: DatabaseSettings, statement_seconds: int = 3) -> psycopg.Connection[Any]:
    """Return a new connection. The password is read again each time, so that a new one is picked up.

    Raises psycopg.Error when the database is away, OSError when the password file is.
    """
    milliseconds = statement_seconds * 1000
    return psycopg.connect(
        host=settings.host,
        port=settings.port,
        dbname=settings.name,
        user=settings.user,
        password=settings.password_file.read_text().strip(),
        application_name="manual-app",
        connect_timeout=CONNECT_SECONDS,
        gssencmode="disable",
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
        options=f"-c timezone=UTC -c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
        f" -c idle_in_transaction_session_timeout={2 * milliseconds}",
    )


def revision(execute: Callable[[str], Any]) -> str | None:
    """Return the schema's revision, None when no migration ever ran; `execute` runs a statement."""
    if execute("SELECT to_regclass('alembic_version')").fetchone()[0] is None:
        return None
    row = execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None
