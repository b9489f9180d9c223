"""What a new cluster needs before Git can ask it for anything: namespaces, passwords, Argo CD, Applications."""

import json
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from delivery.errors import PlatformError
from delivery.parts import docker, tar
from delivery.pipeline import Cluster, Pipeline
from pytest_kind import KindCluster

from local import kind as kinds
from local.catalog import Catalog
from local.shell import last_line

ARGOCD = "argocd"
READY_LIMIT = 180
_FIELD_MANAGER = "--field-manager=delivery"


def trust_registry(cluster: Cluster) -> None:
    """Tell the node's containerd that registry.local speaks plain HTTP."""
    hosts = {"registry.local:5000/hosts.toml": b'[host."http://registry.local:5000"]\n'}
    client = docker.client()
    try:
        node = client.containers.get(kinds.node_name(cluster))
        node.exec_run(["mkdir", "-p", "/etc/containerd/certs.d"])
        node.put_archive("/etc/containerd/certs.d", tar.pack(hosts))
    finally:
        client.close()


def namespaces(cluster: KindCluster, pipeline: Pipeline, folder: Path) -> None:
    """Namespaces and the generated passwords in them; a password that exists is kept."""
    apply(cluster, "-f", str(folder / "namespaces.yaml"))
    for environment in pipeline.environments:
        _secret_once(cluster, environment.namespace, "postgresql", "password")
    _secret_once(cluster, ARGOCD, "argocd-redis", "auth")


def argocd(cluster: KindCluster, catalog: Catalog, pipeline: Pipeline) -> None:
    """Argo CD core: our kustomization over the pinned version's own manifest; projects and Applications."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "install")
        shutil.copytree(pipeline.root / "argocd" / "install", work)
        shutil.copyfile(catalog.argocd_manifest(), work / "core-install.yaml")
        apply(cluster, "--force-conflicts", "-k", str(work))
    kubectl(
        cluster,
        *("wait", "--for=condition=Established", "--timeout=60s"),
        *("crd/applications.argoproj.io", "crd/appprojects.argoproj.io"),
    )
    with pointed(pipeline.root, "projects", pipeline.git.url) as folder:
        apply(cluster, "-k", folder)


def applications(cluster: KindCluster, pipeline: Pipeline, strategy: str = "manual-promotion") -> None:
    """The Applications of a strategy, one for each environment."""
    with pointed(pipeline.root, strategy, pipeline.git.url) as folder:
        apply(cluster, "-k", folder)


@contextmanager
def pointed(root: Path, folder: str, git_url: str) -> Iterator[str]:
    """A folder for `kubectl -k` with the Applications or projects of argocd/`folder`, which read Git at `git_url`.

    The files in Git name the repository that the team's Argo CD reads; this machine's Git server has another address.
    """
    with tempfile.TemporaryDirectory() as temporary:
        shutil.copytree(root / "argocd", Path(temporary, "argocd"))
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"../argocd/{folder}"],
            "patches": [
                _replacing("Application", "/spec/source/repoURL", git_url),
                _replacing("AppProject", "/spec/sourceRepos", [git_url]),
            ],
        }
        work = Path(temporary, "pointed")
        work.mkdir()
        (work / "kustomization.yaml").write_text(json.dumps(kustomization), encoding="utf-8")
        yield str(work)


def _replacing(kind: str, path: str, value: object) -> dict[str, object]:
    patch = [{"op": "replace", "path": path, "value": value}]
    return {"target": {"kind": kind}, "patch": json.dumps(patch)}


def wait_for_argocd(cluster: KindCluster) -> None:
    """Return when Argo CD's parts are Ready; PlatformError with what is not after READY_LIMIT seconds."""
    for part in (
        "deployment/argocd-redis",
        "deployment/argocd-repo-server",
        "statefulset/argocd-application-controller",
    ):
        kubectl(cluster, "-n", ARGOCD, "rollout", "status", part, f"--timeout={READY_LIMIT}s")


def apply(cluster: KindCluster, *arguments: str, text: str | None = None) -> None:
    """kubectl apply --server-side, as `delivery`."""
    kubectl(cluster, "apply", "--server-side", _FIELD_MANAGER, *arguments, text=text)


def kubectl(cluster: KindCluster, *arguments: str, text: str | None = None) -> str:
    """kubectl against this cluster and no other; PlatformError with its last line."""
    options = {"input": text} if text is not None else {"stdin": subprocess.DEVNULL}
    try:
        return str(
            cluster.kubectl(
                "--context", f"kind-{cluster.name}", *arguments, stderr=subprocess.PIPE, **options
            )
        )
    except subprocess.CalledProcessError as error:
        raise PlatformError(
            f"kubectl {arguments[0]} failed: {last_line(error.stderr)}",
            "look what is missing: delivery doctor",
        ) from None


def _secret_once(cluster: KindCluster, namespace: str, name: str, key: str) -> None:
    if kubectl(cluster, "-n", namespace, "get", "secret", name, "--ignore-not-found", "-o", "name"):
        return
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {key: secrets.token_urlsafe(24)},
    }
    kubectl(cluster, "create", "-f", "-", text=json.dumps(secret))
