"""Two people and CI at once, each a process with a checkout of its own: applied once or refused, never lost or forced.

`make e2e-races` asks for 50 rounds; `make e2e-races E2E="--races 1"` for one.
"""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from delivery.desired import change
from delivery.parts import git
from delivery.signed import ledger
from e2e.conftest import Build
from e2e.delivery import Checkout, Ran

LEDGER = f"refs/heads/{ledger.BRANCH}"


@pytest.fixture
def people(platform: Checkout, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, Checkout]:
    """Two more clones of what the Git server has, of two people."""
    found = []
    for name in ("Ann", "Ben"):
        path = tmp_path_factory.mktemp(name.lower()) / "repository"
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", platform.path, path], check=True)
        one = Checkout(path, platform.site)
        one.git("config", "user.name", name)
        one.git("config", "user.email", f"{name.lower()}@example.org")
        one.pull()
        found.append(one)
    ann, ben = found
    return ann, ben


def test_two_at_once_apply_each_change_once(
    platform: Checkout,
    prod: Build,
    next_build: Build,
    people: tuple[Checkout, Checkout],
    request: pytest.FixtureRequest,
) -> None:
    """Ann and Ben promote while CI deploys again, approve at once, and roll back at once: one change each time.

    Git and the ledger only ever go forward, nobody is refused without a hint, and the end is PROVEN.
    """
    ann, ben = people
    kept = sealed(platform)
    for _ in range(request.config.getoption("races")):
        platform.delivery("test", "dev")  # what was rolled back needs a newer test
        before = changes(platform, "stage")
        at_once(
            (ann, "promote", "stage"),
            (ben, "promote", "stage"),
            (platform, "deploy", "--digest", next_build.digest),
        )
        assert added(platform, "stage", before) == [next_build.digest]
        ann.delivery("promote", "stage")  # whoever was refused asks again: nothing changes any more
        assert added(platform, "stage", before) == [next_build.digest]
        assert platform.digests("stage") == {next_build.digest}

        platform.delivery("test", "stage")
        approved = at_once((ann, "approve", "prod"), (ben, "approve", "prod"))
        assert any(ran.code == 0 for ran in approved), approved
        status = platform.delivery("status", "--format", "json").json
        waiting = next(one for one in status["next"] if one["environment"] == "prod")
        assert (waiting["digest"], waiting["allowed"]) == (next_build.digest, True)

        before = changes(platform, "stage")
        at_once((ann, "rollback", "stage"), (ben, "rollback", "stage"))
        assert added(platform, "stage", before) == [prod.digest], (
            "one step back, not two, and not forth again"
        )
        ann.delivery("rollback", "stage", "--digest", prod.digest)
        assert platform.digests("stage") == {prod.digest}
        platform.delivery("verify")
        kept = grown(platform, kept)


def at_once(*asked: tuple[Checkout, *tuple[str, ...]]) -> list[Ran]:
    """What came of each verb, all begun together: done, refused, or not reached in time; at least one is done."""
    with ThreadPoolExecutor(len(asked)) as pool:
        ran = list(pool.map(lambda one: one[0].delivery(*one[1:], expect=None), asked))
    told = "\n".join(
        f"{' '.join(words)}: exit {one.code}\n{one.err}" for (_, *words), one in zip(asked, ran, strict=True)
    )
    assert all(one.code in (0, 1, 3) for one in ran), told
    assert any(one.code == 0 for one in ran), told
    return ran


def changes(platform: Checkout, environment: str) -> list[change.Record]:
    """The changes of an environment on the Git server, newest first."""
    with git.clone(platform.context.site.git, platform.branch, bare=True) as repository:
        return [one for one in change.history(repository) if one.environment == environment]


def added(platform: Checkout, environment: str, before: list[change.Record]) -> list[str]:
    """The digests of the changes that came since, newest first; those before are all still there."""
    now = changes(platform, environment)
    assert now[len(now) - len(before) :] == before
    return [one.after for one in now[: len(now) - len(before)]]


def sealed(platform: Checkout) -> tuple[str, str]:
    """Where the branch and the ledger are."""
    kept = git.server_ref(platform.context.site.git, LEDGER)
    assert kept
    return platform.main(), kept


def grown(platform: Checkout, before: tuple[str, str]) -> tuple[str, str]:
    """Where they are now, which came after where they were."""
    with git.clone(platform.context.site.git, platform.branch, bare=True) as repository:
        now = repository.commit("HEAD"), repository.fetch(LEDGER)
        for was, is_ in zip(before, now, strict=True):
            assert repository.contains(was, is_), "never forced"
        told = repository.run("log", "--numstat", "--format=", f"{before[1]}..{now[1]}").splitlines()
    assert all(line.split("\t")[1] == "0" for line in told), "the ledger only grows"
    return now
