"""The database goes and comes back: a clear 503 at once, nothing half-stored, no restart needed."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from manual_app.settings import DatabaseSettings
from real_postgres import Postgres
from real_rates import RatesServer
from real_service import order, serving, settings


@pytest.fixture
def database(postgres: Postgres, template: str) -> DatabaseSettings:
    """A database of this test alone."""
    return postgres.database(template)


@pytest.fixture
def client(database: DatabaseSettings, rates: RatesServer) -> Iterator[httpx.Client]:
    """A service with warm connections."""
    with serving(settings(database, rates.url)) as client:
        assert client.post("/orders", json=order(currency="EUR")).status_code == 201
        yield client


def refused(client: httpx.Client, within: float) -> None:
    """Expect a 503 with hint and Retry-After from every route that needs the database, in time."""
    for ask in (
        lambda: client.post("/orders", json=order(currency="EUR")),
        lambda: client.get("/orders"),
        lambda: client.get("/readyz"),
    ):
        begun = time.monotonic()
        response = ask()
        assert response.status_code == 503
        assert time.monotonic() - begun < within
        assert set(response.json()) >= {"error", "hint"}
        assert int(response.headers["Retry-After"]) > 0
    assert client.get("/healthz").status_code == 200


def test_stopped_database_is_a_503_and_heals(client: httpx.Client, postgres: Postgres) -> None:
    """While the database is down I get a 503 within a second; once it is back, orders go through."""
    postgres.stop()
    try:
        refused(client, within=1)
    finally:
        postgres.start()
    assert client.post("/orders", json=order(currency="EUR")).status_code == 201
    assert client.get("/readyz").status_code == 200
    assert len(client.get("/orders").json()["orders"]) == 2


def test_restarted_database_is_not_noticed(client: httpx.Client, postgres: Postgres) -> None:
    """Connections that a restart broke are replaced before my order meets one of them."""
    postgres.stop()
    postgres.start()
    assert client.post("/orders", json=order(currency="EUR")).status_code == 201


def test_frozen_database_is_a_503_and_stores_nothing_late(client: httpx.Client, postgres: Postgres) -> None:
    """A database that hangs is a 503 in 3 s, for probes in 2; what I was refused is not stored afterwards."""
    postgres.freeze()
    try:
        begun = time.monotonic()
        assert client.get("/readyz").status_code == 503
        assert time.monotonic() - begun < 2
        response = client.post("/orders", json=order(currency="EUR"))
        assert response.status_code == 503
        assert 2 < time.monotonic() - begun < 6
    finally:
        postgres.thaw()
    time.sleep(0.3)
    assert len(client.get("/orders").json()["orders"]) == 1
    assert client.get("/readyz").status_code == 200


def test_a_database_that_answers_late_is_not_away(client: httpx.Client, postgres: Postgres) -> None:
    """A second's delay, as one lost packet makes, keeps me ready: no request fails for it."""
    postgres.freeze()
    thaw = threading.Timer(1.1, postgres.thaw)
    thaw.start()
    try:
        assert client.get("/readyz").status_code == 200
    finally:
        thaw.join()


def test_new_password_is_picked_up(database: DatabaseSettings, rates: RatesServer, tmp_path: Path) -> None:
    """A missing or wrong password is a 503 that shows neither; once the file is right, orders go through."""
    file = tmp_path / "password"
    wrong = DatabaseSettings(database.host, database.port, database.name, database.user, file)
    with serving(settings(wrong, rates.url)) as client:
        refused(client, within=1)
        file.write_text("not-the-password")
        refused(client, within=1)
        assert "not-the-password" not in client.get("/readyz").text
        shutil.copy(database.password_file, file)
        assert client.post("/orders", json=order(currency="EUR")).status_code == 201
