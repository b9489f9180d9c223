"""Amounts of money: exact decimals, rounded once, to what the currency can pay.

Rounding is half-up ("commercial"): exactly half a minor unit goes up. That is the rule of
Council Regulation (EC) 1103/97, article 5, for converted amounts, and what people check by hand.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal, localcontext

MINOR_UNITS: Mapping[str, int] = {
    "AUD": 2,
    "CAD": 2,
    "CHF": 2,
    "CZK": 2,
    "DKK": 2,
    "EUR": 2,
    "GBP": 2,
    "HUF": 2,
    "JPY": 0,
    "KRW": 0,
    "KWD": 3,
    "NOK": 2,
    "PLN": 2,
    "SEK": 2,
    "USD": 2,
}
"""The currencies we sell in, each with the digits of its minor unit (ISO 4217)."""

HOME = "EUR"
"""The currency of the price list."""


def rounded(amount: Decimal, currency: str) -> Decimal:
    """Return `amount` at the precision in which `currency` is paid, halves up."""
    with localcontext(prec=50):
        return amount.quantize(Decimal(1).scaleb(-MINOR_UNITS[currency]), rounding=ROUND_HALF_UP)


def converted(euros: Decimal, rate: Decimal, currency: str) -> Decimal:
    """Return `euros` in `currency` at `rate` units for one euro, rounded once."""
    with localcontext(prec=50):
        return rounded(euros * rate, currency)


def plain(number: Decimal) -> str:
    """Return `number` without exponent and without zeros that say nothing ("1.0800" -> "1.08")."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
