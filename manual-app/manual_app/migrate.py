"""`python -m manual_app.migrate` brings the schema to what this build needs; safe to run at any time.

Runs before every deployment, so the usual case (nothing to do) loads neither Alembic nor SQLAlchemy.
A schema that is ahead is left alone: that is a rollback, and revisions only add (see revision.py).
"""

import json
import signal
import sys
from datetime import UTC, datetime
from time import monotonic, sleep
from types import FrameType
from typing import Any

import psycopg

from manual_app import connect, revision, settings

WAIT_SECONDS = 60
_STATEMENT_SECONDS = 60


def main() -> int:
    """Migrate. Returns 0 schema current, 1 migration failed, 2 wrong settings, 3 database not reached."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        database = settings.read_database()
    except settings.SettingsError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 2
    connection = _wait(database)
    if connection is None:
        return 3
    with connection:
        found = connect.revision(connection.execute)
    if revision.is_current(found):
        _say("schema is current", schema=found, needed=revision.HEAD)
        return 0
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    from manual_app.migrations import upgrade

    try:
        changed = upgrade.upgrade(
            lambda: connect.connect(database, _STATEMENT_SECONDS), settings.read_app_user()
        )
    except (SQLAlchemyError, psycopg.Error, CommandError) as error:
        _say(
            "migration failed, nothing was changed",
            "error",
            reason=_first_line(error),
            hint="look at the database's log; the next run begins anew",
        )
        return 1
    _say("schema migrated" if changed else "schema migrated by another", needed=revision.HEAD)
    return 0


def _wait(database: settings.DatabaseSettings) -> psycopg.Connection[Any] | None:
    deadline = monotonic() + WAIT_SECONDS
    said = None
    while True:
        try:
            return connect.connect(database, _STATEMENT_SECONDS)
        except (psycopg.Error, OSError) as error:
            reason = _first_line(error)
        if monotonic() > deadline:
            _say(
                "database not reached",
                "error",
                reason=reason,
                seconds=WAIT_SECONDS,
                hint="is the database up, and do DATABASE_HOST and DATABASE_PASSWORD_FILE fit it?",
            )
            return None
        if reason != said:
            _say("waiting for the database", reason=reason)
            said = reason
        sleep(0.2)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _say(event: str, level: str = "info", **more: object) -> None:
    line = {"event": event, **more, "level": level, "timestamp": datetime.now(UTC).isoformat()}
    print(json.dumps(line), flush=True)


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
