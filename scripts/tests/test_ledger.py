"""The ledger: what was once on record stays there, whoever else writes at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from delivery.errors import NotReached
from delivery.parts import git
from delivery.signed import ledger

if TYPE_CHECKING:
    from scripts.tests.world import World

DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
ONE, TWO = "1" * 64, "2" * 64


def test_it_grows(world: World) -> None:
    """Each test result is added once, for its digest and environment, in commits beside main."""
    context = world.context
    dev, stage = context.environment("dev"), context.environment("stage")
    assert ledger.recorded(context, DIGEST, dev) == ()
    main = world.head()
    for digest, environment, hash_ in (
        (DIGEST, dev, ONE),
        (DIGEST, dev, TWO),
        (DIGEST, dev, ONE),
        (OTHER, stage, ONE),
    ):
        ledger.record(context, digest, environment, hash_)
    assert ledger.recorded(context, DIGEST, dev) == (ONE, TWO)
    assert ledger.recorded(context, DIGEST, stage) == ()
    assert ledger.recorded(context, OTHER, stage) == (ONE,)
    assert world.head() == main
    commits = world.git(world.server, "log", "--format=%s", ledger.BRANCH).splitlines()
    assert len(commits) == 3


def test_writers_at_once_lose_nothing(world: World) -> None:
    """Two environments are tested at the same time: both results are on record."""
    context = world.context
    hashes = [f"{number:064x}" for number in range(4)]
    environments = [context.environment(name) for name in ("dev", "stage", "prod", "dev")]
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(lambda one: ledger.record(context, DIGEST, *one), zip(environments, hashes, strict=True))
        )
    found = {
        one
        for name in ("dev", "stage", "prod")
        for one in ledger.recorded(context, DIGEST, context.environment(name))
    }
    assert found == set(hashes)


def test_it_gives_up_within_bounds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is always faster: it is said that the test is not on record, and what to do."""

    def rejected(*_: object) -> None:
        raise git.PushRejected("moved", "again")

    monkeypatch.setattr(git.Repository, "push", rejected)
    with pytest.raises(NotReached, match="not on record") as refused:
        ledger.record(world.context, DIGEST, world.context.environment("dev"), ONE)
    assert refused.value.hint == "test again"


def test_a_server_that_is_away(world: World) -> None:
    """The Git server does not answer: an error of ours, not an empty ledger."""
    server = world.context.site.git.model_copy(update={"url": str(world.server.with_name("nowhere"))})
    context = replace(world.context, site=world.context.site.model_copy(update={"git": server}))
    with pytest.raises(git.ServerUnreachable):
        ledger.recorded(context, DIGEST, context.environment("dev"))
