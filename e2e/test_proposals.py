"""By hand, with git and an editor: what a proposal on a branch is told before anybody merges it. Nothing is written."""

from collections.abc import Iterator

import pytest

from delivery.desired import manifests
from e2e.conftest import Build
from e2e.delivery import Checkout, Ran

BRANCH = "proposal"


@pytest.fixture
def branch(platform: Checkout, prod: Build) -> Iterator[str]:
    """I am on a branch of my checkout, on top of main.

    Afterwards it is gone; the Git server and what runs in stage and prod are as they were.
    """
    platform.pull()
    home = platform.git("rev-parse", "--abbrev-ref", "HEAD")
    platform.git("checkout", "--quiet", "-b", BRANCH)
    before = (platform.main(), platform.digests("stage"), platform.digests("prod"))
    yield BRANCH
    assert (platform.main(), platform.digests("stage"), platform.digests("prod")) == before
    platform.git("checkout", "--quiet", "--force", home)
    platform.git("branch", "--quiet", "-D", BRANCH)


@pytest.fixture
def tested_build(platform: Checkout, next_build: Build) -> Build:
    """A newer build, which runs in dev and was tested there."""
    platform.delivery("test", "dev")
    return next_build


def named(platform: Checkout, environment: str) -> tuple[str, str]:
    """Tag and digest that an environment's values name in my checkout."""
    file = platform.pipeline.environment(environment).values
    return manifests.named((platform.path / file).read_text(), file)


def edited(platform: Checkout, environment: str, build: str, digest: str) -> None:
    """The values of an environment with another tag and digest in them, as I type them."""
    file = platform.pipeline.environment(environment).values
    tag, before = named(platform, environment)
    text = (platform.path / file).read_text()
    [line] = [one for one in text.splitlines() if one.strip().startswith("tag:")]
    platform.edit(file, line, line.replace(tag, build))
    platform.edit(file, before, digest)


def checked(platform: Checkout, expect: int) -> Ran:
    """What CI would say of my branch, as JSON."""
    platform.commit("a proposal by hand")
    return platform.delivery("check", BRANCH, "--format", "json", expect=expect)


def test_what_was_tested_may_enter_and_nothing_else(
    platform: Checkout, tested_build: Build, branch: str
) -> None:
    """The digest that dev tested may enter when I type it into stage's values; into prod's, past stage, it may not."""
    _, before = named(platform, "stage")
    edited(platform, "stage", tested_build.number, tested_build.digest)
    found = checked(platform, 0).json
    [stage] = found["environments"]
    assert found["verdict"] == "ALLOWED"
    assert (stage["environment"], stage["before"], stage["after"]) == ("stage", before, tested_build.digest)
    assert f"@{tested_build.digest}" in stage["diff"]
    said = platform.delivery("check", branch, "--format", "markdown").out
    assert said.startswith("### ALLOWED")
    assert f"@{tested_build.digest}" in said

    edited(platform, "prod", tested_build.number, tested_build.digest)
    ran = checked(platform, 1)
    assert ran.json["verdict"] == "REFUSED"
    assert [one["allowed"] for one in ran.json["environments"]] == [True, False]
    assert "prod: stage" in ran.error


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
