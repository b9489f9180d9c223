"""What a real cluster answered, as files: FakeCluster replays them, e2e/test_recordings.py holds them against reality.

To record again, from a local site that `make demo` left running:
    python -m scripts.tests.recordings kubectl --kubeconfig=.delivery/local/kubeconfig --context=kind-manual-app
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recorded"
Object = dict[str, Any]

# File -> what the API was asked for, as the verbs ask it. prod was told a commit: its Application has an operation.
ASKED = {
    "namespace": "/api/v1/namespaces/kube-system",
    "nodes": "/api/v1/nodes",
    "apis": "/apis",
    "pods": "/api/v1/namespaces/prod/pods",
    "deployments": "/apis/apps/v1/namespaces/prod/deployments",
    "replicasets": "/apis/apps/v1/namespaces/prod/replicasets",
    "application": "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/manual-app-prod",
}

# Every field that FakeCluster sets or `delivery` reads, by file; [] stands for each element of a list.
FIELDS = {
    "namespace": ("metadata.name", "metadata.uid"),
    "apis": ("groups[].name", "groups[].preferredVersion.version"),
    "nodes": ("items[].status.nodeInfo.operatingSystem", "items[].status.nodeInfo.architecture"),
    "pods": (
        "metadata.resourceVersion",
        *("items[].metadata.name", "items[].metadata.uid", "items[].metadata.namespace"),
        *("items[].metadata.labels", "items[].metadata.ownerReferences[].kind"),
        *("items[].metadata.ownerReferences[].name", "items[].metadata.ownerReferences[].uid"),
        *("items[].metadata.ownerReferences[].controller", "items[].spec.restartPolicy"),
        *("items[].spec.containers[].name", "items[].spec.containers[].image"),
        *("items[].status.phase", "items[].status.conditions[].type", "items[].status.conditions[].status"),
        *("items[].status.containerStatuses[].name", "items[].status.containerStatuses[].imageID"),
        *("items[].status.containerStatuses[].image", "items[].status.containerStatuses[].restartCount"),
        *("items[].status.containerStatuses[].ready", "items[].status.containerStatuses[].started"),
        "items[].status.containerStatuses[].state",
    ),
    "deployments": (
        *("items[].metadata.name", "items[].metadata.namespace", "items[].metadata.uid"),
        *("items[].spec.replicas", "items[].spec.template.metadata.labels"),
        "items[].spec.template.spec.containers[].name",
    ),
    "replicasets": (
        *("items[].metadata.name", "items[].metadata.namespace", "items[].metadata.uid"),
        *("items[].metadata.ownerReferences[].kind", "items[].metadata.ownerReferences[].name"),
        *("items[].metadata.ownerReferences[].uid", "items[].metadata.ownerReferences[].controller"),
        "items[].spec.template.metadata.labels",
    ),
    "application": (
        *("metadata.name", "metadata.resourceVersion", "spec.syncPolicy.syncOptions[]"),
        *(
            "spec.syncPolicy.retry.limit",
            "status.sync.status",
            "status.sync.revision",
            "status.health.status",
        ),
        *("status.reconciledAt", "status.history[].revision"),
        *("spec.source.repoURL", "spec.source.path", "spec.source.helm.valueFiles[]"),
        *("status.sync.comparedTo.source.repoURL", "status.operationState.syncResult.source.repoURL"),
        *("status.operationState.phase", "status.operationState.message"),
        *("status.operationState.operation.sync.revision", "status.operationState.syncResult.revision"),
    ),
}


@cache
def _text(name: str) -> str:
    return (FOLDER / f"{name}.json").read_text(encoding="utf-8")


def load(name: str) -> Object:
    """A document as a real cluster gave it; yours to change."""
    return dict(json.loads(_text(name)))


def app(name: str) -> Object:
    """The app's own element of a recorded list: one of its pods, its Deployment, its ReplicaSet."""
    items = load(name)["items"]
    return next(one for one in items if one["metadata"]["labels"]["app.kubernetes.io/name"] == "manual-app")


def beside(kind: str, name: str) -> Object:
    """An object that a real API server had (objects.json); yours to change."""
    kinds = load("objects")["live"].items()
    return next(
        one
        for of, some in kinds
        for one in some
        if (of.partition("/")[2], one["metadata"]["name"]) == (kind, name)
    )


def ask(kubectl: Callable[[str], str]) -> dict[str, Object]:
    """The same documents as a cluster gives them now; `kubectl` answers a path of the API."""
    return {name: _plain(json.loads(kubectl(path))) for name, path in ASKED.items()}


def differences(now: dict[str, Object]) -> list[str]:
    """Where a cluster's answers are of another shape than the recordings, one line each."""
    return [
        f"{name}: {field} is {was or 'no element'} in the recording, {there or 'no element'} now"
        for name, fields in FIELDS.items()
        for field in fields
        if (was := " or ".join(sorted(shape(load(name), field))))
        != (there := " or ".join(sorted(shape(now[name], field))))
    ]


def shape(document: Object, field: str) -> set[str]:
    """The JSON types that a field has in a document; `missing` where it is not there."""
    return {
        type(value).__name__ if there else "missing" for value, there in _values(document, field.split("."))
    }


def _values(value: Any, path: list[str]) -> Iterator[tuple[Any, bool]]:
    if not path:
        yield value, True
        return
    name, several = path[0].removesuffix("[]"), path[0].endswith("[]")
    if not isinstance(value, dict) or name not in value:
        yield None, False
        return
    for one in value[name] if several else (value[name],):
        yield from _values(one, path[1:])


def _plain(document: Any) -> Any:
    """Without what nobody here reads: who set which field, and the long lists of what a sync did and nodes hold."""
    if isinstance(document, dict):
        return {key: _plain(value) for key, value in document.items() if not _unread(key, value)}
    return [_plain(one) for one in document] if isinstance(document, list) else document


def _unread(key: str, value: Any) -> bool:
    # A container's `resources` is an object and is read; Argo CD's are lists.
    return key == "managedFields" or (key in ("resources", "images") and isinstance(value, list))


def main(command: list[str]) -> None:
    """Write the recordings anew."""

    def kubectl(path: str) -> str:
        return subprocess.run(
            [*command, "get", "--raw", path], check=True, capture_output=True, text=True
        ).stdout

    FOLDER.mkdir(exist_ok=True)
    for name, document in ask(kubectl).items():
        (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
