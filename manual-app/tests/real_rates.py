"""A real HTTP server in the place of the exchange-rates API, whose answers the tests choose."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PER_EURO = {"USD": "1.0823", "JPY": "163.42", "KWD": "0.33105"}


class RatesServer(ThreadingHTTPServer):
    """Answers like the API until told otherwise."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked = threading.Event()
        self.behave()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Say nothing about clients that hang up: here they are meant to."""

    def behave(
        self, status: int = 200, body: bytes | None = None, seconds: float = 0, drip: float = 0
    ) -> None:
        """Answer `status` and `body` (None: the right one) after `seconds`, each byte `drip` s apart."""
        self.status, self.body, self.seconds, self.drip = status, body, seconds, drip
        self.asked.clear()
        self.released = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: RatesServer

    def do_GET(self) -> None:
        server, url = self.server, urlsplit(self.path)
        status, body = server.status, server.body
        server.asked.set()
        server.released.wait(server.seconds)
        if body is None:
            assert url.path == "/v1/latest"
            query = parse_qs(url.query)
            assert query["base"] == ["EUR"]
            [symbol] = query["symbols"]
            body = answer(symbol, PER_EURO[symbol])
        self.send_response(status)
        self.end_headers()
        if not server.drip:
            self.wfile.write(body)
            return
        for byte in body:
            if server.released.wait(server.drip):
                return
            self.wfile.write(bytes([byte]))

    def log_message(self, *_: object) -> None:
        pass


def answer(symbol: str, rate: str, base: str = "EUR", day: str = "2026-11-20") -> bytes:
    """Return the API's answer with `rate` written as it stands."""
    return (
        f'{{"amount": 1.0, "base": {json.dumps(base)}, "date": {json.dumps(day)}, '
        f'"rates": {{{json.dumps(symbol)}: {rate}}}}}'
    ).encode()


@contextmanager
def running() -> Iterator[RatesServer]:
    """Run it in a thread."""
    server = RatesServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
