"""The strategy release-branch on a running cluster: changed over to, gone through with tags, and changed back.

main goes to dev, the branch `release` to stage, and prod stands on v1.0, v1.1, …: refs move, and nothing is written but
by `deploy`.
"""

import time
from collections.abc import Iterator

import pytest

from delivery import roles
from delivery.desired import derived
from delivery.errors import PlatformError
from delivery.parts import git
from e2e.conftest import Build, asks_for_the_image
from e2e.delivery import DEVELOPER, Checkout, consistently
from e2e.test_verify import proven
from local import install

STRATEGIES = ("manual-promotion", "release-branch")


@pytest.fixture(scope="module")
def released(platform: Checkout, prod: Build) -> Iterator[Build]:
    """The strategy is release-branch, and what ran has gone to prod by tags; afterwards all is as it was.

    Changing over restarts nothing and loses no pin, there and back, and all is PROVEN at once. Nor does a promotion
    that moves refs alone restart anything.
    """
    before, told = pods(platform), pins(platform)
    change_over(platform, *STRATEGIES)
    try:
        platform.delivery("verify")
        assert (pods(platform), pins(platform)) == (before, told)
        platform.delivery("deploy", "--digest", prod.digest)
        platform.delivery("promote", "stage")
        platform.delivery("approve", "prod")
        platform.delivery("promote", "prod")
        assert pods(platform) == before
        yield prod
    finally:
        platform.git("switch", "--quiet", "--force", platform.branch)
        before, told = pods(platform), pins(platform)
        change_over(platform, *reversed(STRATEGIES))
        proven(platform)
        assert (pods(platform), pins(platform)) == (before, told)
        platform.back_to(prod.digest)
        asks_for_the_image(platform, prod, "the strategy release-branch")


def test_the_refs_moved_and_so_did_the_digest(platform: Checkout, released: Build) -> None:
    """The tags stand on the very commit that `release` has, Argo CD follows them, and all is PROVEN."""
    assert platform.delivery("verify", "--format", "json").json["verdict"] == "PROVEN"
    told = pins(platform)
    first, last = platform.environments()[1], platform.environments()[-1]
    with git.clone(platform.context.site.git, platform.branch, bare=True) as repository:
        proved = {repository.commit(f"refs/tags/{told[one.name]}^{{commit}}^") for one in (first, last)}
        assert len(proved) == 1
        assert all(repository.contains(one, "refs/remotes/origin/release") for one in proved)
        for environment in (first, last):
            tag = told[environment.name]
            assert not repository.run("diff", f"{tag}^{{commit}}^", tag), "its gate changes nothing"
    assert told[first.name].startswith(f"{first.name}-")
    assert told[last.name].startswith("v")
    for environment in platform.environments():
        assert platform.digests(environment.name) == {released.digest}


def test_a_rerun_moves_nothing(platform: Checkout, released: Build) -> None:
    """Each promotion may be repeated: no tag more, and no new pod."""
    platform.delivery("promote", "stage")
    platform.delivery("promote", "prod")
    before, there = refs(platform), pods(platform)
    platform.delivery("promote", "stage")
    again = platform.delivery("promote", "prod", "--format", "json").json
    assert not again["new"]
    assert (refs(platform), pods(platform)) == (before, there)


def test_what_git_refuses(platform: Checkout, released: Build) -> None:
    """A tag is not moved, `release` is not forced, and a version that is there is not given twice."""
    before = refs(platform)
    told = pins(platform)["prod"]
    platform.delivery("promote", "prod", "--version", "1.0", expect=2)
    platform.delivery("promote", "stage", "--version", "v9.0", expect=2)
    for login, refspec in (
        ("delivery", f"+HEAD:refs/tags/{told}"),
        ("developer", "HEAD:refs/tags/v9.9"),
        ("developer", "+HEAD~1:refs/heads/release"),
    ):
        with pytest.raises(PlatformError):
            platform.push(refspec, login=login)
    assert refs(platform) == before


def test_argocd_takes_no_tag_that_the_gate_did_not_sign(platform: Checkout, released: Build) -> None:
    """Prod is told to stand on a tag that no gate signed: its pods stay, verify says MISMATCH, the pin mends it."""
    told, before = pins(platform)["prod"], pods(platform)["prod"]
    name = f"v0.{int(time.time()) % 100_000}"
    platform.git(
        *("-c", "user.name=Mallory", "-c", "user.email=mallory@example.org"),
        *("tag", "--annotate", "--message", "mine", name, "HEAD"),
    )
    platform.push(f"refs/tags/{name}", login="delivery")
    try:
        platform.pin("prod", name)
        consistently(lambda: unmoved(platform, "prod", before), seconds=5)
        said = platform.delivery("verify", "prod", expect=1)
        assert f"tag {name}, at which Argo CD keeps prod, is not signed" in said.out + said.err
    finally:
        platform.pin("prod", told)
        settled(platform, "prod")
    proven(platform)  # Argo CD may still try the one that it refused, in its own time


