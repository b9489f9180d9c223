"""Which cluster is asked: the one that the site's context leads to, the same as last time, and no other."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from delivery.errors import BadInput, PlatformError
from delivery.parts import kubernetes as part
from delivery.parts.kubernetes import ClusterMissing, Denied, Kubernetes
from delivery.proof import observe
from delivery.proof.decide import Verdict
from delivery.site import Place
from scripts.tests.fake_cluster import CONTEXT, FakeCluster, answering, connect

if TYPE_CHECKING:
    from scripts.tests.world import World


@pytest.fixture
def away(world: World) -> Iterator[FakeCluster]:
    """A cluster that answers, for a world that has nothing else."""
    played = FakeCluster(world)
    with answering(played) as url:
        connect(world, url)
        yield played


def opened(world: World, environment: str = "dev") -> Kubernetes:
    return Kubernetes(world.context.site, environment)


def platforms(world: World) -> frozenset[str]:
    """Ask it something."""
    kubernetes = opened(world)
    try:
        return kubernetes.platforms()
    finally:
        kubernetes.close()


def test_the_same_cluster_is_asked_again(world: World, away: FakeCluster) -> None:
    """What is remembered of it is its identity, in a file that only its owner reads."""
    assert platforms(world) == platforms(world) == {"linux/amd64"}
    file = world.context.site.state / "clusters.json"
    assert json.loads(file.read_text()) == {CONTEXT: away.uid}
    assert file.stat().st_mode & 0o777 == 0o600


def test_another_cluster_behind_the_same_context(world: World, away: FakeCluster) -> None:
    """The context leads to another cluster than last time: exit 4, and not one more question is asked of it."""
    platforms(world)
    away.uid = "6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b"
    away.asked.clear()
    with pytest.raises(
        ClusterMissing, match=f"context {CONTEXT} of site team leads to another cluster"
    ) as refused:
        platforms(world)
    assert refused.value.exit_code == 4
    assert away.asked == ["/api/v1/namespaces/kube-system"]
    file = world.context.site.state / "clusters.json"
    assert refused.value.hint.endswith(f"rm {file}")
    file.unlink()
    assert platforms(world) == {"linux/amd64"}, "what the hint says helps"


def test_nothing_is_proven_of_another_cluster(world: World, away: FakeCluster) -> None:
    """verify calls it UNKNOWN with that reason, whatever runs there."""
    platforms(world)
    away.uid = "6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b"
    for found in observe.proofs(world.context, world.context.environments):
        assert found.verdict is Verdict.UNKNOWN
        assert any("leads to another cluster than last time" in one for one in found.unknowns)


def test_somebody_who_may_not_look_at_kube_system(world: World, away: FakeCluster) -> None:
    """Then the server's address and authority are what is remembered: another address is another cluster."""
    away.denied = {"kube-system"}
    assert platforms(world) == {"linux/amd64"}
    with answering(FakeCluster(world)) as elsewhere:
        connect(world, elsewhere)
        with pytest.raises(ClusterMissing, match="another cluster than last time"):
            platforms(world)


def test_somebody_who_may_not_look_at_nodes(world: World, away: FakeCluster) -> None:
    """A user with rights in a few namespaces only: the platforms are not known, and that is no error."""
    away.denied = {"nodes"}
    assert platforms(world) == frozenset()
    away.denied = {"pods"}
    kubernetes = opened(world)
    with pytest.raises(Denied, match="403 pods is forbidden"):
        kubernetes.pods("dev")
    kubernetes.close()


def test_one_that_does_not_answer_is_only_unknown(world: World) -> None:
    """The API server is away: each environment is UNKNOWN, in seconds; to close what was never open asks nobody."""
    connect(world, "http://127.0.0.1:1")
    for found in observe.proofs(world.context, world.context.environments):
        assert found.verdict is Verdict.UNKNOWN
        assert any("does not answer" in one for one in found.unknowns)
    opened(world).close()


def test_one_that_lets_questions_time_out_is_asked_one_thing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server hangs: each environment is UNKNOWN after one time limit, not after one for each question."""
    monkeypatch.setattr(part, "SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.01)
        connect(world, f"http://127.0.0.1:{server.getsockname()[1]}")
        for found in observe.proofs(world.context, world.context.environments):
            assert found.verdict is Verdict.UNKNOWN
            assert any("does not answer" in one for one in found.unknowns)
        asked = []
        with suppress(TimeoutError):
            while True:
                asked.append(server.accept()[0])
        for one in asked:
            one.close()
    assert 0 < len(asked) <= len(world.context.environments)


def elsewhere(world: World) -> World:
    """A kubeconfig that has another context than the site names."""
    connect(world, "https://127.0.0.1:6443", "somebody-else")
    return world


def nowhere(world: World) -> World:
    """No context for any environment."""
    return world.on(environments={"dev": Place(url="http://dev.example")})


def remote(world: World) -> World:
    """A site that `delivery up` made, whose context leads away from this machine."""
    connect(world, "https://prod.example.com:6443")
    return world.on(made_here=True)


def garbage(world: World) -> World:
    """A kubeconfig that is half a file."""
    file = world.context.site.kubeconfig
    assert file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("half: [")
    return world


def pod(world: World) -> World:
    """dev is said to be the cluster around this pod."""
    return world.on(environments={"dev": Place(in_cluster=True)})


@pytest.mark.parametrize(
    ("wrong", "kind", "says", "hint"),
    [
        (
            elsewhere,
            ClusterMissing,
            f"no usable context {CONTEXT}",
            "see environments of team in pipeline.yaml",
        ),
        (
            lambda world: world,
            ClusterMissing,
            "kubeconfig is missing",
            "see kubeconfig of team in pipeline.yaml",
        ),
        (garbage, ClusterMissing, "no usable context", "see environments of team in pipeline.yaml"),
        (remote, ClusterMissing, "not this machine: not touching it", "delivery up"),
        (nowhere, BadInput, "site team names no cluster for dev", "in_cluster: true"),
        (pod, ClusterMissing, "this is no pod of a cluster", "name a context instead of in_cluster"),
    ],
)
def test_no_cluster_that_could_be_asked(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    wrong: Callable[[World], World],
    kind: type[PlatformError],
    says: str,
    hint: str,
) -> None:
    """Whatever the user's current context is: a site that leads nowhere is told, and nobody is asked anything."""
    monkeypatch.setattr(part, "ApiClient", lambda *arguments: pytest.fail("somebody was asked"))
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(kind, match=says) as refused:
        opened(wrong(world))
    assert hint in refused.value.hint


def test_another_machine_may_be_asked_by_a_teams_site(world: World) -> None:
    """Only what `delivery up` made must be on this machine."""
    connect(world, "https://prod.example.com:6443")
    opened(world).close()
