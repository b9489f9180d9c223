"""What people do with an editor and plain git: type a digest into the values on a branch, merge it, let it enter."""

from delivery.desired import manifests
from e2e.conftest import Build
from e2e.delivery import DEVELOPER, Checkout


def named(platform: Checkout, environment: str) -> tuple[str, str]:
    """Tag and digest that an environment's values name in my checkout."""
    file = platform.pipeline.environment(environment).values
    return manifests.named((platform.path / file).read_text(), file)


def edited(platform: Checkout, environment: str, build: Build) -> None:
    """The values of an environment with the tag and digest of another build in them, as I type them."""
    file = platform.pipeline.environment(environment).values
    tag, before = named(platform, environment)
    text = (platform.path / file).read_text()
    [line] = [one for one in text.splitlines() if one.strip().startswith("tag:")]
    platform.edit(file, line, line.replace(tag, build.number))
    platform.edit(file, before, build.digest)


def merged(platform: Checkout, environment: str, build: Build, expect: int = 0) -> None:
    """I edit on a branch, read what `check` says of it, and merge it all the same: no pod moves, `verify` tells."""
    before = platform.digests(environment)
    platform.pull()
    platform.git("switch", "--quiet", "--create", "by-hand")
    edited(platform, environment, build)
    platform.commit(f"{environment}: build {build.number}, by hand")
    platform.delivery("check", "by-hand", expect=expect)
    platform.git("switch", "--quiet", platform.branch)
    message = f"Merge: build {build.number}"
    platform.git(*DEVELOPER, "merge", "--quiet", "--no-ff", "--message", message, "by-hand")
    platform.git("branch", "--quiet", "--delete", "by-hand")
    platform.push(f"HEAD:{platform.branch}")
    platform.refresh(environment)
    said = platform.delivery("verify", environment, expect=1)
    assert f"never entered {environment}" in said.out + said.err
    assert platform.digests(environment) == before


def enters(platform: Checkout, environment: str, build: Build) -> None:
    """The gate lets in what Git asks for, by a commit of its own that changes nothing; the pods run it."""
    asked = platform.main()
    entered = platform.delivery("enter", environment, "--format", "json").json
    assert (entered["digest"], entered["new"]) == (build.digest, True)
    platform.pull()
    assert platform.git("diff", asked, entered["commit"]) == ""
    assert platform.digests(environment) == {build.digest}
