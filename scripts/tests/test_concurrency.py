"""Two at once, and runs that are killed: each change is applied once or refused, never lost, never forced.

Threads begin at one barrier. What they share is what people share: the Git server, the registry, the cluster.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from delivery.build import image
from delivery.desired import change
from delivery.errors import DeliveryError, NotReached
from delivery.parts import argocd
from delivery.parts.git import Repository
from delivery.parts.registry import connect
from delivery.pipeline import Approver
from delivery.proof.decide import Verdict
from delivery.signed import approval, entry, evidence, ledger, trail
from delivery.verbs import approve as approving
from delivery.verbs import carry
from delivery.verbs import rollback as rolling
from delivery.verbs.carry import Promotion
from scripts.tests import signing
from scripts.tests.steps import bare_promote, by, deploy, newer, prepared, proofs

if TYPE_CHECKING:
    from conftest import Shelf

    from delivery.pipeline import Environment
    from scripts.tests.fake_cluster import FakeCluster

STRATEGIES = ("manual-promotion", "release-branch")
slow = pytest.mark.slow
# 50 rounds of the races of two verbs, all together, and 50 of two writers of evidence; most are for `make e2e`.
ROUNDS = [0, *(pytest.param(number, marks=slow) for number in range(1, 5))]
both = pytest.mark.parametrize("strategy", STRATEGIES)
rounds = pytest.mark.parametrize("round_", ROUNDS)


@pytest.fixture
def cluster(cluster: FakeCluster) -> FakeCluster:
    """The cluster, with limits that two at once keep on a busy machine, and a server that notes every push."""
    waits = cluster.world.context.pipeline.waits
    limits = {"rollout": 20.0, "settle": 20.0, "argocd": 5.0}
    cluster.world = cluster.world.ruled(waits=waits.model_copy(update=limits))
    cluster.world.git(cluster.world.server, "config", "core.logAllRefUpdates", "always")
    return cluster


def at_once(*verbs: Callable[[], Any]) -> list[Any]:
    """What came of each, all begun at one moment: what it returned, or the typed error that it was refused with."""
    barrier = threading.Barrier(len(verbs))

    def run(verb: Callable[[], Any]) -> Any:
        barrier.wait(30)
        try:
            return verb()
        except DeliveryError as error:
            return error

    with ThreadPoolExecutor(len(verbs)) as pool:
        came = list(pool.map(run, verbs))
    for one in came:
        if isinstance(one, DeliveryError):
            assert one.hint
            assert one.exit_code in (1, 3), one
    return came


def rollback(cluster: FakeCluster, name: str, digest: str | None = None) -> Promotion:
    context = cluster.world.context
    return rolling.rollback(context, context.environment(name), digest)


def entered(cluster: FakeCluster, name: str) -> list[change.Record]:
    """The changes of an environment, newest first, as Git has them."""
    world = cluster.world
    with_tags = Repository(world.server)
    return [one for one in change.history(with_tags, "main") if one.environment == name]


def nothing_lost(cluster: FakeCluster) -> None:
    """Git only went forward and kept every tag, each change entered once, and all that was signed is in both places."""
    world, context = cluster.world, cluster.world.context
    server = Repository(world.server)
    assert world.git(world.server, "rev-list", "--merges", "main") == "", "history is linear"
    for log in (world.server / "logs/refs").rglob("*"):
        if log.is_file():
            pushes = [line.split(" ", 2)[:2] for line in log.read_text().splitlines()]
            if "tags" in log.parts:
                assert len(pushes) == 1, f"{log.name} was moved"
            for before, after in pushes[1:]:
                assert server.contains(before, after), f"{log.name} was forced"
    for line in world.git(world.server, "log", "--numstat", "--format=", ledger.BRANCH).splitlines():
        assert line.split("\t")[1:2] in ([], ["0"]), f"the ledger lost {line}"
    for environment in context.environments:
        told = entered(cluster, environment.name)
        for one, below in pairwise(told):
            assert (one.after, one.release) != (below.after, below.release), "the same entered twice"
        for digest in {one.after for one in told}:
            with connect(context.site.image) as registry:
                there = evidence.fetch(context, registry, digest, environment)
            assert set(ledger.recorded(context, digest, environment)) == there.hashes
    found = trail.read(context, context.environments)
    assert found.missing == ()
    guarded = {one.name for one in context.environments if one.guarded}
    for line in found.lines:
        assert line.record.environment not in guarded or line.state is trail.State.VERIFIED, line.held


def proven(cluster: FakeCluster, name: str) -> None:
    found = proofs(cluster)[name]
    assert found.verdict is Verdict.PROVEN, found.reasons


def ready(cluster: FakeCluster, shelf: Shelf, strategy: str) -> image.Built:
    """Stage runs build 15, and all that the gate asks for is there to let 16 in."""
    by(cluster, strategy)
    deploy(cluster)
    prepared(cluster, "stage")
    bare_promote(cluster, "stage")
    found = newer(cluster, shelf)
    deploy(cluster)
    prepared(cluster, "stage")
    return found


@both
@rounds
def test_two_promotions_of_one_release(
    cluster: FakeCluster, built: image.Built, strategy: str, round_: int
) -> None:
    """Two people promote the same at once: it enters once, and who was later finds it there or is refused."""
    by(cluster, strategy)
    deploy(cluster)
    prepared(cluster, "stage")
    came = at_once(*[lambda: bare_promote(cluster, "stage")] * 2)
    assert any(isinstance(one, Promotion) for one in came), came
    assert [one.after for one in entered(cluster, "stage")] == [built.digest]
    nothing_lost(cluster)
    proven(cluster, "stage")


@rounds
def test_two_promotions_of_two_versions(cluster: FakeCluster, built: image.Built, round_: int) -> None:
    """Two people call the same release of prod v1.0 and v2.0: no tag is moved, and prod stands on the newest."""
    by(cluster, "release-branch")
    deploy(cluster)
    for name in ("stage", "prod"):
        prepared(cluster, name)
        if name == "stage":
            bare_promote(cluster, name)
    came = at_once(*(lambda v=v: bare_promote(cluster, "prod", version=v) for v in ("v1.0", "v2.0")))
    assert any(isinstance(one, Promotion) for one in came), came
    tags = [one.tag for one in entered(cluster, "prod")]
    assert sorted(tags) in (["v1.0"], ["v2.0"], ["v1.0", "v2.0"])
    again = bare_promote(cluster, "prod")
    assert (again.new, again.tag) == (False, tags[0])
    proven(cluster, "prod")
    assert all(line.state is not trail.State.BROKEN for line in lines(cluster))


def lines(cluster: FakeCluster) -> Iterable[trail.Line]:
    context = cluster.world.context
    return trail.read(context, context.environments).lines


@both
@rounds
def test_ci_deploys_while_a_person_promotes(
    cluster: FakeCluster, built: image.Built, shelf: Shelf, strategy: str, round_: int
) -> None:
    """Build 16 comes into dev while 15 is promoted: 16 is there, and 15 entered whole or was refused whole."""
    by(cluster, strategy)
    deploy(cluster)
    prepared(cluster, "stage")
    second = newer(cluster, shelf)
    came = at_once(lambda: deploy(cluster), lambda: bare_promote(cluster, "stage"))
    assert isinstance(came[0], Promotion), came
    assert [one.after for one in entered(cluster, "dev")] == [second.digest, built.digest]
    inside = [built.digest] if isinstance(came[1], Promotion) else []
    assert [one.after for one in entered(cluster, "stage")] == inside, came
    nothing_lost(cluster)
    proven(cluster, "dev")
    if inside:
        proven(cluster, "stage")


@both
@rounds
def test_a_promotion_and_a_rollback(
    cluster: FakeCluster, built: image.Built, shelf: Shelf, strategy: str, round_: int
) -> None:
    """16 enters stage while it is rolled back to 15, which it runs: 15 never gets lost, and the newest word holds."""
    second = ready(cluster, shelf, strategy)
    bare_promote(cluster, "stage")
    third = newer(cluster, shelf, "17")
    deploy(cluster)
    prepared(cluster, "stage")
    came = at_once(lambda: bare_promote(cluster, "stage"), lambda: rollback(cluster, "stage"))
    assert any(isinstance(one, Promotion) for one in came), came
    told = [one.after for one in entered(cluster, "stage")]
    assert told[-2:] == [second.digest, built.digest]
    # What was meant is what ran before 16: also where 17 came in between.
    assert told[:-2] in (
        [third.digest],
        [built.digest],
        [third.digest, built.digest],
        [built.digest, third.digest],
    )
    if told[0] == third.digest:
        assert not bare_promote(cluster, "stage").new
    else:
        assert not rollback(cluster, "stage", built.digest).new
    nothing_lost(cluster)
    proven(cluster, "stage")


@both
@rounds
def test_two_rollbacks(
    cluster: FakeCluster, built: image.Built, shelf: Shelf, strategy: str, round_: int
) -> None:
    """Two people roll back at once: it goes back one step, once. The second does not bring the bad release again."""
    second = ready(cluster, shelf, strategy)
    bare_promote(cluster, "stage")
    came = at_once(*[lambda: rollback(cluster, "stage")] * 2)
    assert any(isinstance(one, Promotion) for one in came), came
    told = [one.after for one in entered(cluster, "stage")]
    assert told == [built.digest, second.digest, built.digest]
    nothing_lost(cluster)
    proven(cluster, "stage")


def test_two_writers_of_evidence(cluster: FakeCluster, built: image.Built) -> None:
    """Two runs of dev's tests and one of stage's end at one moment: every result is in the registry and on record."""
    evidence_rounds(cluster, built, 2)


@slow
@pytest.mark.parametrize("ten", range(5))
def test_two_writers_of_evidence_again_and_again(cluster: FakeCluster, built: image.Built, ten: int) -> None:
    """The same, ten times about one digest, for five of them: what is attached is read whole each time."""
    evidence_rounds(cluster, built, 10)


def evidence_rounds(cluster: FakeCluster, built: image.Built, many: int) -> None:
    world, context = cluster.world, cluster.world.context
    dev, stage = (context.environment(name) for name in ("dev", "stage"))
    deploy(cluster)
    said = {one.name: world.result(one) for one in (dev, stage)}

    def test(environment: Environment, run: str) -> None:
        evidence.put(context, built.digest, environment, said[environment.name] | {"run of the test": run})

    for number in range(1, many + 1):
        came = at_once(
            *(
                lambda one=one, run=f"{number}, {who}": test(one, run)
                for one, who in ((dev, "CI"), (dev, "Ann"), (stage, "Ben"))
            )
        )
        assert came == [None] * 3
        for environment, expected in ((dev, 2 * number), (stage, number)):
            with connect(context.site.image) as registry:
                there = evidence.fetch(context, registry, built.digest, environment).hashes
            assert set(ledger.recorded(context, built.digest, environment)) == there
            assert len(there) == expected
    nothing_lost(cluster)


@pytest.mark.parametrize("many", [1, pytest.param(4, marks=slow)])
def test_two_approvers(cluster: FakeCluster, built: image.Built, many: int) -> None:
    """Two people approve at one moment: both signatures are there and count, and one of them lets it into prod."""
    world = cluster.world
    keys = world.context.site.state / "keys"
    signing.generate(keys / "second", "the password of second")
    (keys / "second.password").write_text("the password of second")
    for file in keys.glob("second.*"):
        file.chmod(0o600)
    mine = world.context.site.signer("approver")
    hers = {name: getattr(mine, name).with_name(f"second{getattr(mine, name).suffix}") for name in FILES}
    signers = dict(world.context.site.signers) | {"second": mine.model_copy(update=hers)}
    people = (
        Approver(name="approver", identity="one@example.test"),
        Approver(name="second", identity="two@example.test"),
    )
    cluster.world = world = world.on(signers=signers).ruled(approvers=people)
    deploy(cluster)
    prepared(cluster, "stage")
    bare_promote(cluster, "stage")
    context = world.context
    prod, stage = context.environment("prod"), context.environment("stage")
    for number in range(1, many + 1):
        world.prove(stage, built.digest, at=pinned(cluster, stage))  # which voids the approvals before
        came = at_once(*(lambda name=one.name: approving.run(context, prod, name) for one in people))
        assert [one.new for one in came] == [True, True], came
        with connect(context.site.image) as registry:
            given = approval.fetch(context, registry, built.digest, [one.name for one in people]).approvals
        assert sorted(one.signer for one in given) == ["approver"] * number + ["second"] * number
    assert bare_promote(cluster, "prod").digest == built.digest
    [record] = entered(cluster, "prod")
    assert record.approved_by == "one@example.test, two@example.test"
    nothing_lost(cluster)
    proven(cluster, "prod")


FILES = ("key", "password_file", "public")


def pinned(cluster: FakeCluster, environment: Environment) -> str:
    revision: str = cluster.applications[environment.application]["status"]["sync"]["revision"]
    return revision


@both
def test_a_slow_run_does_not_undo_a_newer_one(
    cluster: FakeCluster, built: image.Built, shelf: Shelf, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """My laptop sleeps just before it pins 15, and 16 enters meanwhile: mine is refused, and stage keeps 16."""
    by(cluster, strategy)
    deploy(cluster)
    prepared(cluster, "stage")
    patch, asleep = argocd.ArgoCD._patch, [True]
    entering: list[image.Built] = []

    def sleepy(self: argocd.ArgoCD, name: str, body: dict[str, Any]) -> None:
        if "spec" in body and asleep and asleep.pop():
            entering.append(newer(cluster, shelf))
            deploy(cluster)
            prepared(cluster, "stage")
            assert bare_promote(cluster, "stage").new
        patch(self, name, body)

    monkeypatch.setattr(argocd.ArgoCD, "_patch", sleepy)
    with pytest.raises(NotReached, match="something newer entered stage"):
        bare_promote(cluster, "stage")
    assert [one.after for one in entered(cluster, "stage")] == [entering[0].digest, built.digest]
    nothing_lost(cluster)
    proven(cluster, "stage")


def test_the_ledger_grows_while_it_is_read(
    cluster: FakeCluster, built: image.Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody adds to the ledger between my look at its name and my fetch of it: I read the newest of it."""
    context = cluster.world.context
    dev = context.environment("dev")
    ledger.record(context, built.digest, dev, "1" * 64)
    retrying, first = Repository._retrying, [True]

    def overtaken(self: Repository, *arguments: str) -> None:
        if "--depth=1" in arguments and first and first.pop():
            ledger.record(context, built.digest, dev, "2" * 64)
        retrying(self, *arguments)

    monkeypatch.setattr(Repository, "_retrying", overtaken)
    assert ledger.recorded(context, built.digest, dev) == ("1" * 64, "2" * 64)


