"""The rates API: used when it answers well, believed in nothing else, and nothing stored then."""

import runpy
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from manual_app.rates import RatesAway, parse
from manual_app.settings import DatabaseSettings
from real_rates import RatesServer, answer
from real_service import order, serving, settings

STAND_IN = Path(__file__).resolve().parents[2] / "manual-app-helm/charts/rates/files/rates.py"

NONSENSE = {
    "html": (b"<html>maintenance</html>", "not JSON"),
    "empty": (b"", "not JSON"),
    "cut off": (answer("USD", "1.08")[:-5], "not JSON"),
    "not text": (b"\xff\xfe\x00", "not JSON"),
    "nested without end": (b"[" * 60_000, "not JSON"),
    "a list": (b"[]", "no rates"),
    "without rates": (b'{"base": "EUR"}', "no rates"),
    "rates not a table": (b'{"base": "EUR", "rates": 1}', "no rates"),
    "rate missing": (b'{"base": "EUR", "date": "2026-11-20", "rates": {}}', "no number for USD"),
    "another symbol": (answer("GBP", "0.83"), "no number for USD"),
    "another base": (answer("USD", "1.08", base="GBP"), "not for 1 EUR"),
    "another amount": (answer("USD", "108").replace(b"1.0,", b"100,"), "not for 1 EUR"),
    "text": (answer("USD", '"1.08"'), "no number for USD"),
    "null": (answer("USD", "null"), "no number for USD"),
    "true": (answer("USD", "true"), "no number for USD"),
    "zero": (answer("USD", "0"), "cannot be"),
    "negative": (answer("USD", "-1.08"), "cannot be"),
    "NaN": (answer("USD", "NaN"), "(NaN)"),
    "infinite": (answer("USD", "Infinity"), "(Infinity)"),
    "absurdly high": (answer("USD", "1e9"), "cannot be"),
    "beyond all numbers": (answer("USD", "1e999999"), "cannot be"),
    "absurdly low": (answer("USD", "0.0000001"), "cannot be"),
    "no day": (answer("USD", "1.08", day="yesterday"), "no date"),
    "endless": (answer("USD", "1.08") + b" " * 70_000, "more than 64 KiB"),
}


def refused(service: httpx.Client) -> dict[str, Any]:
    """Send an order in dollars, expect 503 and nothing stored, return the answer."""
    begun = time.monotonic()
    response = service.post("/orders", json=order(currency="USD"))
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert time.monotonic() - begun < 2
    assert service.get("/orders").json() == {"orders": []}
    body: dict[str, Any] = response.json()
    assert set(body) == {"error", "hint"}
    assert "EUR need no rate" in body["hint"]
    return body


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_is_refused_with_its_reason(service: httpx.Client, rates: RatesServer, case: str) -> None:
    """When the rates API talks nonsense I get a 503 that says which, and my order is not stored."""
    body, reason = NONSENSE[case]
    rates.behave(body=body)
    error = refused(service)["error"]
    assert error.startswith("no exchange rate: the rates API answered nonsense")
    assert reason in error


@pytest.mark.parametrize("status", [204, 301, 400, 404, 429, 500, 503])
def test_other_status_is_refused(service: httpx.Client, rates: RatesServer, status: int) -> None:
    """When the rates API answers anything but 200 I get a 503, even if a rate stands beside it."""
    rates.behave(status=status, body=b"" if status == 204 else answer("USD", "1.08"))
    assert ("does not know USD" if status == 404 else str(status)) in refused(service)["error"]


def test_slow_api_is_given_up(service: httpx.Client, rates: RatesServer) -> None:
    """When the rates API is slower than RATES_TIMEOUT_SECONDS I get a 503 then, not later."""
    rates.behave(seconds=10)
    assert "took more than 0.5 s" in refused(service)["error"]


def test_dripping_api_is_given_up(service: httpx.Client, rates: RatesServer) -> None:
    """An answer that comes byte by byte does not stretch the limit: it holds for the whole of it."""
    rates.behave(drip=0.1)
    assert "took more than 0.5 s" in refused(service)["error"]


def test_absent_api_is_refused_at_once(migrated: DatabaseSettings, service: httpx.Client) -> None:
    """When nobody listens at RATES_URL I get a 503; orders in euros still go through."""
    with serving(settings(migrated, "http://127.0.0.1:9")) as lonely:
        assert "away" in refused(lonely)["error"]
        assert lonely.post("/orders", json=order(currency="EUR")).status_code == 201


def test_euros_need_no_rate(service: httpx.Client, rates: RatesServer) -> None:
    """An order in euros goes through while the rates API is down, and does not even ask it."""
    rates.behave(status=500)
    stored = service.post("/orders", json=order(currency="EUR"))
    assert stored.status_code == 201
    assert (stored.json()["rate"], stored.json()["rate_date"]) == ("1", None)
    assert not rates.asked.is_set()


def test_recovers_by_itself(service: httpx.Client, rates: RatesServer) -> None:
    """Once the rates API is well again the next order goes through."""
    rates.behave(status=500)
    refused(service)
    rates.behave()
    assert service.post("/orders", json=order(currency="USD")).status_code == 201


def test_a_long_rate_is_kept_to_ten_decimals() -> None:
    """A rate with more digits than are stored is rounded before it prices anything."""
    assert str(parse(answer("USD", "1.00000000005"), "USD").value) == "1.0000000001"


def test_the_charts_stand_in_speaks_the_same_language(
    migrated: DatabaseSettings, service: httpx.Client
) -> None:
    """The stand-in that the chart deploys is understood, in all its faults."""
    stand_in = runpy.run_path(str(STAND_IN))["Server"](0, faults=True)
    stand_in.handle_error = lambda *_: None  # that we hang up on a slow answer is the point
    thread = threading.Thread(target=stand_in.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    url = f"http://127.0.0.1:{stand_in.server_port}"
    try:
        with serving(settings(migrated, url)) as ours, httpx.Client(base_url=url, verify=False) as theirs:
            for mode in ("slow", "error", *["nonsense"] * 10):
                theirs.put("/_fault", json={"mode": mode, "seconds": 2}).raise_for_status()
                refused(ours)
            theirs.put("/_fault", json={"mode": "ok"}).raise_for_status()
            stored = ours.post("/orders", json=order(currency="JPY", quantity=1)).json()
            assert (stored["rate"], stored["total"]) == ("163.42", "3267")
    finally:
        stand_in.stopping.set()
        stand_in.shutdown()
        thread.join()
        stand_in.server_close()


def test_reason_names_the_currency() -> None:
    """The reason says which currency had no rate."""
    with pytest.raises(RatesAway, match="no number for KRW"):
        parse(answer("USD", "1.08"), "KRW")
