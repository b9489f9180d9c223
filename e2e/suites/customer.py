"""A customer of the orders API, and somebody who may read all orders."""

import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx

from e2e.suites.target import Target, name

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


@dataclass(frozen=True)
class Token:
    """What opens the orders; nothing that shows this object shows its value."""

    value: str = field(repr=False)

    @property
    def header(self) -> dict[str, str]:
        """How it is sent."""
        return {"Authorization": f"Bearer {self.value}"}


# Runs inside the app's container, which has it as a file.
ASK = """
import json, os
print(json.dumps(open(os.environ["ORDERS_TOKEN_FILE"]).read().strip()))
"""


def token(target: Target) -> Token:
    """The environment's token, as the tester sees it: inside a container of the app."""
    pod = name(target.app_pods()[0])
    return Token(target.python(pod, target.pipeline.chart.release, ASK))


def stored(reader: httpx.Client, **like: str) -> list[Order]:
    """Those of the latest hundred orders that have these values."""
    answer = reader.get("/orders", params={"limit": 100})
    assert answer.status_code == 200, answer.text
    return [one for one in answer.json()["orders"] if one.items() >= like.items()]
