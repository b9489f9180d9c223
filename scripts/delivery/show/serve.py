"""The report, live: a small server for the browsers of this machine. It only reads, and only answers GET.

One thread looks at the facts, and only while somebody watches; all who watch share what it saw. They hear of it by
server-sent events. Facts that cannot be read are shown as UNKNOWN, and the server goes on.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from typing import Any

from delivery.errors import BadInput
from delivery.show import page

Document = Mapping[str, Any]

LOOPBACK = str(IPv4Address(socket.INADDR_LOOPBACK))
EVERY = 5.0  # seconds between the end of one look and the next
FRESH = 30.0  # seconds that what was seen is shown while nobody watches
KEEP_ALIVE = 15.0  # seconds without news, after which a comment finds out who is still there
REQUEST = 10.0  # seconds for a request to come, and for an answer to be taken
WATCHING = 16  # who may hear events at once
CONNECTIONS = 48


@dataclass(frozen=True)
class Seen:
    """What one look found: the page, and which version of it that is."""

    document: Document
    report: str
    version: int  # goes up whenever the report says something else
    look: int
    when: float | None  # by the machine's own clock; None where nobody looked


class Watch:
    """Looks again and again, while somebody wants to know, and keeps what was seen last."""

    def __init__(self, look: Callable[[], Document], first: Document, every: float = EVERY) -> None:
        self._look = look
        self._every = every
        self._changed = threading.Condition()
        self._first = first
        self._seen = Seen(first, page.report(first), 0, 0, None)
        self._watching = 0
        self._over = False

    @property
    def seen(self) -> Seen:
        """What was seen last; after nobody watched for a while it is `first` again, for what was true may not be."""
        with self._changed:
            self._forget()
            return self._seen

    def begin(self) -> bool:
        """Let one more hear the news; False where there are as many as there may be. `end` follows."""
        with self._changed:
            if self._over or self._watching >= WATCHING:
                return False
            self._forget()
            self._watching += 1
            self._changed.notify_all()
            return True

    def end(self) -> None:
        """One less listens."""
        with self._changed:
            self._watching -= 1

    def after(self, look: int, seconds: float) -> Seen | None:
        """What was seen after that look; None where nothing was within so many seconds, or the watch is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._seen.look > look, seconds)
            return self._seen if self._seen.look > look else None

    @property
    def over(self) -> bool:
        """Whether nobody looks any more."""
        with self._changed:
            return self._over

    def run(self) -> None:
        """Look until `stop`."""
        while self._wanted():
            document = self._look()
            report = page.report(document)
            with self._changed:
                before = self._seen
                version = before.version + (report != before.report)
                self._seen = Seen(document, report, version, before.look + 1, time.monotonic())
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._over, self._every)

    def stop(self) -> None:
        """Look no more; who waits is told."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _forget(self) -> None:
        when, before = self._seen.when, self._seen
        if when is not None and not self._watching and time.monotonic() - when > FRESH:
            self._seen = Seen(
                self._first, page.report(self._first), before.version + 1, before.look + 1, None
            )

    def _wanted(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._watching > 0)
            return not self._over


class Server(ThreadingHTTPServer):
    """Answers on this machine's own address, and to nobody who came by another name."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, watch: Watch) -> None:
        self.watch = watch
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise BadInput(
                f"port {port} cannot be had: {error.strerror}", "name another: --port; 0 takes a free one"
            ) from None

    @property
    def hosts(self) -> frozenset[str]:
        """What a browser that means this server calls it; a rebound DNS name is another."""
        return frozenset(f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost"))

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread, unless there are too many already: then nothing is said at all."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, from its first byte to its last."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hung up has nothing to be told; nobody else does either: a traceback is no page."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = REQUEST
    server_version, sys_version = "delivery", ""

    def parse_request(self) -> bool:
        """Refuse whatever is no GET of this very server before anything else is looked at."""
        if not super().parse_request():
            return False
        if self.headers.get_all("Host", []) not in ([one] for one in self.server.hosts):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "this server is not called that")
            return False
        if self.command != "GET":
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED, "this server is only read")
            return False
        return True

    def do_GET(self) -> None:
        """The page, or the news about it."""
        if self.path == "/":
            self._send(HTTPStatus.OK, page.live(self.server.watch.seen.document), "text/html; charset=utf-8")
        elif self.path == "/events":
            self._events()
        elif self.path == "/favicon.ico":
            self._send(HTTPStatus.NO_CONTENT, "", "image/x-icon")
        else:
            self.send_error(HTTPStatus.NOT_FOUND, "there is only / and /events")

    def end_headers(self) -> None:
        """With each answer: nobody else's page reads it, frames it or keeps it."""
        for name, value in {
            "Content-Security-Policy": f"{page.policy(document_is_live=True)}; frame-ancestors 'none'",
            "Cache-Control": "no-store",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }.items():
            self.send_header(name, value)
        super().end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """In plain text; of a wrong method with the right one."""
        allowed = {"Allow": "GET"} if code == HTTPStatus.METHOD_NOT_ALLOWED else {}
        self._send(code, f"{message or HTTPStatus(code).phrase}\n", "text/plain; charset=utf-8", allowed)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads a log of who looked."""

    def _send(self, code: int, text: str, kind: str, more: Mapping[str, str] | None = None) -> None:
        body = text.encode()
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _events(self) -> None:
        # Another site's page could not read them, but it could take all the places.
        if self.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            self.send_error(HTTPStatus.FORBIDDEN, "only the page itself listens")
            return
        watch = self.server.watch
        if not watch.begin():
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "too many watch already")
            return
        try:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self._tell(watch)
        except OSError:  # they are gone
            pass
        finally:
            watch.end()

    def _tell(self, watch: Watch) -> None:
        look, version = -1, -1
        while not watch.over:
            seen = watch.after(look, KEEP_ALIVE)
            if seen is None:
                self.wfile.write(b": still here\n\n")
                continue
            if seen.version != version:
                news = {"title": page.title(seen.document), "report": seen.report}
                self.wfile.write(f"event: report\ndata: {json.dumps(news)}\n\n".encode())
            if seen.when is not None:
                said = json.dumps(page.moment(seen.document["at"]))
                self.wfile.write(f"event: read\ndata: {said}\n\n".encode())
            look, version = seen.look, seen.version


def run(look: Callable[[], Document], first: Document, port: int, begun: Callable[[str], None]) -> None:
    """Serve the report until Ctrl-C. `begun` is told the address; BadInput where the port is taken.

    `look` reads the facts, and never raises; `first` is shown until it has. What cannot be shown ends the server with
    that error: a page that nobody renews would go on saying what it said.
    """
    watch = Watch(look, first)
    broken: list[Exception] = []
    with Server(port, watch) as server:

        def looking() -> None:
            try:
                watch.run()
            except Exception as error:
                broken.append(error)
                server.shutdown()

        threading.Thread(target=looking, daemon=True).start()
        begun(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
        finally:
            watch.stop()
    raise broken[0]
