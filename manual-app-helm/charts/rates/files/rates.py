"""Stand-in for the external exchange-rates API (in the shape of frankfurter), standard library only.

    GET /v1/latest?base=EUR&symbols=USD,JPY   rates of a fixed day
    GET /healthz                              the process is up
    GET /readyz                               it has rates to give, whatever fault is on, and is not about to stop
    PUT /_fault {"mode": "ok|slow|error|nonsense", "seconds": N}; GET /_fault

    rates.py [PORT] [--faults]                without --faults there is no /_fault

Faults apply to /v1 only, until the mode is set again: slow answers rightly after `seconds` (5 unless told),
error answers 500, nonsense answers 200 with the next of several bodies that no client may believe.
"""

import itertools
import json
import signal
import sys
import threading
from dataclasses import asdict, dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from urllib.parse import parse_qs, urlsplit

DATE = "2026-11-20"
PER_EURO = {
    "EUR": Decimal("1"),
    "USD": Decimal("1.0823"),
    "GBP": Decimal("0.8341"),
    "CHF": Decimal("0.9367"),
    "JPY": Decimal("163.42"),
    "SEK": Decimal("11.4875"),
    "NOK": Decimal("11.7930"),
    "DKK": Decimal("7.4592"),
    "PLN": Decimal("4.3185"),
    "CZK": Decimal("25.274"),
    "HUF": Decimal("386.15"),
    "CAD": Decimal("1.5026"),
    "AUD": Decimal("1.6537"),
    "KRW": Decimal("1582.40"),
    "KWD": Decimal("0.33186"),
}

MODES = ("ok", "slow", "error", "nonsense")
MAX_SECONDS = 60
MAX_BODY = 4096
NONSENSE = itertools.cycle(
    [
        ("text/html", "<html><body>Down for maintenance</body></html>"),
        ("application/json", '{"amount":1.0,"base":"EUR"'),
        ("application/json", "[]"),
        ("application/json", '{"amount":1.0,"base":"EUR","date":"2026-11-20","rates":{}}'),
        ("application/json", '{"amount":1.0,"base":"EUR","date":"2026-11-20","rates":{SYMBOLS:"a lot"}}'),
        ("application/json", '{"amount":1.0,"base":"EUR","date":"2026-11-20","rates":{SYMBOLS:0}}'),
        ("application/json", '{"amount":1.0,"base":"EUR","date":"2026-11-20","rates":{SYMBOLS:-1.08}}'),
        ("application/json", '{"amount":1.0,"base":"EUR","date":"2026-11-20","rates":{SYMBOLS:NaN}}'),
    ]
)


@dataclass(frozen=True)
class Fault:
    mode: str = "ok"
    seconds: float = 0


def log(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, faults: bool = False) -> None:
        super().__init__(("", port), Handler)
        self.faults = faults
        self.fault = Fault()
        self.stopping = threading.Event()

    def server_bind(self) -> None:
        """Bind without the name lookup of HTTPServer, which may wait for a DNS that is not reachable."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "rates", int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "rates"
    sys_version = ""
    timeout = 30
    wbufsize = -1  # headers and body in one packet
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/healthz":
            self.answer(200, {"status": "ok"})
        elif url.path == "/readyz":
            ready = not self.server.stopping.is_set() and rate("EUR", "USD") > 0
            self.answer(200 if ready else 503, {"status": "ready" if ready else "stopping"})
        elif url.path == "/_fault" and self.server.faults:
            self.answer(200, asdict(self.server.fault))
        elif url.path == "/v1/latest":
            query = parse_qs(url.query)
            self.latest(query.get("base", ["EUR"])[-1], ",".join(query.get("symbols", [])))
        else:
            self.answer(404, {"message": "not found"})

    def do_PUT(self) -> None:
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if not 0 <= length <= MAX_BODY:
            self.close_connection = True
            self.answer(413, {"message": f"a body of at most {MAX_BODY} bytes, with Content-Length"})
            return
        body = self.rfile.read(length)
        if self.path != "/_fault" or not self.server.faults:
            self.answer(404, {"message": "not found"})
            return
        try:
            self.server.fault = parse_fault(body)
        except ValueError as error:
            self.answer(422, {"message": str(error)})
            return
        log("fault", **asdict(self.server.fault))
        self.answer(200, asdict(self.server.fault))

    def latest(self, base: str, symbols: str) -> None:
        fault = self.server.fault
        if fault.mode == "error":
            self.answer(500, {"message": "internal server error"})
            return
        if fault.mode == "nonsense":
            kind, text = next(NONSENSE)
            self.send(200, kind, text.replace("SYMBOLS", json.dumps(symbols.split(",")[0] or "USD")))
            return
        if fault.mode == "slow":
            self.server.stopping.wait(fault.seconds)
        wanted = symbols.split(",") if symbols else [name for name in PER_EURO if name != base]
        if base not in PER_EURO or not PER_EURO.keys() >= set(wanted):
            self.answer(404, {"message": "not found"})
            return
        rates = {name: rate(base, name) for name in sorted(wanted)}
        self.answer(200, {"amount": 1.0, "base": base, "date": DATE, "rates": rates})

    def answer(self, status: int, body: object) -> None:
        self.send(status, "application/json", json.dumps(body))

    def send(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """No access log: a load test would drown the events that matter."""


def rate(base: str, symbol: str) -> float:
    """What one of `base` buys of `symbol`, rounded to five decimals."""
    return float((PER_EURO[symbol] / PER_EURO[base]).quantize(Decimal("0.00001"), ROUND_HALF_EVEN))


def parse_fault(body: bytes) -> Fault:
    """The fault asked for, or ValueError with the reason."""
    try:
        asked = json.loads(body)
    except ValueError:
        raise ValueError('not JSON; expected {"mode": ..., "seconds": N}') from None
    if not isinstance(asked, dict) or not asked.keys() <= {"mode", "seconds"}:
        raise ValueError("expected an object with mode and seconds only")
    mode = asked.get("mode")
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}")
    seconds = asked.get("seconds", 5 if mode == "slow" else 0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_SECONDS:
        raise ValueError(f"seconds must be a number from 0 to {MAX_SECONDS}")
    return Fault(mode, seconds)


def main() -> None:
    """Serve on the port given (8080) until SIGTERM or SIGINT, then exit 0."""
    asked = [argument for argument in sys.argv[1:] if argument != "--faults"]
    server = Server(int(asked[0]) if asked else 8080, faults="--faults" in sys.argv)

    def stop(*_: object) -> None:
        server.stopping.set()
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log("listening", port=server.server_port)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    log("stopped")


if __name__ == "__main__":
    main()
