"""What a user leaves behind in the app, for the journeys that bring a new version while users go on: it must be there
afterwards. A fork writes these two anew for its own app, or makes them do nothing where it keeps nothing.
"""

from collections.abc import Callable

import httpx

from e2e.suites import customer


def leave(url: str) -> customer.Order:
    """Place an order with the environment at `url`, as a customer does."""
    with _http(url) as http:
        return customer.place(http, customer.order())


def find(url: str, left: customer.Order, secret: Callable[[str, str], str]) -> None:
    """Fail unless the order is as it was; `secret` gives the value of a Secret's key in that environment."""
    token = customer.Token(secret("orders-reader", "token"))
    with _http(url) as http:
        http.headers.update(token.header)
        answer = http.get(f"/orders/{left['id']}")
        assert answer.status_code == 200, answer.text
        assert answer.json() == left


def _http(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=10, trust_env=False)
