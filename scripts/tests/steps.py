"""What a team does with its pipeline, in few words: deploy, test, approve, promote; and what must never come of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from delivery.build import image, provenance
from delivery.desired import manifests as desired
from delivery.errors import DeliveryError
from delivery.parts import helm
from delivery.parts.git import Repository
from delivery.proof import decide as proof
from delivery.proof import observe
from delivery.signed import ledger, statements
from delivery.verbs import approve as approving
from delivery.verbs import deploy as deploying
from delivery.verbs import promote as promoting
from delivery.verbs.carry import Promotion
from scripts.tests.fake_cluster import FakeCluster, answering, connect

if TYPE_CHECKING:
    from conftest import Shelf

    from scripts.tests.world import World


@pytest.fixture(scope="session")
def rendered() -> dict[str, str]:
    """What Helm rendered before: hash of all that goes in -> manifests."""
    return {}


@pytest.fixture
def helm_once(rendered: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Helm renders the same chart with the same values once in a session; each test asks for it a dozen times."""
    template = helm.template

    def remembered(chart: Path, values: Path, *rest: Any) -> list[dict[str, Any]]:
        told = hashlib.sha256(repr([values.name, *rest]).encode() + values.read_bytes())
        for file in sorted(path for path in chart.rglob("*") if path.is_file()):
            told.update(f"\0{file.relative_to(chart)}\0".encode() + file.read_bytes())
        key = told.hexdigest()
        if key not in rendered:
            rendered[key] = json.dumps(template(chart, values, *rest))
        return list(json.loads(rendered[key]))

    monkeypatch.setattr(helm, "template", remembered)


@pytest.fixture
def cluster(stocked: World, helm_once: None) -> Iterator[FakeCluster]:
    """A cluster that is up, with short limits."""
    waits = stocked.context.pipeline.waits
    world = stocked.ruled(waits=waits.model_copy(update={"rollout": 1.0, "settle": 1.0, "argocd": 2.0}))
    played = FakeCluster(world)
    with answering(played) as url:
        connect(world, url)
        yield played


@pytest.fixture
def built(cluster: FakeCluster, shelf: Shelf) -> image.Built:
    """Build 15 of the checkout's commit, in the registry."""
    return put(cluster, shelf, "15")


def put(cluster: FakeCluster, shelf: Shelf, build: str) -> image.Built:
    revision = image.source(cluster.world.context, Repository(cluster.world.checkout))
    cluster.revisions[build] = revision
    digest = shelf.push(build, revision, revision, build)
    originate(cluster, digest, revision)
    return image.Built(digest, build, "1.2.3", revision)


def originate(cluster: FakeCluster, digest: str, revision: str) -> None:
    """State that our build made a digest, as `delivery build` does."""
    context = cluster.world.context
    made = provenance.provenance(context, revision, {}, {}, "", "")
    statements.put(context, digest, statements.PROVENANCE, made, "build")


def deploy(cluster: FakeCluster, digest: str | None = None) -> Promotion:
    return deploying.deploy(cluster.world.context, digest)


def promote(cluster: FakeCluster, name: str, **options: Any) -> Promotion:
    """Promote once everything is there that the gate asks for."""
    prepare(cluster, name)
    return bare_promote(cluster, name, **options)


def bare_promote(cluster: FakeCluster, name: str, **options: Any) -> Promotion:
    """Promote, whatever the gate will say."""
    context = cluster.world.context
    return promoting.promote(context, context.environment(name), **options)


def prepare(cluster: FakeCluster, name: str) -> None:
    """PASSED evidence of the environment before, and an approval where one is asked for."""
    world = cluster.world
    target = world.context.environment(name)
    if target.source is None:
        return
    source = world.context.environment(target.source)
    try:
        _, digest = desired.named(world.file(source.values), source.values)
    except desired.NothingYet:
        return
    world.prove(source, digest)
    if target.approval:
        approving.run(world.context, target, None)


def by(cluster: FakeCluster, strategy: str) -> FakeCluster:
    """The same cluster, changed over."""
    cluster.world = cluster.world.ruled(strategy=strategy)
    return cluster


def prepared(cluster: FakeCluster, name: str) -> None:
    """The environment before has PASSED evidence about what it runs, and an approval where one is asked for."""
    world = cluster.world
    target = world.context.environment(name)
    source = world.context.environment(target.source or "")
    commit = cluster.applications[source.application]["status"]["sync"]["revision"]
    _, digest = desired.named(world.file(source.values, commit), source.values)
    world.prove(source, digest, at=commit)
    if target.approval:
        approving.run(world.context, target, None)


def newer(cluster: FakeCluster, shelf: Shelf, build: str = "16") -> image.Built:
    """The next build, of a commit on top of main."""
    world = cluster.world
    world.git(world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    world.commit(world.checkout, "manual-app/app.py", f"{build}\n", f"source of {build}")
    return put(cluster, shelf, build)


def refs(world: World) -> dict[str, str]:
    """Every branch and tag that the server has, but for the ledger."""
    said = world.git(world.server, "for-each-ref", "--format=%(refname) %(objectname)")
    found = dict(line.split(" ") for line in said.splitlines())
    return {ref: one for ref, one in found.items() if not ref.endswith(ledger.BRANCH)}


def proofs(cluster: FakeCluster) -> dict[str, proof.Proof]:
    context = cluster.world.context
    return {one.facts.environment: one for one in observe.proofs(context, context.environments)}


def refused(
    cluster: FakeCluster, kind: type[DeliveryError], says: str, ask: Callable[[], object]
) -> DeliveryError:
    """It is refused with that reason and a hint; Git and every pod are as before."""
    before = (cluster.world.head(), json.dumps(cluster.pods), len(cluster.operations))
    with pytest.raises(kind, match=says) as error:
        ask()
    assert error.value.hint
    assert (cluster.world.head(), json.dumps(cluster.pods), len(cluster.operations)) == before
    return error.value
