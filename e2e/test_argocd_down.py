"""Argo CD is down: every verb says so in one line and writes nothing, and all is well when it is back."""

from collections.abc import Iterator

import pytest

from delivery import roles
from e2e.conftest import Build
from e2e.delivery import Checkout

PARTS = ("statefulset/argocd-application-controller", "deployment/argocd-repo-server")


@pytest.fixture(scope="module")
def down(platform: Checkout, prod: Build) -> Iterator[None]:
    """The platform has scaled its controller and its repository server to nothing; afterwards they run again."""
    own = (*roles.AS_PLATFORM, "-n", "argocd")
    try:
        platform.kubectl(*own, "scale", *PARTS, "--replicas=0")
        for part in PARTS:
            name = part.rpartition("/")[2]
            pods = ("pod", "-l", f"app.kubernetes.io/name={name}")
            platform.kubectl("-n", "argocd", "wait", *pods, "--for=delete", "--timeout=90s")
        yield
    finally:
        platform.kubectl(*own, "scale", *PARTS, "--replicas=1")
        for part in PARTS:
            platform.kubectl("-n", "argocd", "rollout", "status", part, "--timeout=120s")
        platform.delivery("promote", "prod")
        platform.delivery("verify")


@pytest.mark.usefixtures("down")
@pytest.mark.parametrize(
    "verb",
    [("deploy", "--digest", "{digest}"), ("promote", "prod"), ("rollback", "prod", "--digest", "{digest}")],
)
def test_nothing_is_asked_of_it(platform: Checkout, prod: Build, verb: tuple[str, ...]) -> None:
    """What would change something is refused at once, exit 4, and neither Git nor what runs is touched."""
    before = (platform.main(), platform.digests("prod"))
    ran = platform.delivery(*(word.format(digest=prod.digest) for word in verb), expect=4)
    assert "Argo CD's application-controller does not run" in ran.error
    assert ran.hint == "hint: delivery up"
    assert (platform.main(), platform.digests("prod")) == before


@pytest.mark.usefixtures("down")
def test_nothing_is_proven(platform: Checkout) -> None:
    """Its word may be old: verify is UNKNOWN, exit 3, and status says the same."""
    ran = platform.delivery("verify", expect=3)
    assert "UNKNOWN" in ran.error
    assert "Argo CD's application-controller does not run" in ran.out
    found = platform.delivery("status", "--format", "json", expect=None).json
    assert "does not run" in str(found)