# Where a run is killed: what it does not do any more.
KILLED = {
    "before the entry": (entry, "put"),
    "before the ledger": (ledger, "keep"),
    "before the pin": (argocd.ArgoCD, "pin"),
    "before the pods": (carry.rollout, "rolled_out"),
    "before it settled": (argocd.ArgoCD, "settled"),
}
killed = pytest.mark.parametrize("step", KILLED)
# What undoes it meets two states of the environment: not pinned yet, or pinned. The rest is for `make e2e`.
TOLD = [
    one if one in ("before the pin", "before the pods") else pytest.param(one, marks=slow) for one in KILLED
]
then = pytest.mark.parametrize("step", TOLD)


def kill(monkeypatch: pytest.MonkeyPatch, step: str, verb: Callable[[], object]) -> None:
    """Run a verb that is killed at that step, as by Ctrl-C or a CI system that gives up."""

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*KILLED[step], die)
        with pytest.raises(KeyboardInterrupt):
            verb()


@both
@killed
def test_a_killed_promotion_is_finished(
    cluster: FakeCluster, built: image.Built, monkeypatch: pytest.MonkeyPatch, strategy: str, step: str
) -> None:
    """The next run makes no change more, signs and pins what lacks, and the end is PROVEN, with one entry."""
    by(cluster, strategy)
    deploy(cluster)
    prepared(cluster, "stage")
    kill(monkeypatch, step, lambda: bare_promote(cluster, "stage"))
    before = [one.commit for one in entered(cluster, "stage")]
    assert len(before) == 1
    done = bare_promote(cluster, "stage")
    assert (done.new, [done.commit]) == (False, before)
    assert before == [one.commit for one in entered(cluster, "stage")]
    assert entries(cluster, built.digest) == before
    nothing_lost(cluster)
    proven(cluster, "stage")


