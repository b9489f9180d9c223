"""Security: what the service answers to people who do not mean well."""

import json
import socket
import ssl
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from e2e.suites.customer import order, place, stored
from e2e.suites.target import Target

LIMIT = 64 * 1024  # bytes of a request's body

HTML = '<script>alert("x")</script><img src=x onerror=alert(1)>'
SQL = "'; DROP TABLE orders; --"

ANSWERS = {
    "page": ("GET", "/", 200),
    "orders": ("GET", "/orders", 200),
    "version": ("GET", "/version", 200),
    "not found": ("GET", "/nothing", 404),
    "not allowed": ("DELETE", "/orders", 405),
    "refused": ("POST", "/orders", 422),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_security_headers(http: httpx.Client, what: str) -> None:
    """Every answer, an error as well, tells browsers to trust it with nothing."""
    method, path, status = ANSWERS[what]
    answer = http.request(method, path)
    assert answer.status_code == status
    _assert_headers(answer.headers)


def test_security_headers_without_http(target: Target) -> None:
    """Who does not even speak HTTP gets the same."""
    url = httpx.URL(target.url)
    secure = url.scheme == "https"
    with socket.create_connection((url.host, url.port or (443 if secure else 80)), timeout=5) as plain:
        connection = (
            ssl.create_default_context().wrap_socket(plain, server_hostname=url.host) if secure else plain
        )
        connection.sendall(b"not http at all\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head and (part := connection.recv(4096)):
            head += part
    first, *lines = head.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert first.split()[1] == "400"
    _assert_headers(httpx.Headers(dict(line.split(": ", 1) for line in lines)))


def test_injection(http: httpx.Client) -> None:
    """SQL and HTML in an order are stored as what they are: text. The page shows them as text."""
    wanted = order(item=f"{SQL} {HTML}"[:100])
    taken = place(http, wanted)
    assert taken["item"] == wanted["item"]
    assert stored(http, customer=wanted["customer"]) == [taken]
    page = http.get("/").text
    assert wanted["customer"] in page, "the page does not show the newest order"
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    "path", ["/orders/1%20OR%201=1", "/orders/1;--", "/orders?limit=1;DROP%20TABLE%20orders"]
)
def test_injection_in_address(http: httpx.Client, path: str) -> None:
    """SQL in an address is no number, and refused."""
    answer = http.get(path)
    assert answer.status_code == 422, answer.text
    assert answer.json()["reasons"]


@pytest.mark.parametrize("chunked", [False, True])
def test_oversize(http: httpx.Client, chunked: bool) -> None:
    """A body over the limit is refused, whether its size is announced or not; the service lives on."""
    body = json.dumps(order(item="x" * LIMIT)).encode()

    def chunks() -> Iterator[bytes]:
        yield from (body[i : i + 8192] for i in range(0, len(body), 8192))

    answer = http.post("/orders", content=chunks() if chunked else body)
    assert answer.status_code == 413, answer.text
    assert answer.json()["hint"]
    _assert_headers(answer.headers)
    assert http.get("/healthz").status_code == 200


MALFORMED: dict[str, Any] = {
    "not JSON": b"{",
    "not UTF-8": b'{"customer": "\xff"}',
    "nested without end": b"[" * 50_000,
    "not an object": b"[]",
    "field missing": {"customer": ...},
    "field too many": {"admin": True},
    "no piece": {"quantity": 0},
    "a million pieces": {"quantity": 1_000_000},
    "pieces as text": {"quantity": "12"},
    "free": {"unit_price": "0.00"},
    "negative price": {"unit_price": "-1.00"},
    "price that is no number": {"unit_price": "NaN"},
    "price with exponent": {"unit_price": "1e5"},
    "unknown currency": {"currency": "XXX"},
    "no name": {"customer": " "},
    "long name": {"customer": "x" * 101},
    "control characters": {"customer": "a\u0000b\u001b[31m"},
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed(http: httpx.Client, what: str) -> None:
    """An order that makes no sense is refused with the reasons, and nothing of it is stored."""
    item = f"refused {uuid.uuid4().hex}"
    changes = MALFORMED[what]
    if isinstance(changes, dict):
        wanted = {key: value for key, value in order(item=item, **changes).items() if value is not ...}
        answer = http.post("/orders", json=wanted)
    else:
        answer = http.post("/orders", content=changes, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["reasons"]
    assert stored(http, item=item) == []


def _assert_headers(headers: httpx.Headers) -> None:
    assert headers["x-content-type-options"] == "nosniff"
    policy = {part.split()[0]: part.split()[1:] for part in headers["content-security-policy"].split(";")}
    assert policy["default-src"] == ["'none'"]
    assert policy["frame-ancestors"] == ["'none'"]
    assert "script-src" not in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert not {"server", "x-powered-by"} & set(headers)
