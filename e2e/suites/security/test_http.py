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
    "without the token": ("GET", "/orders", 401),
    "version": ("GET", "/version", 200),
    "not found": ("GET", "/nothing", 404),
    "not allowed": ("DELETE", "/orders", 405),
    "refused": ("POST", "/orders", 422),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_security_headers(http: httpx.Client, what: str) -> None:
    """Every answer, an error as well, tells browsers to trust it with nothing."""
    method, path, status = ANSWERS[what]
    answer = http.request(method, path, json={} if method == "POST" else None)
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


def test_injection(http: httpx.Client, reader: httpx.Client) -> None:
    """SQL and HTML in an order are stored as what they are: text. No browser takes the answer for a page."""
    wanted = order(item=f"{SQL} {HTML}"[:100])
    taken = place(http, wanted)
    assert taken["item"] == wanted["item"]
    assert stored(reader, customer=wanted["customer"]) == [taken]
    answer = reader.get("/orders")
    assert answer.headers["content-type"] == "application/json"
    _assert_headers(answer.headers)


def test_page_tells_nothing(http: httpx.Client) -> None:
    """Everybody sees the page: no order is on it."""
    wanted = order(item=f"{SQL} {HTML}"[:100])
    place(http, wanted)
    page = http.get("/").text
    assert wanted["customer"] not in page
    assert "<script" not in page


WRONG = {"none": "", "another": "Bearer of-another", "another scheme": "Basic YWRtaW46YWRtaW4="}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("path", ["/orders", "/orders/1", "/orders?limit=1"])
def test_orders_need_the_token(http: httpx.Client, path: str, what: str) -> None:
    """Who has no token, or a wrong one, reads no order and is told how to ask."""
    answer = http.get(path, headers={"Authorization": WRONG[what]})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert set(answer.json()) == {"error", "hint"}


def test_orders_open_with_the_token(reader: httpx.Client) -> None:
    """Who has it reads them: the test above shows the lock, and not a broken door."""
    assert reader.get("/orders").status_code == 200


def test_other_methods(http: httpx.Client) -> None:
    """A method that the contract does not name is refused, with those that it does."""
    paths = http.get("/openapi.json").json()["paths"]
    assert "/orders" in paths
    for path, operations in paths.items():
        there = {method.upper() for method in operations}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - there:
            answer = http.request(method, path.replace("{order_id}", "1"))
            assert answer.status_code == 405, f"{method} {path}: {answer.status_code}"
            assert set(answer.headers["allow"].split(", ")) == there, f"{method} {path}"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_other_content_types(http: httpx.Client, kind: str) -> None:
    """A form of another site's page cannot place an order: only what says that it is JSON is read."""
    headers = {"Content-Type": kind} if kind else {}
    answer = http.post("/orders", content=json.dumps(order()).encode(), headers=headers)
    assert answer.status_code == 415, answer.text
    assert answer.headers["accept"] == "application/json"


@pytest.mark.parametrize(
    "path", ["/orders/1%20OR%201=1", "/orders/1;--", "/orders?limit=1;DROP%20TABLE%20orders"]
)
def test_injection_in_address(reader: httpx.Client, path: str) -> None:
    """SQL in an address is no number, and refused."""
    answer = reader.get(path)
    assert answer.status_code == 422, answer.text
    assert answer.json()["reasons"]


@pytest.mark.parametrize("chunked", [False, True])
def test_oversize(http: httpx.Client, chunked: bool) -> None:
    """A body over the limit is refused, whether its size is announced or not; the service lives on."""
    body = json.dumps(order(item="x" * LIMIT)).encode()

    def chunks() -> Iterator[bytes]:
        yield from (body[i : i + 8192] for i in range(0, len(body), 8192))

    headers = {"Content-Type": "application/json"}
    answer = http.post("/orders", content=chunks() if chunked else body, headers=headers)
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
    "name turned round": {"customer": "a\u202eb"},
    "long name": {"customer": "x" * 101},
    "control characters": {"customer": "a\u0000b\u001b[31m"},
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed(http: httpx.Client, reader: httpx.Client, what: str) -> None:
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
    assert stored(reader, item=item) == []


def _assert_headers(headers: httpx.Headers) -> None:
    assert headers["x-content-type-options"] == "nosniff"
    policy = {part.split()[0]: part.split()[1:] for part in headers["content-security-policy"].split(";")}
    assert policy["default-src"] == ["'none'"]
    assert policy["frame-ancestors"] == ["'none'"]
    assert "script-src" not in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert not {"server", "x-powered-by"} & set(headers)
