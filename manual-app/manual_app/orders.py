"""Orders as they are stored: one table, three questions."""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

METADATA = sa.MetaData()

ORDERS = sa.Table(
    "orders",
    METADATA,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("customer", sa.Text, nullable=False),
    sa.Column("item", sa.Text, nullable=False),
    sa.Column("quantity", sa.Integer, nullable=False),
    sa.Column("unit_price", sa.Numeric(12, 2), nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("discount_percent", sa.SmallInteger, nullable=False),
    sa.Column("discount_eur", sa.Numeric(14, 2), nullable=False),
    sa.Column("total_eur", sa.Numeric(14, 2), nullable=False),
    sa.Column("rate", sa.Numeric(16, 10), nullable=False),
    sa.Column("rate_date", sa.Date),
    sa.Column("total", sa.Numeric(24, 3), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
)


def store(values: dict[str, Any]) -> Callable[[Connection], Row[Any]]:
    """Return the work that stores one order and answers it as stored."""
    return lambda connection: connection.execute(sa.insert(ORDERS).values(values).returning(*ORDERS.c)).one()


def latest(limit: int) -> Callable[[Connection], Sequence[Row[Any]]]:
    """Return the work that answers the `limit` latest orders, the newest first."""
    return lambda connection: connection.execute(
        sa.select(ORDERS).order_by(ORDERS.c.id.desc()).limit(limit)
    ).all()


def by_id(order_id: int) -> Callable[[Connection], Row[Any] | None]:
    """Return the work that answers one order, or None."""
    return lambda connection: connection.execute(
        sa.select(ORDERS).where(ORDERS.c.id == order_id)
    ).one_or_none()
