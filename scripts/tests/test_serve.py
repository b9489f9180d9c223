"""`delivery report --serve`: live, read only, for this machine's browsers, and for nobody who came by another name."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from delivery.errors import BadInput, PlatformError
from delivery.show import live, serve
from scripts.tests.test_page import document
from scripts.tests.world import World

FIRST = document(verdict="UNKNOWN", environments=[], tests=[], changes=[], lead_times=[])
LIMIT = 10.0


@dataclass
class Served:
    """A server of facts that the test tells, and how often somebody looked at them."""

    server: serve.Server
    watch: serve.Watch
    looks: list[float] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=document)

    def look(self) -> dict[str, Any]:
        self.looks.append(time.monotonic())
        return self.told

    def get(self, path: str = "/", **headers: str) -> httpx.Response:
        return httpx.get(self.server.url.rstrip("/") + path, headers=headers, timeout=LIMIT, trust_env=False)


@pytest.fixture
def served() -> Iterator[Served]:
    """It looks ten times a second, so that tests are quick."""
    watch = serve.Watch(lambda: made.look(), FIRST, every=0.1)
    with serve.Server(0, watch) as server:
        made = Served(server, watch)
        threads = [threading.Thread(target=run) for run in (watch.run, lambda: server.serve_forever(0.02))]
        for one in threads:
            one.start()
        yield made
        watch.stop()
        server.shutdown()
        for one in threads:
            one.join(LIMIT)
            assert not one.is_alive()


@contextmanager
def listening(served: Served, **headers: str) -> Iterator[Iterator[tuple[str, Any]]]:
    """What an EventSource hears: the name of each event, and its data."""
    with (
        httpx.Client(timeout=LIMIT, trust_env=False) as client,
        client.stream("GET", f"{served.server.url}events", headers=headers) as answer,
    ):
        assert answer.status_code == 200, answer.status_code
        assert answer.headers["content-type"] == "text/event-stream"
        yield _events(answer.iter_lines())


def _events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def until(events: Iterator[tuple[str, Any]], says: str) -> str:
    """The report that says so."""
    return next(data["report"] for name, data in events if name == "report" and says in data["report"])


def test_the_page_follows_the_facts(served: Served) -> None:
    """I leave the page open: what changes in the cluster is on it, and it says when it was read."""
    with listening(served) as events:
        assert "manual-app-1" in until(events, "PROVEN")
        served.told = document(verdict="MISMATCH")
        until(events, "MISMATCH")
        assert next(data for name, data in events if name == "read") == "2026-11-23 22:00 UTC"


def test_what_did_not_change_is_not_sent_again(served: Served) -> None:
    """The same facts again: the page hears that somebody looked, and stays as it is, whatever I have unfolded."""
    with listening(served) as events:
        until(events, "PROVEN")
        names = [next(events)[0] for _ in range(4)]
        assert names == ["read"] * 4


def test_nobody_watches_nobody_looks(served: Served) -> None:
    """The cluster is asked only while a page is open, and once for all who have it open."""
    assert served.get().status_code == 200
    time.sleep(0.3)
    assert served.looks == []
    with listening(served) as one, listening(served) as other:
        for events in (one, other):
            until(events, "PROVEN")
    gaps = [after - before for before, after in zip(served.looks, served.looks[1:], strict=False)]
    assert all(gap >= 0.09 for gap in gaps), "one look after the other"


def test_before_anybody_looked_nothing_is_proven(served: Served) -> None:
    """The first page says UNKNOWN: no facts are no proof."""
    text = served.get().text
    assert "UNKNOWN" in text
    assert "✓</span> PROVEN" not in text


def test_what_nobody_watched_is_forgotten(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours after the last look, the page does not begin with what was proven then."""
    with listening(served) as events:
        until(events, "PROVEN")
    assert "✓</span> PROVEN" in served.get().text
    monkeypatch.setattr(serve, "FRESH", 0.0)
    _eventually(lambda: "✓</span> PROVEN" not in served.get().text)


def _eventually(holds: Any) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil:{port}", ""]
)
@pytest.mark.parametrize("path", ["/", "/events"])
def test_a_rebound_name_is_turned_away(served: Served, host: str, path: str) -> None:
    """A web page whose own name was made to lead here reads nothing: its Host header is another one."""
    told = host.format(port=served.server.server_port)
    answer = served.get(path, Host=told)
    assert answer.status_code == 421
    assert "PROVEN" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_this_machines_own_names_are_heard(served: Served, host: str) -> None:
    """Both names of this machine lead to the page."""
    assert served.get(Host=f"{host}:{served.server.server_port}").status_code == 200


