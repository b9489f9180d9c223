"""What an order costs: quantity discount first, then the customer's currency.

The euro total is rounded to cents before it is converted: the customer sees that number and can
check the conversion with the published rate. Per order, not per piece: pieces carry no rounding.
"""

from dataclasses import dataclass
from decimal import Decimal

from manual_app.money import HOME, converted, rounded


@dataclass(frozen=True, slots=True)
class Tier:
    """From `at_least` pieces on, the whole order costs `percent` less."""

    at_least: int
    percent: int


TIERS = (Tier(10, 5), Tier(50, 10), Tier(100, 15))


@dataclass(frozen=True, slots=True)
class Price:
    """An order's price. Always: quantity x unit price = discount_eur + total_eur, to the cent."""

    discount_percent: int
    discount_eur: Decimal
    total_eur: Decimal
    rate: Decimal
    total: Decimal


def discount_percent(quantity: int) -> int:
    """Return the discount of the highest tier that `quantity` reaches, 0 below the first."""
    return max((tier.percent for tier in TIERS if quantity >= tier.at_least), default=0)


def price(quantity: int, unit_price: Decimal, currency: str, rate: Decimal) -> Price:
    """Return what `quantity` pieces at `unit_price` euros cost, in euros and in `currency`."""
    percent = discount_percent(quantity)
    gross = quantity * unit_price
    total_eur = rounded(gross * (100 - percent) / 100, HOME)
    return Price(
        discount_percent=percent,
        discount_eur=gross - total_eur,
        total_eur=total_eur,
        rate=rate,
        total=converted(total_eur, rate, currency),
    )
