"""The process as Kubernetes runs it: starts by its environment, stops politely, logs JSON without secrets."""

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from manual_app.settings import DatabaseSettings, SettingsError, read
from real_postgres import PASSWORD
from real_rates import RatesServer
from real_service import TOKEN, environment, order, process


@pytest.fixture
def port() -> int:
    """A free port."""
    return free_port()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def env(migrated: DatabaseSettings, rates: RatesServer, port: int) -> dict[str, str]:
    """The environment of a good start."""
    ports = {"PORT": str(port), "OPS_PORT": str(free_port())}
    return environment(migrated, **ports, RATES_URL=rates.url, RATES_TIMEOUT_SECONDS="5")


@pytest.fixture
def pod(env: dict[str, str], port: int) -> Iterator[subprocess.Popen[str]]:
    """The running process."""
    with started(env, port) as process_:
        yield process_


@contextmanager
def started(env: dict[str, str], port: int) -> Iterator[subprocess.Popen[str]]:
    """Start the process, wait until it answers, leave nothing behind."""
    started_ = process("manual_app", env)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert started_.poll() is None, started_.communicate()[0]
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield started_
    finally:
        started_.kill()
        started_.communicate()


def test_sigterm_finishes_what_is_in_flight(
    pod: subprocess.Popen[str], port: int, rates: RatesServer
) -> None:
    """An order under way when the pod is told to stop is answered; new ones are not accepted; exit 0."""
    rates.behave(seconds=5)
    answers: list[httpx.Response] = []
    url = f"http://127.0.0.1:{port}/orders"
    client = httpx.Client(timeout=20, verify=False)
    asking = threading.Thread(target=lambda: answers.append(client.post(url, json=order())))
    asking.start()
    assert rates.asked.wait(5)
    pod.send_signal(signal.SIGTERM)
    time.sleep(0.4)
    assert pod.poll() is None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    rates.released.set()
    asking.join(10)
    client.close()
    assert [response.status_code for response in answers] == [201]
    output, _ = pod.communicate(timeout=10)
    assert pod.returncode == 0
    assert json.loads(output.splitlines()[-1])["event"] == "stopped"


def test_logs_are_json_and_hold_no_secret(env: dict[str, str], port: int, rates: RatesServer) -> None:
    """Each line is JSON; requests carry my id, faults their reason; no password, no token, no customer's name."""
    env["DATABASE_USER"] = "nobody_knows"
    rates.behave(status=500)
    with started(env, port) as pod:
        mine = {"X-Request-ID": "trace-7"}
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, headers=mine, timeout=20, verify=False) as client:
            for currency in ("EUR", "USD"):
                sent = client.post("/orders", json=order(customer="Hedy Lamarr", currency=currency))
                assert sent.status_code == 503
            for token, status in ((TOKEN, 503), (f"{TOKEN}-almost", 401)):
                asked = client.get("/orders", headers={"Authorization": f"Bearer {token}"})
                assert asked.status_code == status
            assert client.get("/").status_code == 200
            assert client.get("/healthz").status_code == 200
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"nonsense\r\n\r\n")
            raw.recv(100)
        pod.send_signal(signal.SIGTERM)
        output, _ = pod.communicate(timeout=10)
    assert pod.returncode == 0
    lines = [json.loads(line) for line in output.splitlines()]
    assert all({"event", "level", "timestamp"} <= set(line) for line in lines)
    traced = [line for line in lines if line.get("request_id") == "trace-7"]
    assert [line.get("status") for line in traced if line["event"] == "request"] == [503, 503, 503, 401, 200]
    reasons = " ".join(str(line.get("reason")) for line in traced)
    assert 'password authentication failed for user "nobody_knows"' in reasons
    assert "the rates API answered 500" in reasons
    assert "/healthz" not in output
    assert PASSWORD not in output
    assert TOKEN not in output
    assert "Hedy" not in output


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_ENVIRONMENT", ""),
        ("APP_ENVIRONMENT", "Prod!"),
        ("DATABASE_HOST", ""),
        ("DATABASE_PORT", "tcp://10.0.0.1:5432"),
        ("DATABASE_PASSWORD_FILE", ""),
        ("ORDERS_TOKEN_FILE", ""),
        ("OPS_PORT", "metrics"),
        ("RATES_URL", "rates:8080"),
        ("RATES_TIMEOUT_SECONDS", "nan"),
        ("RATES_TIMEOUT_SECONDS", "31"),
    ],
)
def test_bad_settings_are_named(env: dict[str, str], name: str, value: str) -> None:
    """A setting that is missing or makes no sense is named, with a hint."""
    with pytest.raises(SettingsError, match=f"^{name} is ") as caught:
        read(env | {name: value})
    assert name in caught.value.hint or name == "APP_ENVIRONMENT"


@pytest.mark.parametrize("module", ["manual_app", "manual_app.migrate"])
def test_bad_settings_end_the_start(env: dict[str, str], module: str) -> None:
    """Service and migration end with one line of error, one of hint and exit code 2."""
    pod = process(module, env | {"DATABASE_HOST": ""})
    output, _ = pod.communicate(timeout=10)
    assert pod.returncode == 2
    assert output == "error: DATABASE_HOST is not set\nhint: set DATABASE_HOST to the database's host name\n"


def test_metrics_are_on_their_own_port(env: dict[str, str], port: int) -> None:
    """What Prometheus asks is not where users are; the process serves both."""
    with (
        started(env, port),
        httpx.Client(timeout=20, verify=False) as client,
    ):
        assert client.get(f"http://127.0.0.1:{port}/metrics").status_code == 404
        assert "manual_app_build_info" in client.get(f"http://127.0.0.1:{env['OPS_PORT']}/metrics").text


@pytest.mark.parametrize("name", ["PORT", "OPS_PORT"])
def test_taken_port_is_an_error(env: dict[str, str], name: str) -> None:
    """A port that somebody else has ends the start with an error, not with a traceback."""
    with socket.socket() as other:
        other.bind(("0.0.0.0", int(env[name])))  # noqa: S104
        other.listen()
        pod = process("manual_app", env)
        output, _ = pod.communicate(timeout=10)
    assert pod.returncode == 3
    assert "Traceback" not in output
    assert json.loads(output.splitlines()[-1])["hint"] == "is the port taken?"
