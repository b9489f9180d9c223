"""Asks the exchange-rates API and believes nothing that it cannot check.

The API has the shape of frankfurter: GET /v1/latest?base=EUR&symbols=USD. Rates are not cached:
an order is priced at the rate of its moment or not at all.
"""

import asyncio
import json
import ssl
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import NoReturn

import httpx
import structlog

from manual_app.errors import Unavailable
from manual_app.metrics import Metrics
from manual_app.money import HOME

log = structlog.get_logger()

_LOWEST, _HIGHEST = Decimal("0.0001"), Decimal("100000")
_STEP = Decimal("1e-10")
_MAX_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Rate:
    """Units of a currency for one euro, and the day for which the API says so."""

    value: Decimal
    day: date


class RatesAway(Unavailable):
    """The rates API is away, slow or talks nonsense."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(
            f"no exchange rate: {reason}", "try again shortly; orders in EUR need no rate", retry_after=5
        )
        self.outcome = outcome


class Rates:
    """The exchange-rates API at `url`; each question is answered within `timeout` seconds."""

    def __init__(self, url: str, timeout: float, metrics: Metrics) -> None:
        self._url = url
        self._timeout = timeout
        self._metrics = metrics
        # Loading certificates takes longer than all else here: only for an address that needs them.
        verify = ssl.create_default_context() if url.startswith("https:") else False
        self._client = httpx.AsyncClient(
            timeout=timeout, verify=verify, headers={"Accept-Encoding": "identity"}
        )

    async def close(self) -> None:
        """Close the connections that are kept for the next question."""
        await self._client.aclose()

    async def latest(self, currency: str) -> Rate:
        """Return today's rate of `currency`, or raise RatesAway with the reason."""
        try:
            rate = parse(await self._ask(currency), currency)
        except RatesAway as away:
            self._metrics.rates.labels(away.outcome).inc()
            log.warning("rates unavailable", outcome=away.outcome, reason=away.error, currency=currency)
            raise
        self._metrics.rates.labels("ok").inc()
        return rate

    async def _ask(self, currency: str) -> bytes:
        params = {"base": HOME, "symbols": currency}
        body = b""
        try:
            # httpx bounds each read; the outer limit also bounds an answer that drips.
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream("GET", f"{self._url}/v1/latest", params=params) as response,
            ):
                if response.status_code == 404:
                    raise RatesAway("status", f"the rates API does not know {currency}")
                if response.status_code != 200:
                    raise RatesAway("status", f"the rates API answered {response.status_code}")
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > _MAX_ANSWER_BYTES:
                        _nonsense("more than 64 KiB")
        except (TimeoutError, httpx.TimeoutException):
            raise RatesAway("timeout", f"the rates API took more than {self._timeout:g} s") from None
        except httpx.HTTPError as error:
            raise RatesAway("unreachable", f"the rates API is away ({type(error).__name__})") from None
        return body


def parse(body: bytes, currency: str) -> Rate:
    """Return the rate that `body` gives for `currency`; RatesAway if it is not one to price with."""
    try:
        answer = json.loads(body, parse_float=Decimal, parse_int=Decimal, parse_constant=_nonsense)
    except (ValueError, ArithmeticError, RecursionError):
        _nonsense("not JSON")
    if not isinstance(answer, dict) or not isinstance(answer.get("rates"), dict):
        _nonsense("no rates")
    if answer.get("base") != HOME or answer.get("amount", 1) != 1:
        _nonsense(f"not for 1 {HOME}")
    value = answer["rates"].get(currency)
    if not isinstance(value, Decimal):
        _nonsense(f"no number for {currency}")
    if not _LOWEST <= value <= _HIGHEST:
        _nonsense(f"a rate that cannot be, for {currency}")
    try:
        day = date.fromisoformat(answer["date"])
    except (KeyError, TypeError, ValueError):
        _nonsense("no date")
    return Rate(value.quantize(_STEP, rounding=ROUND_HALF_UP), day)


def _nonsense(what: str) -> NoReturn:
    raise RatesAway("nonsense", f"the rates API answered nonsense ({what})")