def test_two_hosts_are_none(served: Served) -> None:
    """A request that names this server and another one is not understood as the better of both."""
    port = served.server.server_port
    request = f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\nHost: evil.example\r\n\r\n"
    with socket.create_connection((serve.LOOPBACK, port), LIMIT) as raw:
        raw.sendall(request.encode())
        assert b" 421 " in raw.recv(100)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "BREW"])
def test_it_is_only_read(served: Served, method: str) -> None:
    """There is nothing to write to; no other site is told that it may ask."""
    answer = httpx.request(method, served.server.url, timeout=LIMIT, trust_env=False)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_what_others_may_do_with_it(served: Served) -> None:
    """No other site frames, embeds or keeps it; every answer says so, errors too."""
    for path, code in (("/", 200), ("/favicon.ico", 204), ("/../../etc/passwd", 404)):
        answer = served.get(path)
        assert answer.status_code == code
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        assert "python" not in answer.headers["server"].lower()


def test_another_site_takes_no_place(served: Served) -> None:
    """A foreign page that opens the events takes none of the places from those who watch."""
    assert served.get("/events", **{"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_too_many_are_turned_away(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The places are bounded, and a page that was closed gives its own back."""
    monkeypatch.setattr(serve, "WATCHING", 1)
    with listening(served) as events:
        until(events, "PROVEN")
        assert served.get("/events").status_code == 503
        assert served.get().status_code == 200

    def again() -> bool:
        with (
            httpx.Client(timeout=LIMIT, trust_env=False) as client,
            client.stream("GET", f"{served.server.url}events") as answer,
        ):
            return answer.status_code == 200

    _eventually(again)


def test_it_listens_on_this_machine_alone(served: Served) -> None:
    """Nobody in the network reaches it: it is bound to the loopback address."""
    assert served.server.server_address[0] == "127.0.0.1"
    with pytest.raises(BadInput, match=f"port {served.server.server_port} cannot be had") as refused:
        serve.Server(served.server.server_port, served.watch)
    assert "--port" in refused.value.hint


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PlatformError("the Git server is away", "look"), "the Git server is away"),
        (ValueError("odd"), "ValueError: odd"),
    ],
)
def test_what_cannot_be_read_is_unknown(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    """The Git server is away, or something is odd: every environment is UNKNOWN and says why; the server goes on."""

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("delivery.verbs.report.report", fails)
    told = live.look(world.context)
    assert told["verdict"] == "UNKNOWN"
    assert [(one["environment"], one["unknowns"]) for one in told["environments"]] == [
        (name, [says]) for name in ("dev", "stage", "prod")
    ]


def test_what_cannot_be_shown_ends_it() -> None:
    """Facts that no page can be made of end the server with that error; it does not go on with an old page."""

    def watched(url: str) -> None:
        threading.Thread(target=lambda: httpx.get(f"{url}events", timeout=LIMIT, trust_env=False)).start()

    with pytest.raises(KeyError, match="environments"):
        serve.run(lambda: {"verdict": "PROVEN"}, FIRST, 0, watched)


SERVES = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background takes away
from delivery import cli
from delivery.verbs import report
def fails(*_): raise RuntimeError("nothing to see")
report.report = fails
sys.argv = ["delivery", "report", "--serve"]
cli.main()
"""


def test_ctrl_c_ends_it_well(world: World) -> None:
    """It says where the page is, and Ctrl-C ends it with exit 0, also while somebody watches."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVES],
        cwd=world.checkout,
        env={**os.environ, "DELIVERY_SITE": "team"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            assert process.stderr
            line = process.stdout.readline()
            url = line.removeprefix("the page: ").partition(" ")[0]
            with (
                httpx.Client(timeout=LIMIT, trust_env=False) as client,
                client.stream("GET", f"{url}events") as answer,
            ):
                lines = answer.iter_lines()
                assert "nothing to see" in next(one for one in lines if "nothing to see" in one)
                process.send_signal(signal.SIGINT)
                assert process.wait(LIMIT) == 0, process.stderr.read()
                assert process.stderr.read() == ""
        finally:
            process.kill()
