"""The page at /: the build, its neighbours, the latest orders, and nothing from elsewhere."""

import re
from dataclasses import replace

import httpx
import pytest
from manual_app.settings import DatabaseSettings
from real_postgres import Postgres
from real_rates import RatesServer
from real_service import order, serving, settings


def test_page_shows_what_runs(service: httpx.Client) -> None:
    """I see version, build, revision and environment, and that database and rates are reachable."""
    page = service.get("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    for text in ("1.4.0", "57", "0123456789ab", "stage"):
        assert text in page.text
    assert page.text.count("reachable") == 2
    assert "No orders yet" in page.text


def test_page_lists_the_latest_orders(service: httpx.Client) -> None:
    """The ten latest orders are listed, the newest first, each with what the customer pays."""
    for number in range(1, 13):
        service.post("/orders", json=order(customer=f"customer {number}", currency="EUR", quantity=1))
    page = service.get("/").text
    assert re.findall(r"<td>customer (\d+)</td>", page) == [str(n) for n in range(12, 2, -1)]
    assert "19.99&nbsp;EUR" in page


def test_markup_in_orders_is_only_text(service: httpx.Client) -> None:
    """Who orders a <script> sees it written, not run."""
    service.post("/orders", json=order(customer="<script>alert('x')</script>", item='"><img src=x>'))
    page = service.get("/").text
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page


def test_page_obeys_its_own_policy(service: httpx.Client) -> None:
    """Everything the page loads comes from the service itself; nothing inline that CSP would block."""
    page = service.get("/").text
    assert not re.search(r"<style|<script|\sstyle=|\son\w+=|https?://|//", page.replace("<!doctype", ""))
    assets = re.findall(r'<link[^>]* href="([^"]+)"', page)
    assert {asset: service.get(asset).headers["Content-Type"] for asset in assets} == {
        "/style.css": "text/css; charset=utf-8",
        "/icon.svg": "image/svg+xml",
    }


def test_page_says_that_rates_are_away(service: httpx.Client, rates: RatesServer) -> None:
    """When the rates API is down the page says so and still shows the orders."""
    service.post("/orders", json=order(customer="Grace", currency="EUR"))
    rates.behave(status=500)
    page = service.get("/")
    assert page.status_code == 200
    assert "the rates API answered 500" in page.text
    assert "Grace" in page.text


@pytest.mark.parametrize("broken", ["away", "empty"])
def test_page_says_that_the_database_is_away(
    postgres: Postgres, migrated: DatabaseSettings, rates: RatesServer, broken: str
) -> None:
    """When the database is away or not migrated the page says so; it is not an error page."""
    database = postgres.database() if broken == "empty" else replace(migrated, port=9)
    with serving(settings(database, rates.url)) as client:
        page = client.get("/")
    assert page.status_code == 200
    assert {"away": "the database is away", "empty": "migrations are not current"}[broken] in page.text
