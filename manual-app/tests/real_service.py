"""The service as it runs in its pod: behind uvicorn on a socket, or as a process of its own."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from manual_app import app, server
from manual_app.metrics import Metrics
from manual_app.settings import Build, DatabaseSettings, Settings
from starlette.types import ASGIApp

HERE = Path(__file__).resolve().parents[1]
TOKEN = "t0ken-of-the-tests"
BUILD = Build(version="1.4.0", build="57", revision="0123456789abcdef", environment="stage")


def token_file(database: DatabaseSettings) -> Path:
    """Return the file that holds the token, beside the password."""
    file = database.password_file.with_name("token")
    file.write_text(f"{TOKEN}\n")
    return file


def settings(database: DatabaseSettings, rates_url: str, rates_timeout: float = 0.5) -> Settings:
    """Return settings for a service of the tests."""
    return Settings(BUILD, database, rates_url, rates_timeout, token_file(database), port=8080, ops_port=9090)


@contextmanager
def serving(what: Settings | ASGIApp, metrics: Metrics | None = None) -> Iterator[httpx.Client]:
    """Serve on a free port in a thread; give the client that asks it, who has the token."""
    if isinstance(what, Settings):
        what = app.create(what, metrics or Metrics(what.build))
    made = server.server(what, 0, "127.0.0.1")
    thread = threading.Thread(target=made.run)
    thread.start()
    while not made.started:
        assert thread.is_alive()
        time.sleep(0.005)
    port = made.servers[0].sockets[0].getsockname()[1]
    try:
        url, token = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=url, headers=token, timeout=20, verify=False) as client:
            yield client
    finally:
        made.should_exit = True
        thread.join(20)


def environment(database: DatabaseSettings, **more: str) -> dict[str, str]:
    """Return the environment that a pod has: what the contract names, and a PATH."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(HERE),
        "APP_ENVIRONMENT": "stage",
        "APP_VERSION": BUILD.version,
        "APP_BUILD": BUILD.build,
        "APP_REVISION": BUILD.revision,
        "DATABASE_HOST": database.host,
        "DATABASE_PORT": str(database.port),
        "DATABASE_NAME": database.name,
        "DATABASE_USER": database.user,
        "DATABASE_PASSWORD_FILE": str(database.password_file),
        "ORDERS_TOKEN_FILE": str(token_file(database)),
        **more,
    }


def process(module: str, env: dict[str, str], *options: str) -> subprocess.Popen[str]:
    """Start `python -m module` with its output in a pipe, both streams in one."""
    return subprocess.Popen(
        [sys.executable, *options, "-m", module],
        env=env,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def order(**changes: object) -> dict[str, object]:
    """Return a good order with `changes`."""
    return {
        "customer": "Ada",
        "item": "lamp",
        "quantity": 12,
        "unit_price": "19.99",
        "currency": "USD",
    } | changes
