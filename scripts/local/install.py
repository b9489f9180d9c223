"""What a new cluster needs before Git can ask it for anything: namespaces, passwords, Argo CD, Applications."""

import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_kind import KindCluster

from delivery import roles
from delivery.desired import derived, policy
from delivery.desired.derived import Seen
from delivery.desired.policy import Manifest
from delivery.errors import PlatformError
from delivery.parts import docker, openpgp, tar
from delivery.pipeline import Pipeline
from local import keys
from local import kind as kinds
from local.catalog import Catalog
from local.cluster import Cluster
from local.shell import last_line

ARGOCD = "argocd"
READY_LIMIT = 180
_PARTS = (
    "deployment/argocd-redis",
    "deployment/argocd-repo-server",
    "statefulset/argocd-application-controller",
)
_FIELD_MANAGER = "--field-manager=delivery"
_NAMES = "custom-columns=NAMESPACE:.metadata.namespace,NAME:.metadata.name"


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
    wanted: dict[tuple[str, str], Iterable[str]] = {
        (environment.namespace, name): words
        for environment in pipeline.environments
        for name, words in pipeline.app.secrets.items()
    }
    wanted[ARGOCD, "argocd-redis"] = ["auth"]
    there = kubectl(cluster, "get", "secrets", "-A", "--no-headers", "-o", _NAMES)
    known = {tuple(line.split()) for line in there.splitlines()}
    missing = [_secret(*place, words) for place, words in wanted.items() if place not in known]
    if missing:
        kubectl(cluster, *roles.AS_PLATFORM, "create", "-f", "-", text=policy.stream(missing))


def argocd(kind: KindCluster, catalog: Catalog, cluster: Cluster, said: Callable[[str], None]) -> None:
    """Argo CD core: our kustomization over the pinned version's own manifest; the gates' keys, and the projects.

    `said` is told what is applied or waited for.
    """
    said("its manifests")
    # First, and as somebody else: its volume shows a later change only after a minute, and upstream's own is empty.
    keyring = policy.keyring(ARGOCD, _certificates(cluster).values())
    apply(kind, "--field-manager=delivery-keyring", "-f", "-", text=policy.stream([keyring]))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "install")
        shutil.copytree(cluster.root / "argocd" / "install", work)
        shutil.copyfile(catalog.argocd_manifest(), work / "core-install.yaml")
        apply(kind, "--force-conflicts", "-k", str(work))
    said("until the API server knows Applications and AppProjects")
    kubectl(
        kind,
        *("wait", "--for=condition=Established", "--timeout=60s"),
        *("crd/applications.argoproj.io", "crd/appprojects.argoproj.io"),
    )
    said("the projects of the environments")
    with as_seen_here(cluster) as folder:
        apply(
            kind, "--force-conflicts", "-k", f"{folder}/projects"
        )  # who lifted a freeze has written there too


def applications(kind: KindCluster, cluster: Cluster) -> None:
    """The Applications of the pipeline's strategy, one for each environment; those that are there keep their pins."""
    with as_seen_here(cluster) as folder:
        apply(kind, "-k", folder)


@contextmanager
def as_seen_here(cluster: Cluster) -> Iterator[str]:
    """A copy of argocd/ whose Applications read this cluster's Git server and deploy into this cluster.

    The files in Git are for the team's own site, where there is one.
    """
    with tempfile.TemporaryDirectory() as temporary:
        shutil.copytree(cluster.root / "argocd", Path(temporary, "argocd"))
        known = {name: openpgp.signing_key_id(text) for name, text in _certificates(cluster).items()}
        here = Seen(cluster.git_seen_as, commit_keys=known)
        for path, text in derived.files(cluster.pipeline, here).items():
            if path.startswith("argocd/"):
                Path(temporary, path).write_text(text, encoding="utf-8")
        yield str(Path(temporary, "argocd"))


def _certificates(cluster: Cluster) -> dict[str, str]:
    """The OpenPGP certificate of each guarded environment's gate, by the environment's name."""
    guarded = [one for one in cluster.pipeline.environments if one.guarded]
    return {one.name: keys.commit_key(cluster, one.gate)[1].read_text(encoding="ascii") for one in guarded}


def wait_for_argocd(cluster: KindCluster, said: Callable[[str], None]) -> None:
    """Return when Argo CD's parts are Ready; PlatformError with what is not after READY_LIMIT seconds.

    `said` is told which parts were not seen Ready yet.
    """
    for done, part in enumerate(_PARTS):
        said(f"until Ready: {', '.join(one.partition('/')[2] for one in _PARTS[done:])}")
        kubectl(cluster, "-n", ARGOCD, "rollout", "status", part, f"--timeout={READY_LIMIT}s")


def apply(cluster: KindCluster, *arguments: str, text: str | None = None) -> None:
    """kubectl apply --server-side, as whoever keeps the platform."""
    kubectl(cluster, *roles.AS_PLATFORM, "apply", "--server-side", _FIELD_MANAGER, *arguments, text=text)


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
            f"kubectl {_verb(arguments)} failed: {last_line(error.stderr)}",
            "look what is missing: delivery doctor",
        ) from None


def _secret(namespace: str, name: str, keys: Iterable[str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {key: secrets.token_urlsafe(24) for key in keys},
    }


def _verb(arguments: Iterable[str]) -> str:
    return next(one for one in arguments if not one.startswith("--as"))
