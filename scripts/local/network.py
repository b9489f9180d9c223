"""The cluster's network: what keeps pods apart by the NetworkPolicies, waited for and looked at."""

from pytest_kind import KindCluster

from delivery.errors import PlatformError
from local import install

# kind's own node image has the first, the one that is built here the second.
ENFORCERS = ("daemonset/kindnet", "daemonset/kube-network-policies")
READY_LIMIT = 120
_NAMESPACE = "kube-system"


def wait(kind: KindCluster) -> None:
    """Return when NetworkPolicy is enforced on every node; PlatformError when it is not after READY_LIMIT seconds."""
    _ready(kind, READY_LIMIT)


def seen(kind: KindCluster) -> str:
    """What enforces NetworkPolicy; PlatformError when nothing does, or not on every node."""
    return f"{_ready(kind, 2)} enforces NetworkPolicy"


def _ready(kind: KindCluster, seconds: int) -> str:
    found = install.kubectl(kind, "-n", _NAMESPACE, "get", *ENFORCERS, "--ignore-not-found", "-o", "name")
    if not found.strip():
        raise PlatformError(
            "nothing in the cluster enforces NetworkPolicy",
            "make it anew, without its data: delivery down, then delivery up",
        )
    name = found.split()[0].rpartition("/")[2]
    what = ("-n", _NAMESPACE, "rollout", "status", f"daemonset/{name}", f"--timeout={seconds}s")
    try:
        install.kubectl(kind, *what)
    except PlatformError as error:
        hint = f"see why: kubectl -n {_NAMESPACE} logs daemonset/{name}"
        raise PlatformError(
            f"{name}, which enforces NetworkPolicy, is not ready: {error.message}", hint
        ) from None
    return name
