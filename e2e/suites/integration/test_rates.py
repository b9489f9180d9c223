"""Integration: the external exchange-rates API is used, and its bad days cost nothing but those orders."""

import time
from decimal import Decimal

import httpx
import pytest

from e2e.suites.customer import order, place, stored
from e2e.suites.standin import StandIn

SLOW = 2.4  # seconds; the service waits 2


def test_rate_is_used(http: httpx.Client, rates: StandIn) -> None:
    """An order in dollars is priced at the rate that the API gives, and says of which day that is."""
    rate, day = rates.rate("USD")
    taken = place(http, order(currency="USD"))
    assert (Decimal(taken["rate"]), taken["rate_date"]) == (Decimal(rate), day)
    exact = Decimal(taken["total_eur"]) * Decimal(rate)
    assert abs(Decimal(taken["total"]) - exact) <= Decimal("0.005")


@pytest.mark.parametrize("mode", ["error", "nonsense"])
def test_rates_failing(http: httpx.Client, reader: httpx.Client, rates: StandIn, mode: str) -> None:
    """While the API fails or talks nonsense, an order in dollars is refused with a hint and not stored."""
    rates.fault(mode)
    # Nonsense comes in eight kinds, one after the other.
    for _ in range(8 if mode == "nonsense" else 1):
        refused = order(currency="USD")
        _assert_refused(http.post("/orders", json=refused))
        assert stored(reader, customer=refused["customer"]) == []
    _assert_euros_sell(http, reader)
    rates.mend()
    place(http, order(currency="USD"))


def test_rates_slow(http: httpx.Client, reader: httpx.Client, rates: StandIn) -> None:
    """A slow API holds nobody up for long: the order is refused in time, and a late answer stores nothing."""
    rates.fault("slow", SLOW)
    refused = order(currency="USD")
    begun = time.monotonic()
    _assert_refused(http.post("/orders", json=refused))
    seconds = time.monotonic() - begun
    assert seconds < SLOW, f"the refusal took {seconds:.1f} s: it waited for the API"
    _assert_euros_sell(http, reader)
    time.sleep(max(0.0, SLOW + 0.2 - seconds))  # now the late answer has come
    assert stored(reader, customer=refused["customer"]) == []


def _assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"].isdigit()
    said = answer.json()
    assert said["error"].startswith("no exchange rate: ")
    assert said["hint"]


def _assert_euros_sell(http: httpx.Client, reader: httpx.Client) -> None:
    wanted = order()
    taken = place(http, wanted)
    assert stored(reader, customer=wanted["customer"]) == [taken]