def test_a_hotfix_while_main_goes_on(platform: Checkout, released: Build) -> None:
    """A commit on `release` goes to stage and prod with its own evidence; main lacks it, and says so, until the merge.

    By hand where a person asks: `release` is pushed and a version requested with Git, and `enter` gates both.
    """
    platform.pull()
    url = platform.context.site.git.url
    platform.git("fetch", "--quiet", url, "refs/heads/release")
    platform.git("switch", "--quiet", "--detach", "FETCH_HEAD")
    marker = platform.path / platform.pipeline.image.context / "CHANGES"
    marker.write_text(f"{marker.read_text() if marker.exists() else ''}a hotfix\n", encoding="utf-8")
    fix = platform.commit(f"{platform.app}: a hotfix")
    platform.push("HEAD:refs/heads/release")
    built = platform.delivery("build", "--format", "json").json
    platform.git("switch", "--quiet", platform.branch)

    refused = platform.delivery("promote", "stage", expect=1)
    assert "release cannot go forward" in refused.error

    brought = platform.delivery("deploy", "--digest", built["digest"], "--format", "json").json
    platform.delivery("test", "dev")
    platform.delivery("enter", "stage", expect=1)  # release does not name it yet
    platform.pull()
    platform.git("switch", "--quiet", "--detach", fix)
    platform.git(*DEVELOPER, "cherry-pick", brought["commit"])
    head = platform.git("rev-parse", "HEAD")
    platform.push("HEAD:refs/heads/release")
    platform.git("switch", "--quiet", platform.branch)
    platform.delivery("enter", "stage")
    assert platform.digests("stage") == {built["digest"]}

    platform.delivery("test", "stage")
    platform.delivery("approve", "prod")
    platform.delivery("enter", "prod", expect=1)  # nobody asked
    version = following(platform)
    platform.git("tag", f"request/{version}", head)
    platform.push(f"refs/tags/request/{version}")
    entered = platform.delivery("enter", "prod", "--format", "json").json
    assert (entered["tag"], entered["digest"]) == (version, built["digest"])
    platform.delivery("verify")

    assert f"{platform.app}: a hotfix" in platform.delivery("status").out
    platform.pull()
    platform.git(*DEVELOPER, "merge", "--quiet", "--no-edit", "--strategy-option", "ours", head)
    platform.push(f"HEAD:refs/heads/{platform.branch}")
    assert platform.delivery("status", "--format", "json").json["release_ahead"] == []

    back = platform.back_to(released.digest)
    assert sorted(back) == ["dev", "prod", "stage"]
    assert back["prod"]["tag"] not in ("", version)
    platform.delivery("verify")


def change_over(platform: Checkout, before: str, after: str) -> None:
    """As a team does it: the line, what follows from it, a commit, and the Applications applied."""
    platform.pull()
    platform.edit("pipeline.yaml", f"\nstrategy: {before}\n", f"\nstrategy: {after}\n")
    platform.delivery("generate")
    derived.check(platform.path, derived.files(platform.pipeline))
    platform.commit(f"pipeline: {after}")
    platform.push(f"HEAD:refs/heads/{platform.branch}")
    with install.as_seen_here(platform.cluster) as folder:
        command = ("apply", "--server-side", "--field-manager=delivery", "-k", folder)
        platform.kubectl(*roles.AS_PLATFORM, *command)
    settled(platform, platform.environments()[0].name)


def following(platform: Checkout) -> str:
    """The version after the one on which prod stands."""
    major, _, minor = pins(platform)["prod"].removeprefix("v").partition(".")
    return f"v{major}.{int(minor) + 1}"


def pins(platform: Checkout) -> dict[str, str]:
    """What Argo CD is told to keep each environment at."""
    return {
        one.name: platform.get("application", one.application, "-n", "argocd")["spec"]["source"][
            "targetRevision"
        ]
        for one in platform.environments()
    }


def pods(platform: Checkout) -> dict[str, set[str]]:
    """Which pods of the app each environment has."""
    return {
        one.name: {pod["metadata"]["uid"] for pod in platform.pods(one.name)}
        for one in platform.environments()
    }


def refs(platform: Checkout) -> list[str]:
    """Every branch and tag of the Git server, but for the ledger."""
    said = platform.git("ls-remote", platform.context.site.git.url)
    return [line for line in said.splitlines() if not line.endswith("delivery-evidence")]


def unmoved(platform: Checkout, environment: str, before: set[str]) -> None:
    """No pod came or went."""
    assert pods(platform)[environment] == before


def settled(platform: Checkout, environment: str) -> None:
    """Argo CD calls it Synced and Healthy."""
    name = platform.refresh(environment)
    for path, value in (("sync", "Synced"), ("health", "Healthy")):
        platform.kubectl(
            *(
                "-n",
                "argocd",
                "wait",
                f"application/{name}",
                f"--for=jsonpath={{.status.{path}.status}}={value}",
            ),
            "--timeout=90s",
        )
