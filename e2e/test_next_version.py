"""Journeys of the version after: the whole way to prod, and back again, while customers go on ordering."""

import httpx

from e2e.conftest import Build
from e2e.delivery import Checkout, probing

ORDER = {"customer": "Ada", "item": "keyboard", "quantity": 10, "unit_price": "49.90", "currency": "USD"}


def test_the_next_version_comes_and_goes_and_nobody_notices(
    platform: Checkout, prod: Build, next_build: Build
) -> None:
    """The next build is tested, approved and promoted, then rolled back: no request to prod fails on the way, what a
    customer ordered stays, and each time prod is proven to run what Git asks for.
    """
    url = platform.url("prod")
    made = httpx.post(f"{url}/orders", json=ORDER, timeout=10, trust_env=False)
    assert made.status_code == 201, made.text
    with probing(f"{url}/version") as probe:
        platform.delivery("test", "dev")
        platform.delivery("promote", "stage")
        platform.delivery("test", "stage")
        platform.delivery("approve", "prod")
        platform.delivery("promote", "prod")
        assert platform.digests("prod") == {next_build.digest}
        assert platform.delivery("verify", "prod", "--format", "json").json["verdict"] == "PROVEN"
        back = platform.delivery("rollback", "prod", "--format", "json").json
        assert (back["digest"], back["before"]) == (prod.digest, next_build.digest)
        assert platform.digests("prod") == {prod.digest}
    assert probe.failed == []
    assert probe.answered > 10
    found = httpx.get(f"{url}/orders/{made.json()['id']}", timeout=10, trust_env=False)
    assert found.json() == made.json()
    for environment in ("stage", "dev"):
        platform.delivery("rollback", environment, "--digest", prod.digest)
    assert platform.delivery("verify", "--format", "json").json["verdict"] == "PROVEN"
