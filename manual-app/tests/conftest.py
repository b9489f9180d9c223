"""Fixtures: one real PostgreSQL and one real rates server a session, the service between them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import real_rates  # noqa: E402
import real_service  # noqa: E402
from manual_app import connect  # noqa: E402
from manual_app.migrations import upgrade  # noqa: E402
from manual_app.settings import DatabaseSettings  # noqa: E402
from real_postgres import APP, Postgres, owned  # noqa: E402
from real_rates import RatesServer  # noqa: E402

# Silent: requests are logged after their answer, so between tests. test_process.py reads the real log.
structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server."""
    server = Postgres()
    server.create()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    """The name of a database whose schema is current and that nobody uses, to be copied."""
    database = postgres.database()
    assert upgrade.upgrade(lambda: connect.connect(owned(database)), APP)
    return database.name


@pytest.fixture(scope="session")
def migrated(postgres: Postgres, template: str) -> DatabaseSettings:
    """The session's database; its schema is current."""
    return postgres.database(template)


@pytest.fixture(scope="session")
def rates_server() -> Iterator[RatesServer]:
    """A rates API."""
    with real_rates.running() as server:
        yield server


@pytest.fixture
def rates(rates_server: RatesServer) -> Iterator[RatesServer]:
    """The rates API, without a fault before and after."""
    rates_server.behave()
    yield rates_server
    rates_server.released.set()
    rates_server.behave()


@pytest.fixture(scope="session")
def running_service(migrated: DatabaseSettings, rates_server: RatesServer) -> Iterator[httpx.Client]:
    """The service, its database and its rates API."""
    with real_service.serving(real_service.settings(migrated, rates_server.url)) as client:
        yield client


@pytest.fixture
def service(
    running_service: httpx.Client, postgres: Postgres, migrated: DatabaseSettings, rates: RatesServer
) -> httpx.Client:
    """The service without any orders."""
    postgres.execute("DELETE FROM orders", migrated.name)
    return running_service
