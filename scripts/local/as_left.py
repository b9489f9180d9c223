"""Whether a local platform is still as `up` left it: then `demo` need not bring it up again.

What `up` reads, what it keeps beside the checkout, its containers, and the objects of the cluster have versions. They
are written down when `up` is through, and compared. What a deployment changes is left out: the environments' own
workloads, the pins of the Applications, and their states. Whatever cannot be read is not as it was left.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from docker.errors import DockerException
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException, load_kube_config
from urllib3.exceptions import HTTPError

from delivery import files
from delivery.errors import DeliveryError
from delivery.parts import docker
from delivery.pipeline import FILE
from local import images
from local import kind as kinds
from local.cluster import Cluster

_MARK = "as-left.json"
_DAYS = 30  # the logins that `up` makes are good for a year, and the week's images for less
_SECONDS = 10
_READ = ("scripts/local", "scripts/delivery", "argocd", "policy", FILE)  # of the checkout
_KEPT = (
    "keys",
    "logins",
    "docker",
    "kubeconfig",
    "site.yaml",
    "git-credentials",
    "git-credentials-developer",
)
_KINDS = (
    *(f"/api/v1/{one}" for one in ("namespaces", "serviceaccounts", "configmaps", "secrets", "services")),
    *(f"/apis/apps/v1/{one}" for one in ("deployments", "statefulsets", "daemonsets")),
    "/apis/networking.k8s.io/v1/networkpolicies",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    *(
        f"/apis/rbac.authorization.k8s.io/v1/{one}"
        for one in ("clusterroles", "clusterrolebindings", "roles", "rolebindings")
    ),
    *(
        f"/apis/admissionregistration.k8s.io/v1/{one}"
        for one in (
            *("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
            *("validatingwebhookconfigurations", "mutatingwebhookconfigurations"),
        )
    ),
    "/apis/policy.sigstore.dev/v1beta1/clusterimagepolicies",
    "/apis/argoproj.io/v1alpha1/appprojects",
)
# Also in the environments' namespaces, but for what Argo CD brought there.
_THERE_TOO = ("secrets", "serviceaccounts", "roles", "rolebindings")
_BROUGHT = "argocd.argoproj.io/tracking-id"
_APPLICATIONS = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications"
_VERSIONS_ALONE = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
_UNREADABLE = (DeliveryError, DockerException, ApiException, ConfigException, HTTPError, OSError, ValueError)


def forget(cluster: Cluster) -> None:
    """Before anything is changed: whoever ends in the middle leaves nothing behind that holds."""
    (cluster.state / _MARK).unlink(missing_ok=True)


def remember(cluster: Cluster) -> None:
    """Write down how everything is; where that cannot be read, nothing."""
    try:
        text = json.dumps({"at": time.time(), "found": _found(cluster)}, indent=1, sort_keys=True)
    except _UNREADABLE:
        return
    files.write_private(cluster.state / _MARK, text)


def holds(cluster: Cluster) -> bool:
    """Whether everything is as it was when it was written down, not too long ago."""
    try:
        mark = json.loads((cluster.state / _MARK).read_text(encoding="utf-8"))
        young = 0 <= time.time() - mark["at"] < _DAYS * 86_400
        return young and mark["found"] == _found(cluster)
    except (*_UNREADABLE, KeyError, TypeError):
        return False


def _found(cluster: Cluster) -> dict[str, Any]:
    with ThreadPoolExecutor(2) as pool:
        objects = pool.submit(_objects, cluster)
        return {
            "read": _read(cluster),
            "kept": dict(sorted(_files(cluster))),
            "containers": _containers(cluster),
            "objects": objects.result(),
        }


def _read(cluster: Cluster) -> str:
    digest = hashlib.sha256(kinds.configuration(cluster).encode())
    digest.update(repr(images.names(images.source())).encode())
    for name in _READ:
        place = cluster.root / name
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file() and file.suffix != ".pyc":
                digest.update(str(file.relative_to(cluster.root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _files(cluster: Cluster) -> Iterator[tuple[str, list[int]]]:
    for name in _KEPT:
        place = cluster.state / name
        for file in place.rglob("*") if place.is_dir() else [place]:
            if not file.is_dir():
                seen = file.stat()
                yield (
                    str(file.relative_to(cluster.state)),
                    [seen.st_ino, seen.st_size, seen.st_mtime_ns],
                )


def _containers(cluster: Cluster) -> dict[str, list[Any]]:
    names = (kinds.node_name(cluster), f"{cluster.name}-registry", f"{cluster.name}-gateway")
    client = docker.client(seconds=_SECONDS)
    try:
        found = {name: client.containers.get(name) for name in names}
    finally:
        client.close()
    return {name: [one.id, one.status, one.attrs["State"]["StartedAt"]] for name, one in found.items()}


def _objects(cluster: Cluster) -> dict[str, dict[str, str]]:
    """Of each object which one it is, and its version."""
    configuration = Configuration()
    load_kube_config(str(cluster.kubeconfig), cluster.context, client_configuration=configuration)
    configuration.retries = False
    configuration.proxy = None
    configuration.connection_pool_maxsize = len(_KINDS)
    environments = {one.namespace for one in cluster.pipeline.environments}
    client = ApiClient(configuration)
    try:
        with ThreadPoolExecutor(8) as pool:
            lists = pool.map(lambda path: _list(client, path, _VERSIONS_ALONE), _KINDS)
            found = {
                path: {
                    _name(one): _object_version(one)
                    for one in items
                    if one["metadata"].get("namespace") not in environments
                    or (path.endswith(_THERE_TOO) and not _brought(one))
                }
                for path, items in zip(_KINDS, lists, strict=True)
            }
        found[_APPLICATIONS] = {
            _name(one): _wanted(one) for one in _list(client, _APPLICATIONS, "application/json")
        }
    finally:
        client.close()
    return found


def _list(client: ApiClient, path: str, accept: str) -> list[dict[str, Any]]:
    answer = client.call_api(
        *(path, "GET"),
        header_params={"Accept": accept},
        auth_settings=["BearerToken"],
        _preload_content=False,
        _return_http_data_only=True,
        _request_timeout=_SECONDS,
    )
    return list(json.loads(answer.data)["items"])


def _brought(one: dict[str, Any]) -> bool:
    return _BROUGHT in one["metadata"].get("annotations", {})


def _name(one: dict[str, Any]) -> str:
    return f"{one['metadata'].get('namespace', '')}/{one['metadata']['name']}"


def _object_version(one: dict[str, Any]) -> str:
    """What changes when somebody writes what is wanted: not with its state, where the two are told apart."""
    metadata = one["metadata"]
    return f"{metadata['uid']} {metadata.get('generation') or metadata['resourceVersion']}"


def _wanted(application: dict[str, Any]) -> str:
    """Argo CD writes what it sees into the same object; and a promotion moves the pin."""
    spec = application["spec"] | {"source": application["spec"]["source"] | {"targetRevision": ""}}
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
    return f"{application['metadata']['uid']} {digest}"
