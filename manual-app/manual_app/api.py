"""POST /orders, GET /orders, GET /orders/{id}: what comes in is checked, what goes out is exact.

Money travels as decimal strings in both directions; a JSON number has passed through binary floats.
"""

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import Row
from starlette.exceptions import HTTPException

from manual_app import orders
from manual_app.database import Database
from manual_app.metrics import Metrics
from manual_app.money import HOME, MINOR_UNITS, plain, rounded
from manual_app.pricing import price
from manual_app.rates import Rates

MAX_QUANTITY = 10_000
MAX_PRICE = Decimal("1000000.00")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("may only hold printable characters")
    return text


def _euros(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,2})?", text):
        raise ValueError("must be an amount in euros with at most 2 decimals, such as 19.99")
    if not 0 < Decimal(text) <= MAX_PRICE:
        raise ValueError(f"must be more than 0 and at most {MAX_PRICE}")
    return text


def _known(code: str) -> str:
    if code not in MINOR_UNITS:
        raise ValueError(f"must be one of {', '.join(MINOR_UNITS)}")
    return code


Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(_printable)
]
Price = Annotated[str, StringConstraints(max_length=10), Field(examples=["19.99"]), AfterValidator(_euros)]
Currency = Annotated[str, StringConstraints(max_length=3), AfterValidator(_known)]


class NewOrder(BaseModel):
    """What a customer asks for; the unit price is in euros."""

    model_config = ConfigDict(extra="forbid", strict=True)

    customer: Text
    item: Text
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY)]
    unit_price: Price
    currency: Currency


class Order(BaseModel):
    """An order as it is stored. `rate` is 1 and `rate_date` null for an order in euros."""

    id: int
    customer: str
    item: str
    quantity: int
    unit_price: str
    currency: str
    discount_percent: int
    discount_eur: str
    total_eur: str
    rate: str
    rate_date: date | None
    total: str
    created_at: datetime

    @classmethod
    def of(cls, row: Row[Any]) -> "Order":
        """Return a stored row in the shape that the API answers."""
        values = dict(row._mapping)
        for name in ("unit_price", "discount_eur", "total_eur"):
            values[name] = f"{values[name]:f}"
        values["rate"] = plain(values["rate"])
        values["total"] = f"{rounded(values['total'], values['currency']):f}"
        return cls(**values)


class OrderList(BaseModel):
    """The latest orders, the newest first."""

    orders: list[Order]


def routes(database: Database, rates: Rates, metrics: Metrics) -> APIRouter:
    """Return the orders API."""
    router = APIRouter(tags=["orders"])

    @router.post("/orders", status_code=201)
    async def create(new: NewOrder) -> Order:
        """Price an order and store it: all of it, or nothing."""
        unit_price, rate, day = Decimal(new.unit_price), Decimal(1), None
        if new.currency != HOME:  # asked before the transaction: no connection waits for a slow API
            today = await rates.latest(new.currency)
            rate, day = today.value, today.day
        priced = price(new.quantity, unit_price, new.currency, rate)
        row = await database.run(
            orders.store(
                {
                    "customer": new.customer,
                    "item": new.item,
                    "quantity": new.quantity,
                    "unit_price": unit_price,
                    "currency": new.currency,
                    "discount_percent": priced.discount_percent,
                    "discount_eur": priced.discount_eur,
                    "total_eur": priced.total_eur,
                    "rate": priced.rate,
                    "rate_date": day,
                    "total": priced.total,
                }
            )
        )
        metrics.orders.labels(new.currency).inc()
        return Order.of(row)

    @router.get("/orders")
    async def latest(limit: Annotated[int, Query(ge=1, le=100)] = 20) -> OrderList:
        """List the latest orders, the newest first."""
        rows = await database.run(orders.latest(limit))
        return OrderList(orders=[Order.of(row) for row in rows])

    @router.get("/orders/{order_id}")
    async def one(order_id: Annotated[int, Path(ge=1, lt=2**63)]) -> Order:
        """Show one order."""
        row = await database.run(orders.by_id(order_id))
        if row is None:
            raise HTTPException(404, f"there is no order {order_id}")
        return Order.of(row)

    return router
