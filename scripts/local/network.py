"""The cluster's network: what keeps pods apart by the NetworkPolicies, and what answers for names."""

from pytest_kind import KindCluster

from delivery.errors import PlatformError
from local import install

# kind's own node image has the first, the one that is built here the second.
ENFORCERS = ("daemonset/kindnet", "daemonset/kube-network-policies")
READY_LIMIT = 120
_NAMESPACE = "kube-system"
_DNS = "deployment/coredns"
# kubeadm asks for two, and looks every 10 s whether they answer: the first look is always too early. Whoever asks for
# a name meanwhile, Argo CD for one, waits 5 s before it asks again.
_ONE_SOON = """
spec:
  replicas: 1
  template:
    spec:
      containers:
        - name: coredns
          readinessProbe:
            periodSeconds: 1
            failureThreshold: 30
"""


def name_soon(kind: KindCluster) -> None:
    """Have one CoreDNS for the one node, Ready as soon as it answers. Changes nothing where that was said before."""
    install.kubectl(kind, "-n", _NAMESPACE, "patch", _DNS, "--patch", _ONE_SOON)


def wait(kind: KindCluster) -> None:
    """Return when NetworkPolicy is enforced on every node and names are answered for.

    PlatformError when they are not after READY_LIMIT seconds.
    """
    _ready(kind, READY_LIMIT)
    _rolled_out(kind, _DNS, READY_LIMIT)


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
    try:
        _rolled_out(kind, f"daemonset/{name}", seconds)
    except PlatformError as error:
        hint = f"see why: kubectl -n {_NAMESPACE} logs daemonset/{name}"
        raise PlatformError(
            f"{name}, which enforces NetworkPolicy, is not ready: {error.message}", hint
        ) from None
    return name


def _rolled_out(kind: KindCluster, what: str, seconds: int) -> None:
    install.kubectl(kind, "-n", _NAMESPACE, "rollout", "status", what, f"--timeout={seconds}s")
