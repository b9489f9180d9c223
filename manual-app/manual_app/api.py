"""POST /orders, GET /orders, GET /orders/{id}: what comes in is checked, what goes out is exact.

Anybody places orders; who has the token reads them. What a field may hold is written once, as the pattern or the list
that /openapi.json shows; the validators beside them only say it in words. Money travels as decimal strings in both
directions; a JSON number has passed through binary floats.
"""

import re
from collections.abc import Callable, Coroutine
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy import Row
from starlette.exceptions import HTTPException

from manual_app import orders
from manual_app.contract import BODY, NOT_FOUND, READERS_ONLY, REFUSED, UNAVAILABLE
from manual_app.database import Database
from manual_app.metrics import Metrics
from manual_app.money import HOME, MINOR_UNITS, plain, rounded
from manual_app.pricing import price
from manual_app.rates import Rates

MAX_QUANTITY = 10_000
# No character that a terminal, a page or a database takes for more than text: controls, line ends, and those that turn
# the direction of what follows; and one at least that can be seen.
_CONTROL = r"\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069"
_BLANK = r"\u0020\u00a0\u1680\u180e\u2000-\u200f\u202f\u205f-\u2065\u3000\ufeff"
TEXT = f"^[^{_CONTROL}]*[^{_CONTROL}{_BLANK}][^{_CONTROL}]*$"
# More than 0, at most 1000000.00.
EUROS = r"^(0\.(0[1-9]|[1-9][0-9]?)|[1-9][0-9]{0,5}(\.[0-9]{1,2})?|1000000(\.0{1,2})?)$"


def _text(text: str) -> str:
    if re.search(f"[{_CONTROL}]", text):
        raise ValueError("may only hold printable characters")
    if not re.fullmatch(TEXT, text):
        raise ValueError("must not be blank")
    return text.strip()


def _whole(number: object) -> object:
    """In JSON 1.0 is an integer too."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _euros(text: str) -> str:
    if not re.fullmatch(EUROS, text):
        raise ValueError(
            "must be an amount in euros with at most 2 decimals, such as 19.99, more than 0 and at most 1000000.00"
        )
    return text


def _known(code: str) -> str:
    if code not in MINOR_UNITS:
        raise ValueError(f"must be one of {', '.join(MINOR_UNITS)}")
    return code


Text = Annotated[
    str, Field(min_length=1, max_length=100, json_schema_extra={"pattern": TEXT}), AfterValidator(_text)
]
Price = Annotated[
    str, Field(examples=["19.99"], json_schema_extra={"pattern": EUROS}), AfterValidator(_euros)
]
Currency = Annotated[str, Field(json_schema_extra={"enum": [*MINOR_UNITS]}), AfterValidator(_known)]


class Json(APIRoute):
    """A route whose body is application/json and nothing else; what says that it is something else is not read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with that question before it."""
        handle = super().get_route_handler()

        async def asked(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if self.body_field and kind != "application/json":
                raise HTTPException(415, "the body must be JSON", {"Accept": "application/json"})
            return await handle(request)

        return asked


class NewOrder(BaseModel):
    """What a customer asks for; the unit price is in euros."""

    model_config = ConfigDict(extra="forbid", strict=True)

    customer: Text
    item: Text
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY), BeforeValidator(_whole)]
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


def routes(database: Database, rates: Rates, metrics: Metrics, readers_only: Callable[..., Any]) -> APIRouter:
    """Return the orders API; `readers_only` is the dependency that lets nobody else read."""
    router = APIRouter(tags=["orders"], route_class=Json, responses=REFUSED | UNAVAILABLE)
    readers = [Depends(readers_only)]

    @router.post("/orders", status_code=201, responses=BODY)
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

    @router.get("/orders", dependencies=readers, responses=READERS_ONLY)
    async def latest(limit: Annotated[int, Query(ge=1, le=100)] = 20) -> OrderList:
        """List the latest orders, the newest first."""
        rows = await database.run(orders.latest(limit))
        return OrderList(orders=[Order.of(row) for row in rows])

    @router.get("/orders/{order_id}", dependencies=readers, responses=READERS_ONLY | NOT_FOUND)
    async def one(order_id: Annotated[int, Path(ge=1, lt=2**63)]) -> Order:
        """Show one order."""
        row = await database.run(orders.by_id(order_id))
        if row is None:
            raise HTTPException(404, f"there is no order {order_id}")
        return Order.of(row)

    return router
