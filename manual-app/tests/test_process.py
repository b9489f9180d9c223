"""The process as Kubernetes runs it: starts by its environment, stops politely, logs JSON without secrets."""

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from manual_app.settings import DatabaseSettings
from real_postgres import PASSWORD
from real_rates import RatesServer
from real_service import environment, order, process


@pytest.fixture
def port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def env(migrated: DatabaseSettings, rates: RatesServer, port: int) -> dict[str, str]:
    """The environment of a good start."""
    return environment(migrated, PORT=str(port), RATES_URL=rates.url, RATES_TIMEOUT_SECONDS="5")


@pytest.fixture
def pod(env: dict[str, str], port: int) -> Iterator[subprocess.Popen[str]]:
    """The running process."""
    process_ = process("manual_app", env)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/healthz").raise_for_status()
                break
            except httpx.TransportError:
                assert process_.poll() is None, process_.communicate()[0]
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield process_
    finally:
        process_.kill()
        process_.communicate()


def test_sigterm_finishes_what_is_in_flight(
    pod: subprocess.Popen[str], port: int, rates: RatesServer
) -> None:
    """An order that is under way when the pod is told to stop is answered; new ones are not accepted; exit 0."""
    rates.behave(seconds=5)
    answers: list[httpx.Response] = []
    url = f"http://127.0.0.1:{port}/orders"
    asking = threading.Thread(target=lambda: answers.append(httpx.post(url, json=order(), timeout=20)))
    asking.start()
    assert rates.asked.wait(5)
    pod.send_signal(signal.SIGTERM)
    time.sleep(0.4)
    assert pod.poll() is None
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    rates.released.set()
    asking.join(10)
    assert [response.status_code for response in answers] == [201]
    output, _ = pod.communicate(timeout=10)
    assert pod.returncode == 0
    assert json.loads(output.splitlines()[-1])["event"] == "stopped"


def test_logs_are_json_and_hold_no_secret(
    env: dict[str, str], pod: subprocess.Popen[str], port: int, rates: RatesServer
) -> None:
    """Each line is JSON with time and level; requests carry my id; no password, no customer's name."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-Request-ID": "trace-7"}) as client:
        client.post("/orders", json=order(customer="Hedy Lamarr"))
        rates.behave(status=500)
        client.post("/orders", json=order(customer="Hedy Lamarr"))
        client.get("/healthz")
        client.get("/")
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        raw.recv(100)
    pod.send_signal(signal.SIGTERM)
    output, _ = pod.communicate(timeout=10)
    lines = [json.loads(line) for line in output.splitlines()]
    assert all({"event", "level", "timestamp"} <= set(line) for line in lines)
    mine = [line for line in lines if line.get("request_id") == "trace-7"]
    assert [line.get("status") for line in mine if line["event"] == "request"] == [201, 503, 200]
    assert "rates unavailable" in {line["event"] for line in mine}
    assert "/healthz" not in output
    assert PASSWORD not in output
    assert "Hedy" not in output


def test_logs_hold_no_secret_when_the_database_is_away(env: dict[str, str], port: int) -> None:
    """A database that refuses us is logged with its reason and without the password; also while stopping."""
    env["DATABASE_USER"] = "nobody_knows"
    pod = process("manual_app", env)
    try:
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=httpx.HTTPTransport(retries=8))
        with client:
            assert client.post("/orders", json=order(currency="EUR")).status_code == 503
        pod.send_signal(signal.SIGTERM)
        output, _ = pod.communicate(timeout=10)
    finally:
        pod.kill()
    assert "database unavailable" in output
    assert "nobody_knows" in output
    assert PASSWORD not in output
    assert pod.returncode == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_ENVIRONMENT", ""),
        ("APP_ENVIRONMENT", "Prod!"),
        ("DATABASE_HOST", ""),
        ("DATABASE_PORT", "tcp://10.0.0.1:5432"),
        ("DATABASE_PASSWORD_FILE", ""),
        ("RATES_URL", "rates:8080"),
        ("RATES_TIMEOUT_SECONDS", "nan"),
        ("RATES_TIMEOUT_SECONDS", "31"),
    ],
)
def test_bad_settings_are_named(env: dict[str, str], name: str, value: str) -> None:
    """A setting that is missing or makes no sense ends the start with its name and a hint, exit 2."""
    pod = process("manual_app", env | {name: value})
    output, _ = pod.communicate(timeout=10)
    assert pod.returncode == 2
    error, hint = output.splitlines()
    assert error.startswith(f"error: {name} is ")
    assert hint.startswith("hint: ")


def test_taken_port_is_an_error(env: dict[str, str], port: int) -> None:
    """A port that somebody else has ends the start with an error, not with a traceback."""
    with socket.socket() as other:
        other.bind(("0.0.0.0", port))  # noqa: S104
        other.listen()
        pod = process("manual_app", env)
        output, _ = pod.communicate(timeout=10)
    assert pod.returncode == 3
    assert "Traceback" not in output
    assert json.loads(output.splitlines()[-1])["hint"] == "is the port taken?"
