"""Argo CD that nobody tells anything: a branch moves, and it finds out by its own polling, as it is installed here."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from delivery import roles
from e2e.bench import copies, rendered
from e2e.bench.copies import Copy
from e2e.bench.rendered import Branch
from e2e.bench.results import Measurement
from e2e.delivery import Checkout

NAME = "bench"  # of the AppProject, and of the Application
PERIOD = 60.0  # seconds, of its polling as it is installed here, and of Flux's
_LIMIT = 300.0  # seconds: two of its periods, and a rollout


def measure(checkout: Checkout, branch: Branch, digests: list[str]) -> Iterator[Measurement]:
    """Commit to Ready with one digest after the other, in a copy of the first environment."""
    first = checkout.environments()[0]
    taken = []
    with (
        copies.kept(Copy(checkout, first, "argocd")) as copy,
        application(checkout, copy, branch, digests[0]),
    ):
        replicas = 1
        with copy.pods() as pods:
            copy.ready(pods, digests[0], replicas, _LIMIT)
        for number, digest in enumerate(digests[1:]):
            manifests = {f"{copy.name}/all.yaml": copy.rendered(digest)}
            spread(number, len(digests) - 1, PERIOD)
            with copy.pods() as pods:
                branch.push(manifests)
                start = time.monotonic()
                taken.append(copy.ready(pods, digest, replicas, _LIMIT) - start)
    says = f"Argo CD at its own polling, every {period(checkout)}"
    yield Measurement(
        "Commit to Ready", "argocd.polling", says, tuple(taken), floor="dev.set_image", paired=False
    )


def spread(number: int, count: int, period: float) -> None:
    """Wait for this round's part of a period: the one before ended as something was found, and so at its beginning.

    Commits fall anywhere into a period. So do these: the first of two after a quarter of it, the second after three.
    """
    time.sleep((number + 0.5) / count * period)


def period(checkout: Checkout) -> str:
    """How often Argo CD looks by itself, as its settings say it; upstream's default where they are silent."""
    settings = checkout.get("configmap", "argocd-cm", "-n", "argocd").get("data", {})
    jitter = settings.get("timeout.reconciliation.jitter", "60s")
    return f"{settings.get('timeout.reconciliation', '120s')} + up to {jitter}"


@contextmanager
def application(checkout: Checkout, copy: Copy, branch: Branch, digest: str) -> Iterator[None]:
    """An Application of the copy, synced by itself, in a project of the bench's own, for as long as the block."""
    branch.push({f"{copy.name}/all.yaml": copy.rendered(digest)})
    with project(checkout, [copy.namespace]):
        checkout.apply(manifest(checkout, NAME, copy.name, copy.namespace), *roles.AS_PLATFORM)
        try:
            yield
        finally:
            # A sync that is cut off leaves its finalizer on the migration, and so the namespace for ever.
            over = "--for=jsonpath={.status.operationState.phase}=Succeeded"
            checkout.kubectl("-n", "argocd", "wait", "application", NAME, over, "--timeout=60s", check=False)
            forget(checkout)


@contextmanager
def project(checkout: Checkout, namespaces: list[str]) -> Iterator[None]:
    """An AppProject that may bring our branch into these namespaces, and the right of Argo CD to write there."""
    server = "https://kubernetes.default.svc"
    document = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AppProject",
        "metadata": {"name": NAME, "namespace": "argocd"},
        "spec": {
            "sourceRepos": [checkout.cluster.git_seen_as],
            "destinations": [{"server": server, "namespace": name} for name in namespaces],
        },
    }
    for namespace in namespaces:
        checkout.kubectl(
            *("-n", namespace, "create", "rolebinding", "argocd", f"--clusterrole={checkout.app}-argocd"),
            "--serviceaccount=argocd:argocd-application-controller",
            check=False,
        )
    checkout.apply(document, *roles.AS_PLATFORM)
    try:
        yield
    finally:
        forget(checkout)
        checkout.kubectl(
            *roles.AS_PLATFORM,
            "-n",
            "argocd",
            "delete",
            "appproject",
            NAME,
            "--ignore-not-found",
            "--wait=false",
        )


def manifest(checkout: Checkout, name: str, path: str, namespace: str) -> dict[str, object]:
    """An Application of a folder of the branch, otherwise like the environments' own."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": name, "namespace": "argocd", "labels": {"delivery/bench": "true"}},
        "spec": {
            "project": NAME,
            "source": {
                "repoURL": checkout.cluster.git_seen_as,
                "targetRevision": rendered.NAME,
                "path": path,
            },
            "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
            "syncPolicy": {
                "automated": {"prune": True, "selfHeal": True},
                "syncOptions": ["ApplyOutOfSyncOnly=true"],
            },
        },
    }


def forget(checkout: Checkout) -> None:
    """Delete every Application that the bench made; what they brought goes with its namespace."""
    delete = ("delete", "applications", "-l", "delivery/bench=true", "--wait=true", "--timeout=60s")
    checkout.kubectl(*roles.AS_PLATFORM, "-n", "argocd", *delete)
