"""What operators ask: alive, ready, which build, counters; and the headers on whatever is answered."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import structlog
from fastapi import FastAPI
from manual_app import errors
from manual_app.envelope import SECURITY_HEADERS, Envelope
from manual_app.metrics import Metrics
from manual_app.settings import DatabaseSettings
from real_postgres import APP, Postgres
from real_rates import RatesServer
from real_service import BUILD, order, serving, settings


def test_version_says_which_build_answers(service: httpx.Client) -> None:
    """/version names version, build, revision and environment, as the image and its pod say."""
    assert service.get("/version").json() == {
        "version": "1.4.0",
        "build": "57",
        "revision": "0123456789abcdef",
        "environment": "stage",
    }


def test_alive_without_any_neighbour(postgres: Postgres) -> None:
    """/healthz answers although database and rates API never existed: a restart would not help them."""
    nowhere = DatabaseSettings("127.0.0.1", 9, "none", "none", postgres.home / "password")
    with serving(settings(nowhere, "http://127.0.0.1:9")) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["reasons"] == ["the database is away"]


def test_ready_with_a_current_schema_only(postgres: Postgres, rates: RatesServer) -> None:
    """Not ready before the migration, ready after it, not ready on a schema that nobody knows."""
    database = postgres.database()
    with serving(settings(database, rates.url)) as client:
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["reasons"] == [
            "migrations are not current: schema is at nothing, this build needs 0002"
        ]
        refused = client.post("/orders", json=order(currency="EUR"))
        assert refused.status_code == 503
        assert "python -m manual_app.migrate" in refused.json()["hint"]
        for found, status in (("0001", 503), ("0002", 200), ("0003", 200), ("bogus", 503)):
            postgres.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num text)", database.name)
            postgres.execute("GRANT ALL ON alembic_version TO manual_app", database.name)
            postgres.execute("TRUNCATE alembic_version", database.name)
            postgres.execute(f"INSERT INTO alembic_version VALUES ('{found}')", database.name)  # noqa: S608
            response = client.get("/readyz")
            assert response.status_code == status, found
            assert found in response.text


def test_not_ready_without_rights(postgres: Postgres, template: str, rates: RatesServer) -> None:
    """A database whose owner did not grant the service its rights is one that was not migrated: 503, not a failure."""
    database = postgres.database(template)
    postgres.execute(f"REVOKE ALL ON orders, alembic_version FROM {APP}", database.name)
    with serving(settings(database, rates.url)) as client:
        for answer in (
            client.get("/readyz"),
            client.get("/orders"),
            client.post("/orders", json=order(currency="EUR")),
        ):
            assert answer.status_code == 503
            assert "no current schema" in answer.text


def test_ready_after_migration(service: httpx.Client) -> None:
    """With the database reachable and the migrations current the service is ready."""
    response = service.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "ready", "schema": "0002"}


def test_ready_without_rates(service: httpx.Client, rates: RatesServer) -> None:
    """A rates API that is down does not take the service out: orders in euros go on."""
    rates.behave(status=500)
    assert service.get("/readyz").status_code == 200


@pytest.mark.parametrize("host_status", [200, 201, 404, 405, 413, 422, 503])
def test_security_headers_on_every_answer(
    service: httpx.Client, rates: RatesServer, host_status: int
) -> None:
    """Good or bad, each answer forbids framing, sniffing and foreign content, and names no server."""
    rates.behave(status=500)
    response = {
        200: lambda: service.get("/"),
        201: lambda: service.post("/orders", json=order(currency="EUR")),
        404: lambda: service.get("/wp-admin"),
        405: lambda: service.delete("/orders"),
        413: lambda: service.post("/orders", content=b" " * 70_000),
        422: lambda: service.post("/orders", json={}),
        503: lambda: service.post("/orders", json=order(currency="USD")),
    }[host_status]()
    assert response.status_code == host_status
    assert_headers(response)
    if host_status >= 400:
        assert response.json()["error"]
        assert response.json()["hint"]


def test_unexpected_errors_answer_in_the_same_shape() -> None:
    """A mistake of ours is a 500 without its traceback, with the same headers; the log has the details."""
    app = FastAPI()
    errors.install(app, app.routes)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret detail")

    with structlog.testing.capture_logs() as logged, serving(Envelope(app, Metrics(BUILD))) as client:
        response = client.get("/broken", headers={"X-Request-ID": "abc-1"})
    assert response.status_code == 500
    assert_headers(response)
    assert response.json()["error"] == "internal error"
    assert "secret detail" not in response.text
    assert ("request failed", True) in [(line["event"], line.get("exc_info")) for line in logged]


def test_headers_even_where_it_is_not_http(service: httpx.Client) -> None:
    """What is not even HTTP gets a 400 with the same headers and shape."""
    with socket.create_connection((service.base_url.host, service.base_url.port or 0), timeout=5) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        answered = b"".join(iter(lambda: raw.recv(4096), b"")).decode()
    head, _, body = answered.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 400 ")
    assert '"hint"' in body
    for name, value in SECURITY_HEADERS.items():
        assert f"{name}: {value}".lower() in head.lower()
    assert "server:" not in head.lower()


def test_request_id_is_kept_or_made(service: httpx.Client) -> None:
    """My X-Request-ID comes back if it is a sane one; otherwise, or without one, I get a new one."""
    assert service.get("/healthz", headers={"X-Request-ID": "my.id-1"}).headers["X-Request-ID"] == "my.id-1"
    for given in ("", "a b", "x" * 65, "<x>"):
        made = service.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"]
        assert made != given
        assert len(made) == 32


def test_metrics_have_their_names(migrated: DatabaseSettings, rates: RatesServer) -> None:
    """On a port of its own Prometheus finds requests by route, durations, orders, rates, errors and the build."""
    metrics = Metrics(BUILD)
    with serving(settings(migrated, rates.url), metrics) as service, on_its_own_port(metrics) as ops:
        stored = service.post("/orders", json=order(currency="USD")).json()
        rates.behave(seconds=5)
        service.post("/orders", json=order(currency="USD"))
        service.get(f"/orders/{stored['id']}")
        service.get("/no/such/page")
        service.request("BREW", "/orders")
        assert service.get("/metrics").status_code == 404
        response = httpx.get(f"{ops}/metrics", trust_env=False)
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    samples = {line.rsplit(" ", 1)[0] for line in response.text.splitlines() if not line.startswith("#")}
    assert samples >= {
        'manual_app_build_info{build="57",environment="stage",revision="0123456789abcdef",version="1.4.0"}',
        'manual_app_http_requests_total{method="POST",route="/orders",status="201"}',
        'manual_app_http_requests_total{method="GET",route="/orders/{order_id}",status="200"}',
        'manual_app_http_requests_total{method="GET",route="unmatched",status="404"}',
        'manual_app_http_request_seconds_count{route="/orders"}',
        'manual_app_orders_total{currency="USD"}',
        'manual_app_rates_requests_total{outcome="ok"}',
        'manual_app_rates_requests_total{outcome="timeout"}',
        "manual_app_database_errors_total",
        "process_resident_memory_bytes",
    }
    assert 'method="other"' in response.text
    assert "BREW" not in response.text


@contextmanager
def on_its_own_port(metrics: Metrics) -> Iterator[str]:
    """Serve the metrics on a free port; where."""
    server = metrics.serve(0, "127.0.0.1")
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def assert_headers(response: httpx.Response) -> None:
    """Expect the security headers and no name of a server."""
    assert {name: response.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "server" not in response.headers
    assert response.headers["X-Request-ID"]
