"""Commit to Ready by Flux: the same rendered manifests from the same Git server, as installed and when it is asked."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from e2e.bench import copies, polling, rendered
from e2e.bench.copies import Copy
from e2e.bench.flux import controllers
from e2e.bench.rendered import Branch
from e2e.bench.results import Measurement
from e2e.bench.watch import Event, Watch
from e2e.delivery import Checkout

NAME = "bench"  # of the GitRepository, and of the Kustomization
# As `flux bootstrap` sets them.
GIT_INTERVAL, INTERVAL = "1m0s", "10m0s"
_LIMIT = 300.0  # seconds
_SOURCE, _KUSTOMIZATION = (
    "gitrepository.source.toolkit.fluxcd.io",
    "kustomization.kustomize.toolkit.fluxcd.io",
)
_ASK, _HANDLED = "reconcile.fluxcd.io/requestedAt", "lastHandledReconcileAt"


def measure(
    checkout: Checkout, branch: Branch, digests: list[str], asked: list[str]
) -> Iterator[Measurement]:
    """Commit to Ready with one of `digests` after the other by its own polling, and of `asked` with a request."""
    copy = Copy(checkout, checkout.environments()[0], "flux")
    with controllers.running(checkout), copies.kept(copy), _kustomization(checkout, copy, branch, digests[0]):
        with copy.pods() as pods:
            copy.ready(pods, digests[0], 1, _LIMIT)
        requested = [_one(checkout, copy, branch, digest, ask=True) for digest in asked]
        polled = []
        for number, digest in enumerate(digests[1:]):
            polling.spread(number, len(digests) - 1, polling.PERIOD)
            polled.append(_one(checkout, copy, branch, digest, ask=False))
    group, floor = "Commit to Ready", "dev.set_image"
    says = "Flux, with a reconcile request"
    yield Measurement(group, "flux.requested", says, tuple(requested), floor=floor, paired=False)
    says = f"Flux as installed, Git every {GIT_INTERVAL.removesuffix('0s')}"
    yield Measurement(group, "flux.polling", says, tuple(polled), floor=floor, paired=False)


def _one(checkout: Checkout, copy: Copy, branch: Branch, digest: str, ask: bool) -> float:
    manifests = {f"{copy.name}/all.yaml": copy.rendered(digest)}
    with copy.pods() as pods, Watch(checkout, _SOURCE, NAME, "-n", controllers.NAMESPACE) as source:
        branch.push(manifests)
        start = time.monotonic()
        if ask:
            _ask(checkout, source)
        return copy.ready(pods, digest, 1, _LIMIT) - start


def _ask(checkout: Checkout, source: Watch) -> None:
    """What `flux reconcile kustomization --with-source` does: ask the source, and once it has answered the other."""
    now = str(time.time_ns())

    def answered(event: Event) -> bool | None:
        return event.object.get("status", {}).get(_HANDLED) == now or None

    annotate = ("-n", controllers.NAMESPACE, "annotate", "--overwrite")
    checkout.kubectl(*annotate, _SOURCE, NAME, f"{_ASK}={now}")
    source.until(answered, _LIMIT, "Flux has looked at Git")
    checkout.kubectl(*annotate, _KUSTOMIZATION, NAME, f"{_ASK}={now}")


@contextmanager
def _kustomization(checkout: Checkout, copy: Copy, branch: Branch, digest: str) -> Iterator[None]:
    branch.push({f"{copy.name}/all.yaml": copy.rendered(digest)})
    where = {"name": NAME, "namespace": controllers.NAMESPACE}
    source: dict[str, Any] = {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": where,
        "spec": {
            "interval": GIT_INTERVAL,
            "url": checkout.cluster.git_seen_as,
            "ref": {"branch": rendered.NAME},
        },
    }
    kustomization: dict[str, Any] = {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": where,
        "spec": {
            "interval": INTERVAL,
            "path": f"./{copy.name}",
            "prune": True,
            "targetNamespace": copy.namespace,
            "sourceRef": {"kind": "GitRepository", "name": NAME},
        },
    }
    checkout.apply(source)
    checkout.apply(kustomization)
    try:
        yield
    finally:
        # Before its controller goes: the Kustomization has a finalizer.
        for kind in (_KUSTOMIZATION, _SOURCE):
            delete = ("delete", kind, NAME, "--ignore-not-found", "--timeout=90s")
            checkout.kubectl("-n", controllers.NAMESPACE, *delete)
