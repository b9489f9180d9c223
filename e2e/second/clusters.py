"""The second site's clusters: the one of the e2e, which is shared, and `shop-prod`, a kind cluster for prod alone.

Both are reached as a team reaches its clusters: by an ordinary kubeconfig with a context for each, whose servers have
names that are no loopback's. Argo CD is in the first and deploys into both.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from delivery.parts import docker, tar
from local import images, preload, tools
from local.cluster import Cluster
from local.shell import run
from ruamel.yaml import YAML

from e2e.second import names

PROD = "shop-prod"  # kind's name, the context, and Argo CD's name of it
TEST = "shop-test"  # the context of the e2e's cluster
_HINT = "see what kind says"
_CERTS = "/etc/containerd/certs.d"
_ARGOCD = "argocd"


def create_prod(network: str, root: Path, folder: Path) -> None:
    """Make the second cluster, on the Docker network that the site's servers are on."""
    yaml = YAML(typ="safe", pure=True)
    config = yaml.load((root / "scripts" / "local" / "kind.yaml").read_text(encoding="utf-8"))
    config["name"] = PROD
    file = folder / "kind.yaml"
    with file.open("w", encoding="utf-8") as out:
        yaml.dump(config, out)
    command = [tools.path("kind"), "create", "cluster", f"--name={PROD}", f"--config={file}", "--wait=120s"]
    command += [f"--image={images.source().node.name}", f"--kubeconfig={folder / 'kind-kubeconfig'}"]
    settings = {"KIND_EXPERIMENTAL_PROVIDER": "docker", "KIND_EXPERIMENTAL_DOCKER_NETWORK": network}
    run(command, hint=_HINT, env=settings)


def remove_prod() -> None:
    """Remove the second cluster, if it is there."""
    with tempfile.TemporaryDirectory() as folder:
        command = [tools.path("kind"), "delete", "cluster", f"--name={PROD}"]
        run([*command, f"--kubeconfig={folder}/none"], hint=_HINT, env={"KIND_EXPERIMENTAL_PROVIDER": "docker"})


def node(kind_name: str) -> str:
    """The container, and the host name, of a kind cluster's node."""
    return f"{kind_name}-control-plane"


def address(kind_name: str, network: str) -> str:
    """A node's address, as this host reaches it."""
    client = docker.client()
    try:
        joined = client.containers.get(node(kind_name)).attrs["NetworkSettings"]["Networks"]
        return str(joined[network]["IPAddress"])
    finally:
        client.close()


def kubeconfig(shared: Cluster, file: Path) -> Path:
    """One ordinary kubeconfig with both contexts."""
    merged: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": TEST}
    merged |= {"clusters": [], "users": [], "contexts": []}
    for context, kind_name in ((TEST, shared.name), (PROD, PROD)):
        told = run([tools.path("kind"), "get", "kubeconfig", f"--name={kind_name}", "--internal"], hint=_HINT)
        own = YAML(typ="safe", pure=True).load(told)
        merged["clusters"].append({"name": context, "cluster": own["clusters"][0]["cluster"]})
        merged["users"].append({"name": context, "user": own["users"][0]["user"]})
        merged["contexts"].append({"name": context, "context": {"cluster": context, "user": context}})
    file.touch(mode=0o600)
    file.write_text(json.dumps(merged, indent=2), encoding="utf-8")  # which is YAML too
    return file


def trust(kind_name: str, authority: Path) -> None:
    """Have a node's containerd trust the registry's authority, as whoever runs the nodes does."""
    hosts = f'[host."https://{names.REGISTRY}"]\n  ca = "{_CERTS}/{names.REGISTRY}/ca.crt"\n'
    files = {"hosts.toml": hosts.encode(), "ca.crt": authority.read_bytes()}
    client = docker.client()
    try:
        container = client.containers.get(node(kind_name))
        container.exec_run(["mkdir", "-p", _CERTS])
        container.put_archive(_CERTS, tar.pack({f"{names.REGISTRY}/{name}": text for name, text in files.items()}))
    finally:
        client.close()


def distrust(kind_name: str) -> None:
    """Take that away from a node, if it is there."""
    client = docker.client()
    try:
        for container in client.containers.list(filters={"name": f"^/{node(kind_name)}$"}):
            container.exec_run(["rm", "-rf", f"{_CERTS}/{names.REGISTRY}"])
    finally:
        client.close()
