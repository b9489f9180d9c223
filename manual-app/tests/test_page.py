"""The page at /: the build, its neighbours, and nothing from elsewhere."""

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


def test_page_shows_no_order(service: httpx.Client) -> None:
    """Everybody sees the page: nobody's name and nothing that they bought is on it."""
    service.post("/orders", json=order(customer="<b>Hedy</b>", item="zither", currency="EUR"))
    page = service.get("/").text
    assert "Hedy" not in page
    assert "zither" not in page


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
    """When the rates API is down the page says so; it is not an error page."""
    rates.behave(status=500)
    page = service.get("/")
    assert page.status_code == 200
    assert "the rates API answered 500" in page.text


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
