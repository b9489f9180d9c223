"""Strategy 1: main goes to dev, the branch `release` to stage, and prod stands on a tag."""

from collections.abc import Iterator

import pytest

from delivery import roles
from delivery.parts import git
from delivery.signed import commits
from e2e.conftest import Build
from e2e.delivery import Checkout, consistently
from local import install

TAG = "v1.0"  # as argocd/release-branch/tag.yaml has it


@pytest.fixture
def released(platform: Checkout, prod: Build, next_build: Build) -> Iterator[str]:
    """The Applications of the strategy, `release` at what entered stage, the tag at what entered prod."""
    platform.pull()
    commit = entered(platform, "stage")
    platform.push(f"{commit}:refs/heads/release")
    if git.server_ref(platform.context.site.git, f"refs/tags/{TAG}") is None:  # a tag is never moved
        platform.push(f"{entered(platform, 'prod')}:refs/tags/{TAG}")
    try:
        apply(platform, "release-branch")
        yield commit
    finally:
        apply(platform, "manual-promotion")
        follows(platform, "dev", platform.main())
        for name in ("stage", "prod"):  # changing over took the pin away
            platform.delivery("rollback", name, "--digest", prod.digest)


def test_stage_follows_release_and_prod_stands_on_its_tag(
    platform: Checkout, prod: Build, next_build: Build, released: str
) -> None:
    """Changing over restarts nothing. Main moves and stage does not, until `release` reaches the commit; prod keeps
    its pods all the while.
    """
    before = {name: uids(platform, name) for name in ("stage", "prod")}
    tagged = git.server_ref(platform.context.site.git, f"refs/tags/{TAG}")
    assert tagged
    follows(platform, "stage", released)
    follows(platform, "prod", tagged)
    assert {name: uids(platform, name) for name in before} == before

    values = platform.pipeline.environment("stage").values
    platform.edit(values, prod.digest, next_build.digest)
    moved = platform.commit_as("stage", "stage: the next build")
    platform.push(f"{moved}:refs/heads/main")
    try:
        follows(platform, "dev", moved)
        platform.refresh("stage")
        consistently(lambda: same(uids(platform, "stage"), before["stage"]), seconds=5)
        platform.push(f"{moved}:refs/heads/release")
        follows(platform, "stage", moved)
        assert platform.digests("stage") == {next_build.digest}
        same(uids(platform, "prod"), before["prod"])
    finally:
        platform.edit(values, next_build.digest, prod.digest)
        back = platform.commit_as("stage", "stage: as it was")
        platform.push(f"{back}:refs/heads/main")
        platform.push(f"{back}:refs/heads/release")
        follows(platform, "stage", back)
    assert platform.digests("stage") == {prod.digest}


def entered(platform: Checkout, environment: str) -> str:
    """The commit whose chart and values an environment has."""
    chosen = platform.pipeline.environment(environment)
    record = commits.newest(platform.context, git.Repository(platform.path), chosen)
    assert record
    return record.release


def apply(platform: Checkout, strategy: str) -> None:
    """The Applications of a strategy, as argocd/README.md says, with the address of this cluster's Git server."""
    with install.as_seen_here(platform.cluster) as folder:
        command = ("apply", "--server-side", "--force-conflicts", "-k", f"{folder}/{strategy}")
        platform.kubectl(*roles.AS_PLATFORM, *command)


def follows(platform: Checkout, environment: str, commit: str) -> None:
    """Argo CD says that the environment is what this commit asks for."""
    name = platform.refresh(environment)
    for path, value in (
        ("{.status.sync.revision}", commit),
        ("{.status.sync.status}", "Synced"),
        ("{.status.health.status}", "Healthy"),
    ):
        platform.kubectl(
            *("-n", "argocd", "wait", f"application/{name}", f"--for=jsonpath={path}={value}"),
            "--timeout=90s",
        )
    # Healthy may still be of the commit before.
    own = ("-n", platform.pipeline.environment(environment).namespace)
    platform.kubectl(*own, "rollout", "status", f"deployment/{platform.app}", "--timeout=90s")


def uids(platform: Checkout, environment: str) -> set[str]:
    """Which pods of the app an environment has."""
    return {pod["metadata"]["uid"] for pod in platform.pods(environment)}


def same(now: set[str], before: set[str]) -> None:
    """No pod came or went."""
    assert now == before
