"""manual-promotion with an editor and plain git: I type a digest into the values on a branch, it is checked and merged,
and `enter` gates, signs and pins what Git asks for since.
"""

from e2e.conftest import Build
from e2e.delivery import Checkout
from e2e.test_proposals import edited


def test_what_is_typed_and_merged_enters(platform: Checkout, prod: Build, next_build: Build) -> None:
    """A newer build goes to stage and to prod by edits alone; a merge moves no pod, only what the gate let in does.

    What is merged without an approval is refused by `enter` and said by `verify`; once it is approved it enters as it
    is, with a commit that changes nothing. All is PROVEN at the end.
    """
    platform.delivery("test", "dev")
    merged(platform, "stage", next_build)
    assert platform.digests("stage") == {prod.digest}
    said = platform.delivery("verify", "stage", expect=1)
    assert "never entered stage" in said.out + said.err
    enters(platform, "stage", next_build)

    platform.delivery("test", "stage")
    merged(platform, "prod", next_build, expect=1)
    assert "approval" in platform.delivery("enter", "prod", expect=1).error
    assert platform.digests("prod") == {prod.digest}
    platform.delivery("approve", "prod")
    enters(platform, "prod", next_build)
    assert platform.delivery("verify", "--format", "json").json["verdict"] == "PROVEN"


def merged(platform: Checkout, environment: str, build: Build, expect: int = 0) -> None:
    """I edit on a branch, read what `check` says of it, and merge it all the same."""
    platform.pull()
    platform.git("switch", "--quiet", "--create", "by-hand")
    edited(platform, environment, build.number, build.digest)
    platform.commit(f"{environment}: build {build.number}, by hand")
    platform.delivery("check", "by-hand", expect=expect)
    platform.git("switch", "--quiet", platform.branch)
    who = ("-c", "user.name=Dev Eloper", "-c", "user.email=dev@example.org")
    platform.git(*who, "merge", "--quiet", "--no-ff", "--message", f"Merge: build {build.number}", "by-hand")
    platform.git("branch", "--quiet", "--delete", "by-hand")
    platform.push(f"HEAD:{platform.branch}")
    platform.refresh(environment)


def enters(platform: Checkout, environment: str, build: Build) -> None:
    """The gate lets in what Git asks for, by a commit of its own that changes nothing; the pods run it."""
    asked = platform.main()
    entered = platform.delivery("enter", environment, "--format", "json").json
    assert (entered["digest"], entered["new"]) == (build.digest, True)
    platform.pull()
    assert platform.git("diff", asked, entered["commit"]) == ""
    assert platform.digests(environment) == {build.digest}
