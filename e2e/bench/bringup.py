"""How long the cluster took to come up, by phase: read from when its own objects were made.

The bench makes no cluster. Kubernetes keeps whole seconds, so each phase is right to a second.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from delivery.errors import NotReached
from delivery.parts import docker
from e2e.bench.results import Measurement
from e2e.delivery import Checkout

# Moment -> what passes until then. They are those of `delivery up`, as the cluster itself can tell them.
PHASES = {
    "api": "the node starts, and the API server answers",
    "cluster": "kind finishes the cluster",
    "argocd": "Argo CD is applied",
    "applications": "the locks and NetworkPolicy are in place, and the Applications are there",
}
_LONGEST = 900.0  # seconds: what came later was not made by `up`


def measure(checkout: Checkout) -> Iterator[Measurement]:
    """Seconds of each phase; NotReached where an object was made anew since, so that nobody can tell any more."""
    first = checkout.environments()[0]
    made = {
        "api": _made(checkout, "namespace", "kube-system"),
        "cluster": _made(checkout, "namespace", first.namespace),
        "argocd": _made(checkout, "deployment", "argocd-repo-server", "-n", "argocd"),
        "applications": _made(checkout, "application", first.application, "-n", "argocd"),
    }
    for name, seconds in phases(_began(checkout), made).items():
        yield Measurement("Cluster up", f"up.{name}", PHASES[name], (seconds,))


def phases(began: datetime, made: dict[str, datetime]) -> dict[str, float]:
    """Seconds from each moment to the one after it; NotReached where they are in no order that `up` makes."""
    last, found = began, {}
    for name in PHASES:
        found[name] = (made[name] - last).total_seconds()
        last = max(last, made[name])
    if min(found.values()) < -1 or sum(found.values()) > _LONGEST:
        raise NotReached(
            "the cluster's objects were made anew since it came up", "delivery down, then delivery up"
        )
    return {name: max(0.0, seconds) for name, seconds in found.items()}


def _made(checkout: Checkout, *what: str) -> datetime:
    found: dict[str, Any] = checkout.get(*what)
    return datetime.fromisoformat(found["metadata"]["creationTimestamp"])


def _began(checkout: Checkout) -> datetime:
    from local import kind as kinds  # here: the tests of this module run also where scripts/local was deleted

    client = docker.client()
    try:
        created = str(client.containers.get(kinds.node_name(checkout.cluster)).attrs["Created"])
    finally:
        client.close()
    return datetime.fromisoformat(
        f"{created.partition('.')[0]}+00:00"
    )  # Docker has nanoseconds, and always UTC
