"""What /openapi.json says is what the service does."""

import re
from typing import Any

import httpx
import pytest
from manual_app.api import EUROS, TEXT
from manual_app.money import MINOR_UNITS
from real_service import order

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


@pytest.fixture
def contract(service: httpx.Client) -> dict[str, Any]:
    """What the service says of itself."""
    return dict(service.get("/openapi.json").json())


def test_other_methods_are_refused_with_those_there_are(
    service: httpx.Client, contract: dict[str, Any]
) -> None:
    """A method that a path does not have is a 405, whose Allow header names all that it has."""
    for path, operations in contract["paths"].items():
        there = {name.upper() for name in operations}
        for method in set(METHODS) - there:
            answer = service.request(method, path.replace("{order_id}", "1"))
            assert answer.status_code == 405, (method, path)
            assert set(re.split(", *", answer.headers["Allow"])) == there, (method, path)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "", "application/xml"]
)
def test_another_content_type_is_refused(service: httpx.Client, kind: str) -> None:
    """What does not say that it is JSON is a 415 that says what would be taken, and nothing is stored."""
    headers = {"Content-Type": kind} if kind else {}
    answer = service.post("/orders", content=b"{}", headers=headers)
    assert answer.status_code == 415
    assert answer.headers["Accept"] == "application/json"
    assert "Content-Type: application/json" in answer.json()["hint"]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_is_taken_however_it_is_written(service: httpx.Client, kind: str) -> None:
    """A charset beside it and capital letters do not make it something else."""
    answer = service.post("/orders", content=b"{}", headers={"Content-Type": kind})
    assert answer.status_code == 422


def test_the_contract_names_every_answer(contract: dict[str, Any]) -> None:
    """Each error that a route may answer is there, and those who may read are told how."""
    answers = {
        f"{method} {path}": sorted(operation["responses"])
        for path, operations in contract["paths"].items()
        for method, operation in operations.items()
    }
    assert answers == {
        "post /orders": ["201", "413", "415", "422", "503"],
        "get /orders": ["200", "401", "422", "503"],
        "get /orders/{order_id}": ["200", "401", "404", "422", "503"],
        "get /healthz": ["200"],
        "get /readyz": ["200", "503"],
        "get /version": ["200"],
    }
    assert contract["paths"]["/orders"]["get"]["security"] == [{"reader": []}]
    assert "security" not in contract["paths"]["/orders"]["post"]
    assert contract["components"]["securitySchemes"]["reader"]["scheme"] == "bearer"


def test_the_contract_says_what_a_field_may_hold(service: httpx.Client, contract: dict[str, Any]) -> None:
    """Currencies are an enumeration, text and prices a pattern, and no field is taken that is not named."""
    new = contract["components"]["schemas"]["NewOrder"]
    fields = new["properties"]
    assert new["additionalProperties"] is False
    assert fields["currency"]["enum"] == [*MINOR_UNITS]
    assert (fields["unit_price"]["pattern"], fields["customer"]["pattern"]) == (EUROS, TEXT)
    assert (fields["quantity"]["minimum"], fields["quantity"]["maximum"]) == (1, 10_000)
    for currency in fields["currency"]["enum"]:
        placed = service.post("/orders", json=order(currency=currency))
        # The rates API of the tests knows some of them only.
        assert placed.status_code in (201, 503), placed.text
