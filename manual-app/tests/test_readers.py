"""Orders are read by those who have the token, and by nobody else."""

from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from manual_app.settings import DatabaseSettings
from real_rates import RatesServer
from real_service import TOKEN, order, serving, settings

WRONG = {
    "none": "",
    "no word": "Bearer",
    "another": "Bearer something-else",
    "almost": f"Bearer {TOKEN[:-1]}",
    "more": f"Bearer {TOKEN}x",
    "another scheme": f"Basic {TOKEN}",
    "no scheme": TOKEN,
    "other letters": "Bearer \u00fcber",
}


@pytest.mark.parametrize("path", ["/orders", "/orders?limit=1", "/orders?limit=x", "/orders/1", "/orders/x"])
@pytest.mark.parametrize("what", WRONG)
def test_nobody_reads_without_the_token(service: httpx.Client, path: str, what: str) -> None:
    """Whether it is missing, wrong or nearly right: 401, with how to ask, and nothing of what there is."""
    given = {"Authorization": WRONG[what].encode("latin-1")}
    answer = service.get(path, headers=given)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="orders"'
    assert set(answer.json()) == {"error", "hint"}
    assert TOKEN not in answer.text


def test_anybody_places_an_order(service: httpx.Client) -> None:
    """A customer needs no token."""
    bare = httpx.Client(base_url=service.base_url, trust_env=False)
    with bare:
        assert bare.post("/orders", json=order(currency="EUR")).status_code == 201
    assert len(service.get("/orders").json()["orders"]) == 1


@pytest.mark.parametrize("content", [None, "", "\n"], ids=["no file", "empty", "a line end"])
def test_without_a_token_nobody_reads(
    migrated: DatabaseSettings, rates: RatesServer, tmp_path: Path, content: str | None
) -> None:
    """A token that was not mounted, or is empty, opens nothing: 503, and orders can be placed meanwhile."""
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with serving(replace(settings(migrated, rates.url), orders_token_file=file)) as client:
        for given in ("Bearer", f"Bearer {TOKEN}"):
            answer = client.get("/orders", headers={"Authorization": given})
            assert answer.status_code == 503
            assert "ORDERS_TOKEN_FILE" in answer.json()["hint"]
        assert client.post("/orders", json=order(currency="EUR")).status_code == 201
        file.write_text("new-token")  # is picked up, as a Secret that was changed
        assert client.get("/orders", headers={"Authorization": "Bearer new-token"}).status_code == 200
