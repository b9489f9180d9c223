"""Locust: what a customer does, one thing after the other. Run by test_load.py, in a process of its own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from locust import FastHttpUser, constant, task

# Of who may read orders; test_load.py gives it, in the environment of this process.
READER = {"Authorization": f"Bearer {os.environ['ORDERS_TOKEN']}"}
STEPS = ("GET /orders", "POST /orders EUR", "POST /orders USD", "GET /orders/{id}")


class Customer(FastHttpUser):
    """Looks at the orders, places one in euros and one in dollars, and reads both."""

    wait_time = constant(0.1)
    connection_timeout = 5
    network_timeout = 10

    @task
    def visit(self) -> None:
        """The whole journey."""
        with self._step("GET", "/orders", STEPS[0], 200, headers=READER):
            pass
        for currency, step in (("EUR", STEPS[1]), ("USD", STEPS[2])):
            order = {
                "customer": "load test",
                "item": "lamp",
                "quantity": 12,
                "unit_price": "19.99",
                "currency": currency,
            }
            with self._step("POST", "/orders", step, 201, json=order) as answer:
                placed = answer.json() if answer.status_code == 201 else {}
            if placed:
                path = f"/orders/{placed['id']}"
                with self._step("GET", path, STEPS[3], 200, headers=READER) as answer:
                    if answer.status_code == 200 and answer.json() != placed:
                        answer.failure("not the order that was placed")

    @contextmanager
    def _step(self, method: str, path: str, name: str, status: int, **options: Any) -> Iterator[Any]:
        with self.client.request(method, path, name=name, catch_response=True, **options) as answer:
            if answer.status_code != status:
                answer.failure(f"{answer.status_code}, not {status}")
            yield answer