@both
def test_a_killed_promotion_is_finished_after_another_test(
    cluster: FakeCluster, built: image.Built, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """CI begins anew after the kill: it tests and asks for approval again, and the history of prod is not BROKEN."""
    by(cluster, strategy)
    deploy(cluster)
    prepared(cluster, "stage")
    bare_promote(cluster, "stage")
    prepared(cluster, "prod")
    kill(monkeypatch, "before the entry", lambda: bare_promote(cluster, "prod"))
    prepared(cluster, "prod")
    assert not bare_promote(cluster, "prod").new
    assert len(entered(cluster, "prod")) == 1
    nothing_lost(cluster)
    proven(cluster, "prod")


def entries(cluster: FakeCluster, digest: str) -> list[str]:
    """The changes that the entries of a digest into stage name."""
    context = cluster.world.context
    with connect(context.site.image) as registry:
        found = entry.fetch(context, registry, digest, context.environment("stage"))
    return [one.release.change for one in found.entries]


@both
@then
def test_a_killed_promotion_is_undone(
    cluster: FakeCluster,
    built: image.Built,
    shelf: Shelf,
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
    step: str,
) -> None:
    """Who rather rolls back after it gets what ran before, PROVEN, by one change more."""
    second = ready(cluster, shelf, strategy)
    kill(monkeypatch, step, lambda: bare_promote(cluster, "stage"))
    back = rollback(cluster, "stage")
    assert (back.new, back.digest) == (True, built.digest)
    assert [one.after for one in entered(cluster, "stage")] == [built.digest, second.digest, built.digest]
    proven(cluster, "stage")


@both
@then
def test_a_killed_rollback_is_finished(
    cluster: FakeCluster,
    built: image.Built,
    shelf: Shelf,
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
    step: str,
) -> None:
    """The same rollback again goes on with it. Until it is pinned, to go back again would bring the bad release."""
    second = ready(cluster, shelf, strategy)
    bare_promote(cluster, "stage")
    kill(monkeypatch, step, lambda: rollback(cluster, "stage"))
    named = step in ("before the pods", "before it settled")  # it is pinned: who goes back now says to what
    done = rollback(cluster, "stage", built.digest if named else None)
    assert (done.new, done.digest) == (False, built.digest)
    assert [one.after for one in entered(cluster, "stage")] == [built.digest, second.digest, built.digest]
    nothing_lost(cluster)
    proven(cluster, "stage")
