"""Prod never moves by itself, and nobody reaches it past stage."""

from e2e.conftest import Build
from e2e.delivery import Checkout, consistently


def test_prod_does_not_move_when_main_moves(platform: Checkout, prod: Build, next_build: Build) -> None:
    """I push to main; dev follows; prod keeps its pods for as long as I watch, and takes nothing past stage."""
    before = {pod["metadata"]["uid"] for pod in platform.pods("prod")}
    assert platform.digests("dev") == {next_build.digest}
    # A refresh makes Argo CD look at main at once, so that the time watched is not only its own pause.
    platform.refresh("prod")

    def unmoved() -> None:
        assert {pod["metadata"]["uid"] for pod in platform.pods("prod")} == before
        assert next_build.digest not in platform.digests("prod")

    consistently(unmoved, seconds=10)

    # I cannot skip stage: a digest that is only in dev is refused for prod, and Git stays as it is.
    main = platform.main()
    platform.delivery("promote", "prod", "--digest", next_build.digest, expect=1)
    assert platform.main() == main
    unmoved()
