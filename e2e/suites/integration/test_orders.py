"""Integration: what the API took is in PostgreSQL, and is still there after everything was restarted."""

import json
import time
from collections import Counter

import httpx

from e2e.suites.customer import order, place, stored
from e2e.suites.outcome import unknown
from e2e.suites.results import Results
from e2e.suites.target import Object, Target, name, ready

LIMIT = 60  # seconds until everything is Ready again


def test_order_is_listed_and_fetched(http: httpx.Client, reader: httpx.Client) -> None:
    """An order that was taken has the right price, is listed first and can be fetched."""
    wanted = order()
    taken = place(http, wanted)
    assert taken.items() >= wanted.items()
    # 12 x 19.99 = 239.88, less 5 % = 227.886, to the cent.
    assert (taken["discount_percent"], taken["discount_eur"]) == (5, "11.99")
    assert (taken["total_eur"], taken["total"], taken["rate"]) == ("227.89", "227.89", "1")
    assert stored(reader, customer=wanted["customer"]) == [taken]
    fetched = reader.get(f"/orders/{taken['id']}")
    assert (fetched.status_code, fetched.json()) == (200, taken)


def test_order_lands_in_postgresql(http: httpx.Client, target: Target) -> None:
    """What was answered is what the database's table has, to the cent."""
    taken = place(http, order(currency="USD"))
    pods = target.pods("postgresql")
    if not pods:
        unknown(f"{target.namespace} has no PostgreSQL of its own to look into")
    row = _row(target, name(pods[0]), taken["id"])
    assert row is not None, f"order {taken['id']} is not in the table"
    for field in ("customer", "item", "quantity", "unit_price", "currency", "total_eur", "rate_date"):
        assert row[field] == taken[field], field
    assert float(row["rate"]) == float(taken["rate"])
    assert float(row["total"]) == float(taken["total"])


def test_order_survives_restarts(
    http: httpx.Client, reader: httpx.Client, target: Target, results: Results
) -> None:
    """An order is still there, unchanged, after every pod of the service and its database was replaced."""
    taken = place(http, order())
    before = _restart(target, results)
    _wait_for_new_pods(target, before)
    _wait_for_service(http)
    fetched = reader.get(f"/orders/{taken['id']}")
    assert (fetched.status_code, fetched.json()) == (200, taken)
    later = place(http, order())
    assert later["id"] > taken["id"], "numbers are given once"


def _row(target: Target, pod: str, number: int) -> Object | None:
    fields = "select *, unit_price::text, total_eur::text from orders where id"
    question = f"select row_to_json(o) from ({fields} = {number:d}) o"  # noqa: S608 (a number is a number)
    command = ("psql", "--username=manual_app", "--dbname=manual_app", "--no-psqlrc", "--tuples-only")
    said = target.kubectl("exec", pod, "--container=postgresql", "--", *command, f"--command={question}")
    return dict(json.loads(said)) if said.strip() else None


def _restart(target: Target, results: Results) -> list[Object]:
    pods = target.app_pods() + target.pods("postgresql")
    for pod in pods:
        results.declare_restart(name(pod))
    # Short grace: what the service promises must hold for nodes that leave in a hurry, too.
    target.kubectl("delete", "pods", "--wait=false", "--grace-period=1", *map(name, pods))
    return pods


def _wait_for_new_pods(target: Target, before: list[Object]) -> None:
    gone = {pod["metadata"]["uid"] for pod in before}
    apps = Counter(_app(pod) for pod in before)
    end = time.monotonic() + LIMIT
    while True:
        pods = [pod for pod in target.get("pods") if _app(pod) in apps]
        old = [name(pod) for pod in pods if pod["metadata"]["uid"] in gone]
        waiting = [name(pod) for pod in pods if not ready(pod)]
        if not old and not waiting and Counter(map(_app, pods)) == apps:
            return
        assert time.monotonic() < end, f"after {LIMIT} s: still there {old}, not Ready {waiting}"
        time.sleep(0.1)


def _wait_for_service(http: httpx.Client) -> None:
    """Ready pods are not reached before the node has heard of them."""
    end = time.monotonic() + LIMIT
    while True:
        try:
            http.get("/readyz").raise_for_status()
            return
        except httpx.HTTPError:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


def _app(pod: Object) -> str:
    return str(pod["metadata"]["labels"].get("app.kubernetes.io/name", ""))
