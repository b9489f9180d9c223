"""The proof finds what changed behind Git's back, and says so when it cannot know."""

from collections.abc import Iterator

import pytest

from delivery import roles
from delivery.parts import docker
from delivery.wait import Pending, Reached, until
from e2e.conftest import Build
from e2e.delivery import Checkout
from local import kind


@pytest.fixture
def restored(platform: Checkout, prod: Build) -> Iterator[None]:
    """Prod as Git asks for it, again after the test."""
    yield
    platform.delivery("promote", "prod")
    platform.delivery("verify", "prod")


@pytest.mark.usefixtures("restored")
def test_a_replica_more_than_git_asks_for_is_found(platform: Checkout, prod: Build) -> None:
    """Somebody gets another image started in prod past all locks: MISMATCH, exit 1, and the pod is named."""
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "stray",
        "image": platform.platform_image("python"),
        "command": ["sleep", "600"],
        "securityContext": restricted,
    }
    labels = {"app.kubernetes.io/name": "manual-app", "stray": "yes"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stray", "namespace": "prod", "labels": labels},
        "spec": {
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
        },
    }
    platform.apply(pod, *roles.AS_CONTROLLER)
    try:
        platform.kubectl("-n", "prod", "wait", "--for=condition=Ready", "pod/stray", "--timeout=60s")
        ran = platform.delivery("verify", "prod", expect=1)
        assert "MISMATCH" in ran.error
        assert "stray" in ran.out
    finally:
        platform.kubectl(*roles.AS_CONTROLLER, "-n", "prod", "delete", "pod", "stray", "--wait", "--now")


@pytest.mark.usefixtures("prod")
def test_a_cluster_that_does_not_answer_is_unknown(platform: Checkout) -> None:
    """The cluster cannot be read: UNKNOWN and exit 3, never PROVEN; and PROVEN again once it can."""
    client = docker.client()
    node = client.containers.get(kind.node_name(platform.cluster))
    node.pause()
    try:
        ran = platform.delivery("verify", expect=3)
        assert "UNKNOWN" in ran.error
        assert "PROVEN" not in ran.out
    finally:
        node.unpause()
        client.close()

    def proven() -> Reached[None] | Pending:
        ran = platform.delivery("verify", expect=None)
        return Pending(ran.error) if ran.code else Reached(None)

    # Controllers lost their leases and probes ran out meanwhile: the node says Ready long before its pods are.
    until("PROVEN again", proven, 180, "kubectl get pods -A")
