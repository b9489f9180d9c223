"""Orders with their price, in euros and in the customer's currency."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table; the checks repeat what the service promises."""
    op.create_table(
        "orders",
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
        sa.CheckConstraint("quantity > 0", name="orders_quantity"),
        sa.CheckConstraint("unit_price > 0 AND rate > 0", name="orders_positive"),
        sa.CheckConstraint("quantity * unit_price = discount_eur + total_eur", name="orders_adds_up"),
        sa.CheckConstraint("(currency = 'EUR') = (rate_date IS NULL)", name="orders_rate_dated"),
    )
