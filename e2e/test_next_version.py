"""Journeys of the version after: the whole way to prod, and back again, while users go on."""

from functools import partial

from e2e.by_hand import enters, merged
from e2e.conftest import Build
from e2e.delivery import Checkout, probing
from e2e.suites import left


def test_the_next_version_comes_and_goes_and_nobody_notices(
    platform: Checkout, prod: Build, next_build: Build
) -> None:
    """The next build is tested, promoted, typed into prod's values, approved and let in, then rolled back.

    No request to prod fails on the way, what a user left there stays, and prod is proven to run what Git asks for.
    What is merged without an approval is refused by `enter`, and moves nothing.
    """
    url = platform.url("prod")
    was = left.leave(url)
    with probing(f"{url}{platform.pipeline.app.ready}") as probe:
        platform.delivery("test", "dev")
        platform.delivery("promote", "stage")
        platform.delivery("test", "stage")
        merged(platform, "prod", next_build, expect=1)
        assert "approval" in platform.delivery("enter", "prod", expect=1).error
        asked = platform.delivery("approve", "prod", expect=1, typed="n\n")
        assert "did not approve" in asked.error
        assert prod.digest in asked.out
        assert next_build.digest in asked.out
        platform.delivery("approve", "prod", typed="y\n")
        assert platform.digests("prod") == {prod.digest}
        enters(platform, "prod", next_build)
        assert platform.delivery("verify", "prod", "--format", "json").json["verdict"] == "PROVEN"
        back = platform.delivery("rollback", "prod", "--format", "json").json
        assert (back["digest"], back["before"]) == (prod.digest, next_build.digest)
        assert platform.digests("prod") == {prod.digest}
    assert probe.failed == []
    assert probe.answered > 10
    left.find(url, was, partial(platform.secret, "prod"))
