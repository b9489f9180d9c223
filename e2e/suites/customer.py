"""A customer of the orders API."""

import uuid
from typing import Any

import httpx

Order = dict[str, Any]


def order(**changes: Any) -> Order:
    """An order of a customer whom nobody else is called like; 12 pieces, so a discount of 5 %."""
    customer = f"gate {uuid.uuid4().hex[:16]}"
    return {
        "customer": customer,
        "item": "lamp",
        "quantity": 12,
        "unit_price": "19.99",
        "currency": "EUR",
    } | changes


def place(http: httpx.Client, wanted: Order) -> Order:
    """Send an order that must be taken; as it was stored."""
    answer = http.post("/orders", json=wanted)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def stored(http: httpx.Client, **like: str) -> list[Order]:
    """Those of the latest hundred orders that have these values."""
    answer = http.get("/orders", params={"limit": 100})
    assert answer.status_code == 200, answer.text
    return [one for one in answer.json()["orders"] if one.items() >= like.items()]
