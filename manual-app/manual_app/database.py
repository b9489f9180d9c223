"""The database as the service sees it: pieces of work, each one transaction, each within its seconds."""

from collections.abc import Callable
from time import monotonic
from typing import TypeVar

import anyio
import anyio.to_thread
import structlog
from sqlalchemy import Connection, create_engine, exc
from sqlalchemy.pool import QueuePool

from manual_app import connect, revision
from manual_app.errors import Unavailable
from manual_app.metrics import Metrics
from manual_app.settings import DatabaseSettings

log = structlog.get_logger()
T = TypeVar("T")

_AWAY = (
    exc.OperationalError,
    exc.InterfaceError,
    exc.InternalError,
    exc.TimeoutError,
    TimeoutError,
    OSError,
)
_NOT_MIGRATED = ("42P01", "42703", "42501")  # no such table, no such column, no right to it
_POOL = 10


class DatabaseAway(Unavailable):
    """The database did not do the work; nothing of it is stored."""

    def __init__(self) -> None:
        super().__init__("the database is away", "try again shortly; nothing was stored", retry_after=2)


class Database:
    """A bounded pool of connections that heals itself when the database comes back."""

    def __init__(self, settings: DatabaseSettings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._engine = create_engine(
            "postgresql+psycopg://",
            creator=lambda: connect.connect(settings),
            poolclass=QueuePool,
            pool_size=_POOL,
            max_overflow=0,
            pool_timeout=connect.CONNECT_SECONDS,
            pool_pre_ping=True,
            hide_parameters=True,  # customers' names do not belong in logs
        )

    def close(self) -> None:
        """Close the idle connections."""
        self._engine.dispose()

    async def run(self, work: Callable[[Connection], T], seconds: float = 3) -> T:
        """Do `work` in one transaction and return its result, or raise DatabaseAway after `seconds`.

        Work that is still going on then (its thread may hang on a frozen database) is rolled back
        when it wakes up, not committed behind the caller's back.
        """
        deadline = monotonic() + seconds
        try:
            with anyio.fail_after(seconds):
                return await anyio.to_thread.run_sync(
                    self._transaction, work, deadline, abandon_on_cancel=True
                )
        except exc.ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) not in _NOT_MIGRATED:
                raise
            self._log(error)
            raise Unavailable(
                "the database has no current schema", "run the migration: python -m manual_app.migrate"
            ) from None
        except _AWAY as error:
            self._log(error)
            raise DatabaseAway() from None

    async def revision(self, seconds: float = 1.8) -> str | None:
        """Return the revision of the schema; quick enough for a probe that waits 2 s.

        A lost packet is sent again after 1 s (RFC 6298): that alone must not read as a database that is away.
        """
        return await self.run(lambda connection: connect.revision(connection.exec_driver_sql), seconds)

    def _transaction(self, work: Callable[[Connection], T], deadline: float) -> T:
        with self._engine.begin() as connection:
            result = work(connection)
            if monotonic() > deadline:
                raise TimeoutError("the work came too late, rolled back")
            return result

    def _log(self, error: Exception) -> None:
        self._metrics.database_errors.inc()
        reason = (str(error).splitlines() or [""])[0][:300]
        log.warning("database unavailable", kind=type(error).__name__, reason=reason)


def schema_trouble(found: str | None) -> list[str]:
    """Return what keeps this build from serving on a schema at revision `found`."""
    return [] if revision.is_current(found) else [revision.describe(found)]
