"""Fixtures: one real PostgreSQL and one real rates server a session, the service between them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import real_rates
import real_service
from manual_app import connect
from manual_app.migrations import upgrade
from manual_app.settings import DatabaseSettings
from real_postgres import Postgres
from real_rates import RatesServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server."""
    server = Postgres()
    server.create()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def migrated(postgres: Postgres) -> DatabaseSettings:
    """A database whose schema is current."""
    database = postgres.database()
    assert upgrade.upgrade(lambda: connect.connect(database))
    return database


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
    postgres.execute("TRUNCATE orders RESTART IDENTITY", migrated.name)
    return running_service
