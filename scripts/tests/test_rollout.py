"""A rollout takes its time: Argo CD says Progressing, two generations of pods serve, and the verbs wait for the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery.build import image
from delivery.errors import NotReached, PlatformError
from delivery.proof.decide import Verdict
from delivery.verbs import promote as promoting
from delivery.verbs import rollout
from scripts.tests.fake_cluster import LABEL, FakeCluster, part
from scripts.tests.steps import deploy, promote, proofs, put, refused

if TYPE_CHECKING:
    from conftest import Shelf


def another(cluster: FakeCluster, shelf: Shelf) -> image.Built:
    """A newer commit of the app, built as 16."""
    world = cluster.world
    world.git(world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    world.commit(world.checkout, "manual-app/app.py", "2\n", "two")
    return put(cluster, shelf, "16")


def test_every_phase_is_waited_for(
    cluster: FakeCluster, built: image.Built, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second build: nothing is called done while old pods serve, new ones start, or Argo CD is not settled."""
    deploy(cluster)
    newer = another(cluster, shelf)
    cluster.seen.clear()
    looked = rollout.rollout
    seen: list[str] = []

    def watched(*arguments: object) -> object:
        said = looked(*arguments)  # type: ignore[arg-type]
        seen.append(getattr(said, "seen", "reached"))
        return said

    monkeypatch.setattr(rollout, "rollout", watched)
    done = deploy(cluster)
    assert done.digest == newer.digest
    assert cluster.seen == ["dev compares", "dev starts", "dev is settled"]
    assert seen[0] == "0 of 1 replicas run it and are Ready, 2 others (ContainerCreating)"
    assert seen[-1] == "reached"
    assert [pod["metadata"]["name"] for pod in cluster.pods["dev"]] == ["manual-app-16-0"]


def test_what_is_waited_for_is_shown(
    cluster: FakeCluster, built: image.Built, shelf: Shelf, details: dict[str, list[str]]
) -> None:
    """While pods and Argo CD are waited for, the phases say what there is so far."""
    deploy(cluster)
    newer = another(cluster, shelf)
    details.clear()
    done = deploy(cluster)
    first = details[f"All replicas in dev run {newer.digest[:19]}"][0]
    assert first.startswith("0 of 1 replicas run it and are Ready, 2 others (ContainerCreating)")
    assert details[f"Argo CD has seen {done.commit[:12]} for dev"][0].startswith("Synced/Healthy at ")
    assert details["manual-app-dev is Synced and Healthy"][0].startswith("OutOfSync/Progressing at ")


def test_nothing_is_proven_in_the_middle(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """Whoever looks while a rollout is on its way never reads PROVEN: before the end it is not true."""
    deploy(cluster)
    promote(cluster, "stage")
    another(cluster, shelf)
    cluster.starts_ready = False
    with pytest.raises(NotReached, match=r"last seen: 0 of 1 replicas run it and are Ready, 2 others"):
        deploy(cluster)
    found = proofs(cluster)
    assert found["dev"].verdict is not Verdict.PROVEN
    assert any("calls it Progressing" in one or "still syncing" in one for one in found["dev"].unknowns)
    assert found["stage"].verdict is Verdict.PROVEN, "stage has its own time"
    cluster.starts_ready = True
    cluster.deploy(cluster.world.context.environment("dev"), cluster.world.head())
    assert proofs(cluster)["dev"].verdict is Verdict.PROVEN


def test_old_pods_that_stay(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """New pods are Ready and an old one goes on serving: it is not rolled out, and the wait says so."""
    deploy(cluster)
    another(cluster, shelf)
    cluster.old_stay = True
    with pytest.raises(NotReached, match=r"not within 1 s; last seen: 1 of 1 replicas .* 1 others"):
        deploy(cluster)


def test_argo_cd_that_does_not_settle(cluster: FakeCluster, built: image.Built) -> None:
    """All pods run it and Argo CD goes on calling it Progressing: not done, and the wait says what it saw."""
    cluster.settles = False
    with pytest.raises(NotReached, match=r"is Synced and Healthy: not within 1 s; last seen: .*Progressing"):
        deploy(cluster)


@pytest.mark.parametrize("name", ["application-controller", "repo-server"])
@pytest.mark.parametrize("gone", [True, False], ids=["gone", "not ready"])
def test_argo_cd_that_does_not_run(cluster: FakeCluster, built: image.Built, name: str, gone: bool) -> None:
    """What nobody would act on is not asked for: exit 4 before anything is written, and nothing is PROVEN meanwhile."""
    deploy(cluster)
    pods = list(cluster.argocd)
    others = [one for one in pods if not one["metadata"]["labels"][LABEL].endswith(name)]
    cluster.argocd = others if gone else [*others, part(name, "False")]
    says = f"Argo CD's {name} does not run: it sees and changes nothing"
    error = refused(cluster, PlatformError, says, lambda: deploy(cluster))
    assert error.exit_code == 4
    refused(cluster, PlatformError, says, lambda: promote(cluster, "stage"))
    context = cluster.world.context
    refused(cluster, PlatformError, says, lambda: promoting.preview(context, context.environment("stage")))
    found = proofs(cluster)
    assert all(one.verdict is not Verdict.PROVEN for one in found.values())
    assert found["dev"].reasons == (says,)
    cluster.argocd = pods
    assert promote(cluster, "stage").new
