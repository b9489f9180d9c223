"""Prices: discount tiers at their edges, rounding to what each currency can pay."""

from decimal import Decimal

import pytest
from manual_app import money
from manual_app.pricing import TIERS, discount_percent, price


@pytest.mark.parametrize(
    ("quantity", "percent"),
    [(1, 0), (9, 0), (10, 5), (11, 5), (49, 5), (50, 10), (99, 10), (100, 15), (10_000, 15)],
)
def test_discount_begins_exactly_at_its_tier(quantity: int, percent: int) -> None:
    """From 10, 50 and 100 pieces on, the whole order costs 5, 10 and 15 percent less; no piece sooner."""
    assert discount_percent(quantity) == percent


def test_more_pieces_never_get_less_discount() -> None:
    """The tiers rise together: a larger order never has the smaller discount."""
    assert list(TIERS) == sorted(TIERS, key=lambda tier: (tier.at_least, tier.percent))


@pytest.mark.parametrize(
    ("amount", "currency", "paid"),
    [
        ("1.004", "EUR", "1.00"),
        ("1.005", "EUR", "1.01"),
        ("1.015", "EUR", "1.02"),
        ("1.025", "USD", "1.03"),
        ("0.4999", "JPY", "0"),
        ("0.5", "JPY", "1"),
        ("1.5", "JPY", "2"),
        ("2.5", "JPY", "3"),
        ("1.0005", "KWD", "1.001"),
        ("1.00049", "KWD", "1.000"),
    ],
)
def test_amounts_are_rounded_to_what_the_currency_can_pay(amount: str, currency: str, paid: str) -> None:
    """Yen have no decimals, dinars three, the others two; exactly half goes up, also after an even digit."""
    assert str(money.rounded(Decimal(amount), currency)) == paid


def test_discount_tie_is_rounded_in_cents_before_conversion() -> None:
    """10 pieces at 0.01 with 5 percent off are 0.095: the customer pays 0.10, and that is converted."""
    priced = price(10, Decimal("0.01"), "KWD", Decimal("0.5"))
    assert (priced.total_eur, priced.discount_eur) == (Decimal("0.10"), Decimal("0.00"))
    assert str(priced.total) == "0.050"


def test_conversion_rounds_the_order_and_not_the_piece() -> None:
    """Three pieces at 0.33 EUR and 1.5 dollars a euro are 0.99 EUR, so 1.49 USD, not three times 0.50."""
    assert price(3, Decimal("0.33"), "USD", Decimal("1.5")).total == Decimal("1.49")


def test_price_list_currency_is_not_converted() -> None:
    """An order in euros costs its euro total."""
    priced = price(1, Decimal("19.99"), "EUR", Decimal(1))
    assert priced.total == priced.total_eur == Decimal("19.99")


def test_discount_and_total_always_add_up_to_the_cent() -> None:
    """Quantity times unit price is the discount plus the total, for quantities up to 200 and odd prices."""
    for quantity in range(1, 201):
        for text in ("0.01", "0.03", "0.07", "9.99", "333.33", "1000000.00"):
            priced = price(quantity, Decimal(text), "EUR", Decimal(1))
            assert priced.discount_eur + priced.total_eur == quantity * Decimal(text)
            assert 0 <= priced.discount_eur < quantity * Decimal(text)


def test_the_largest_order_is_exact() -> None:
    """Ten thousand pieces at a million euros and the longest rate lose no digit to arithmetic."""
    priced = price(10_000, Decimal("999999.99"), "KWD", Decimal("99999.9999999999"))
    assert priced.total_eur == Decimal("8499999915.00")
    assert priced.total == Decimal("849999991499999.150")


@pytest.mark.parametrize(
    ("number", "text"),
    [("1.0800000000", "1.08"), ("1.0000000000", "1"), ("100", "100"), ("1E+2", "100"), ("0.0001", "0.0001")],
)
def test_rates_are_shown_without_idle_zeros(number: str, text: str) -> None:
    """A rate is shown as people write it: no exponent, no zeros that say nothing."""
    assert money.plain(Decimal(number)) == text
