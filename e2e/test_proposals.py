"""By hand, with git and an editor: what a proposal on a branch is told before anybody merges it, and after."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e import by_hand
from e2e.conftest import Build
from e2e.delivery import Checkout, Ran

BRANCH = "proposal"


@contextmanager
def on_a_branch(platform: Checkout) -> Iterator[None]:
    """I am on a branch of my checkout, on top of main.

    Afterwards it is gone; the Git server and what runs in stage and prod are as they were.
    """
    platform.pull()
    home = platform.git("rev-parse", "--abbrev-ref", "HEAD")
    platform.git("checkout", "--quiet", "-b", BRANCH)
    before = (platform.main(), platform.digests("stage"), platform.digests("prod"))
    yield
    assert (platform.main(), platform.digests("stage"), platform.digests("prod")) == before
    platform.git("checkout", "--quiet", "--force", home)
    platform.git("branch", "--quiet", "-D", BRANCH)


@pytest.fixture
def branch(platform: Checkout, prod: Build) -> Iterator[str]:
    """The branch that I am on, with nothing changed yet."""
    with on_a_branch(platform):
        yield BRANCH


def checked(platform: Checkout, expect: int) -> Ran:
    """What CI would say of my branch, as JSON."""
    platform.commit("a proposal by hand")
    return platform.delivery("check", BRANCH, "--format", "json", expect=expect)


def test_what_dev_tested_may_enter_stage_by_hand_and_does(
    platform: Checkout, prod: Build, next_build: Build
) -> None:
    """The digest that dev tested may enter when I type it into stage's values; into prod's, past stage, it may not.

    Merged it moves no pod, and `verify` says so; `enter` gates, signs and pins it as it is.
    """
    platform.delivery("test", "dev")
    with on_a_branch(platform):
        _, before = by_hand.named(platform, "stage")
        by_hand.edited(platform, "stage", next_build)
        found = checked(platform, 0).json
        [stage] = found["environments"]
        assert found["verdict"] == "ALLOWED"
        assert (stage["environment"], stage["before"], stage["after"]) == ("stage", before, next_build.digest)
        assert f"@{next_build.digest}" in stage["diff"]
        said = platform.delivery("check", BRANCH, "--format", "markdown").out
        assert said.startswith("### ALLOWED")
        assert f"@{next_build.digest}" in said

        by_hand.edited(platform, "prod", next_build)
        ran = checked(platform, 1)
        assert ran.json["verdict"] == "REFUSED"
        assert [one["allowed"] for one in ran.json["environments"]] == [True, False]
        assert "prod: stage" in ran.error

    by_hand.merged(platform, "stage", next_build)
    by_hand.enters(platform, "stage", next_build)


def test_a_value_that_nobody_approved_may_not_enter(platform: Checkout, branch: str) -> None:
    """I add a value to prod that stage never had: it is shown, and refused for want of an approval of exactly that."""
    file = platform.path / platform.pipeline.environment("prod").values
    file.write_text(file.read_text() + "\nreplicas: 3\n")
    ran = checked(platform, 1)
    [prod] = ran.json["environments"]
    assert prod["environment"] == "prod"
    assert "+  replicas: 3" in prod["diff"]
    assert "+  replicas: 3" in prod["untested"]
    assert any("approval" in reason for reason in prod["reasons"])


def test_what_asks_nothing_passes(platform: Checkout, branch: str) -> None:
    """A file that no environment has enters nothing: exit 0."""
    (platform.path / "NOTES.md").write_text("a note\n")
    assert checked(platform, 0).json["environments"] == []
