"""Orders through the API: priced, stored, listed; bad input refused with its reasons."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from manual_app.settings import DatabaseSettings
from real_postgres import Postgres
from real_service import order


def test_order_is_priced_and_stored(
    service: httpx.Client, postgres: Postgres, migrated: DatabaseSettings
) -> None:
    """I order 12 lamps in dollars: I get the discount, both totals and the rate back, and so it is stored."""
    created = service.post("/orders", json=order())
    assert created.status_code == 201
    stored = created.json()
    assert stored.pop("created_at").endswith("Z")
    number = stored.pop("id")
    assert stored == {
        "customer": "Ada",
        "item": "lamp",
        "quantity": 12,
        "unit_price": "19.99",
        "currency": "USD",
        "discount_percent": 5,
        "discount_eur": "11.99",
        "total_eur": "227.89",
        "rate": "1.0823",
        "rate_date": "2026-11-20",
        "total": "246.65",
    }
    rows = postgres.execute("SELECT id, total, rate FROM orders", migrated.name)
    assert [[str(value) for value in row] for row in rows] == [[str(number), "246.650", "1.0823000000"]]


@pytest.mark.parametrize(
    ("currency", "total"), [("EUR", "19.99"), ("USD", "21.64"), ("JPY", "3267"), ("KWD", "6.618")]
)
def test_total_has_the_decimals_of_its_currency(service: httpx.Client, currency: str, total: str) -> None:
    """Totals come back with two decimals, none for yen, three for dinars."""
    stored = service.post("/orders", json=order(quantity=1, currency=currency)).json()
    assert stored["total"] == total
    assert service.get(f"/orders/{stored['id']}").json() == stored


def test_latest_orders_come_first(service: httpx.Client) -> None:
    """I see the latest orders first, as many as I ask for."""
    for number in range(1, 4):
        service.post("/orders", json=order(customer=f"customer {number}", currency="EUR"))
    listed = service.get("/orders", params={"limit": 2}).json()["orders"]
    assert [entry["customer"] for entry in listed] == ["customer 3", "customer 2"]
    assert len(service.get("/orders").json()["orders"]) == 3


def test_unknown_order_is_not_found(service: httpx.Client) -> None:
    """An order that does not exist is a 404 that says so."""
    response = service.get("/orders/999999")
    assert response.status_code == 404
    assert response.json()["error"] == "there is no order 999999"


@pytest.mark.parametrize("text", ["Robert'); DROP TABLE orders;--", "<script>alert(1)</script>", "Zoë 🛋️ 李"])
def test_any_printable_text_is_kept_as_it_is(service: httpx.Client, text: str) -> None:
    """Quotes, markup and every script are only text: they come back as they were sent."""
    text = text.replace("\ufe0f", "")
    stored = service.post("/orders", json=order(customer=f"  {text} ", currency="EUR"))
    assert stored.json()["customer"] == text
    assert service.get("/orders").json()["orders"][0]["customer"] == text


WITHOUT = object()

BAD: list[tuple[str, dict[str, Any], str]] = [
    ("customer missing", {"customer": WITHOUT}, "customer: field required"),
    ("customer empty", {"customer": ""}, "customer: string should have at least 1 character"),
    ("customer blank", {"customer": " \u00a0 "}, "customer: must not be blank"),
    ("customer long", {"customer": "x" * 101}, "customer: string should have at most 100 characters"),
    ("customer number", {"customer": 7}, "customer: input should be a valid string"),
    ("customer NUL", {"customer": "A\0"}, "customer: may only hold printable characters"),
    ("customer escape", {"customer": "A\x1b[2J"}, "customer: may only hold printable characters"),
    ("customer turned round", {"customer": "A\u202eB"}, "customer: may only hold printable characters"),
    ("customer half pair", {"customer": "A\ud800"}, "customer: "),
    ("item missing", {"item": WITHOUT}, "item: field required"),
    ("item long", {"item": "x" * 101}, "item: string should have at most 100 characters"),
    ("quantity zero", {"quantity": 0}, "quantity: input should be greater than or equal to 1"),
    ("quantity negative", {"quantity": -5}, "quantity: input should be greater than or equal to 1"),
    ("quantity huge", {"quantity": 10_001}, "quantity: input should be less than or equal to 10000"),
    ("quantity broken", {"quantity": 1.5}, "quantity: input should be a valid integer"),
    ("quantity text", {"quantity": "12"}, "quantity: input should be a valid integer"),
    ("quantity true", {"quantity": True}, "quantity: input should be a valid integer"),
    ("price zero", {"unit_price": "0.00"}, "unit_price: must be an amount in euros"),
    ("price too high", {"unit_price": "1000000.01"}, "unit_price: must be an amount in euros"),
    ("price with zeros", {"unit_price": "007.50"}, "unit_price: must be an amount in euros"),
    (
        "price negative",
        {"unit_price": "-1"},
        "unit_price: must be an amount in euros with at most 2 decimals",
    ),
    (
        "price digits",
        {"unit_price": "1.001"},
        "unit_price: must be an amount in euros with at most 2 decimals",
    ),
    ("price NaN", {"unit_price": "NaN"}, "unit_price: must be an amount in euros with at most 2 decimals"),
    ("price power", {"unit_price": "1e3"}, "unit_price: must be an amount in euros with at most 2 decimals"),
    ("price comma", {"unit_price": "1,50"}, "unit_price: must be an amount in euros with at most 2 decimals"),
    ("price Arabic digits", {"unit_price": "١٢"}, "unit_price: must be an amount in euros"),
    ("price endless", {"unit_price": "1" * 5000}, "unit_price: must be an amount in euros"),
    ("price as number", {"unit_price": 19.99}, "unit_price: input should be a valid string"),
    ("currency unknown", {"currency": "XXX"}, "currency: must be one of AUD, CAD"),
    ("currency small", {"currency": "usd"}, "currency: must be one of"),
    ("currency long", {"currency": "DOLLARS"}, "currency: must be one of"),
    ("field unknown", {"total": "0.01"}, "total: not a field of this request"),
]


@pytest.mark.parametrize(("changes", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_refused_with_its_reason(
    service: httpx.Client, changes: dict[str, Any], reason: str
) -> None:
    """What makes no sense is a 422 that names the field and the reason, and nothing is stored."""
    body = {key: value for key, value in order(**changes).items() if value is not WITHOUT}
    response = service.post("/orders", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert len(response.json()["reasons"]) == 1
    assert response.json()["reasons"][0].startswith(reason)
    assert response.json()["hint"]
    assert service.get("/orders").json() == {"orders": []}


def test_a_whole_number_with_a_point_is_one(service: httpx.Client) -> None:
    """Some languages write 12 as 12.0, which in JSON is the same integer."""
    taken = service.post("/orders", json=order(quantity=12.0, currency="EUR"))
    assert (taken.status_code, taken.json()["quantity"]) == (201, 12)


@pytest.mark.parametrize("price", ["0.01", "0.10", "0.5", "1", "19.9", "999999.99", "1000000", "1000000.00"])
def test_prices_as_people_write_them(service: httpx.Client, price: str) -> None:
    """From a cent to a million, with up to two decimals."""
    assert service.post("/orders", json=order(unit_price=price, currency="EUR")).status_code == 201


def test_all_reasons_are_named_at_once(service: httpx.Client) -> None:
    """Two mistakes are two reasons in one answer."""
    response = service.post("/orders", json=order(quantity=0, currency="XXX"))
    assert [reason.split(":")[0] for reason in response.json()["reasons"]] == ["quantity", "currency"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff", b"[" * 60_000, b'{"quantity": 1' + b"0" * 5000 + b"}"],
    ids=["empty", "cut off", "list", "null", "text", "not UTF-8", "nested", "long number"],
)
def test_body_that_is_no_order_is_refused(service: httpx.Client, content: bytes) -> None:
    """A body that is no JSON object is a 422 with a reason, whatever it does to a parser."""
    response = service.post("/orders", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert response.json()["reasons"]


@pytest.mark.parametrize("path", ["/orders?limit=0", "/orders?limit=101", "/orders?limit=x", "/orders/0"])
@pytest.mark.parametrize("more", ["", "99999999999999999999"])
def test_questions_are_bounded_too(service: httpx.Client, path: str, more: str) -> None:
    """A list of 0, of 101 or of x orders, or a number beyond the database's, is refused with its reason."""
    response = service.get(path + more if "limit=" in path else f"/orders/{more or 0}")
    assert response.status_code == 422
    assert response.json()["reasons"][0].startswith(("limit: ", "order_id: "))


def test_large_body_is_refused(service: httpx.Client) -> None:
    """A body over 64 KiB is a 413 that says the limit."""
    response = service.post("/orders", json=order(customer="x" * 70_000))
    assert response.status_code == 413
    assert "64 KiB" in response.json()["hint"]


def test_large_chunked_body_is_refused(service: httpx.Client) -> None:
    """A body without a declared length is counted while it comes: 413 as well."""

    def chunks() -> Iterator[bytes]:
        for _ in range(17):
            yield b" " * 4096

    response = service.post("/orders", content=chunks(), headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert "64 KiB" in response.json()["hint"]


def test_large_body_is_refused_before_it_is_sent(service: httpx.Client) -> None:
    """Who announces a gigabyte is refused at once, without having to send it."""
    with socket.create_connection((service.base_url.host, service.base_url.port or 0), timeout=5) as raw:
        raw.sendall(
            b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000000000\r\n\r\n"
        )
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")


def test_largest_body_that_fits_is_read(service: httpx.Client) -> None:
    """64 KiB exactly are read (and then refused for what they say, not for their size)."""
    response = service.post("/orders", content=b" " * 64 * 1024, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
