"""The kind cluster, through pytest-kind's KindCluster: the same object serves `delivery up` and the e2e."""

import io
import os
import re
import shlex
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from delivery.errors import PlatformError
from delivery.parts import docker, tail, values
from local import preload, tools
from local.cluster import ADDRESS, Cluster
from local.preload import Node
from local.shell import last_line, run

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pykube warns about itself when it is imported
    from pytest_kind import KindCluster

_CREATING = "creating"
_READY_LIMIT = "--timeout=120s"
_HINT = "make it again: delivery down, then delivery up"


def handle(cluster: Cluster, node: Node | None = None) -> KindCluster:
    """The KindCluster with our programs, image and kubeconfig (its defaults are years old)."""
    cluster.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    here = Path.cwd()
    os.chdir(cluster.state)  # it makes a folder .pytest-kind where it is created
    try:
        return KindCluster(
            cluster.name,
            kubeconfig=cluster.kubeconfig,
            image=node.name if node else None,
            kind_path=_quiet_kind(cluster),
            kubectl_path=tools.path("kubectl"),
        )
    finally:
        os.chdir(here)


def create(cluster: Cluster, node: Node, said: Callable[[str], None] = lambda step: None) -> KindCluster:
    """Create the cluster, or take the one that is there if it is this checkout's and it works.

    `said` is told what kind does, in its own words.
    """
    kind = handle(cluster, node)
    config, wanted = cluster.state / "kind.yaml", configuration(cluster)
    if exists(cluster):
        if _finished(cluster):
            _insist_on_ports(cluster, config, wanted)
            said("until its node is Ready")
            _start(cluster, kind)
        else:
            delete(cluster)  # left half made by a run that was killed
    if not exists(cluster):
        (cluster.state / "owner").write_text(_CREATING)
    config.write_text(wanted)
    log = cluster.state / "kind.log"
    log.touch()
    try:
        with tail.lines(log, lambda line: _step(line, said)):
            kind.create(config)
    except subprocess.CalledProcessError:
        raise PlatformError(
            f"kind create cluster failed: {last_line(log.read_text())}", f"see {log}"
        ) from None
    cluster.kubeconfig.chmod(0o600)
    (cluster.state / "owner").write_text(_node_id(cluster))
    return kind


def _step(line: str, said: Callable[[str], None]) -> None:
    # `• Preparing nodes 📦  ...` begins, and `✓ Preparing nodes 📦` has ended.
    if found := re.match(r"• ([ -~]+)", line):
        said(found[1].strip())


def configuration(cluster: Cluster) -> str:
    """What kind is told: the node, and the ports of the environments on this machine."""
    pipeline, root = cluster.pipeline, cluster.root
    yaml = YAML(typ="safe", pure=True)
    config: dict[str, Any] = yaml.load((root / "scripts" / "local" / "kind.yaml").read_text(encoding="utf-8"))
    config["name"] = cluster.name
    mappings = []
    for environment in pipeline.environments:
        text = (root / environment.values).read_text(encoding="utf-8")
        mappings.append(
            {
                "containerPort": values.read(text, environment.values)["service"]["nodePort"],
                "hostPort": cluster.environments[environment.name],
                "listenAddress": ADDRESS,
            }
        )
    config["nodes"][0]["extraPortMappings"] = mappings
    stream = io.StringIO()
    yaml.dump(config, stream)
    return stream.getvalue()


def exists(cluster: Cluster) -> bool:
    """Whether there is a node container of that name, running or not."""
    return bool(_node_id(cluster))


def made_here(cluster: Cluster) -> bool:
    """Whether this state folder says that the cluster was made with it; asks no Docker."""
    return (cluster.state / "owner").exists()


def check_owner(cluster: Cluster) -> None:
    """PlatformError when a cluster of that name exists that was not made with this state folder."""
    owner = cluster.state / "owner"
    if exists(cluster) and not (owner.exists() and owner.read_text() in (_CREATING, _node_id(cluster))):
        raise PlatformError(
            f"a kind cluster {cluster.name} exists that another checkout made",
            "use that checkout, or remove the cluster with its data: delivery down --force",
        )


def delete(cluster: Cluster) -> None:
    """Delete the node container and forget the cluster's kubeconfigs."""
    run([tools.path("kind"), "delete", "cluster", f"--name={cluster.name}"], hint=_HINT)
    for name in ("kubeconfig", "owner"):
        (cluster.state / name).unlink(missing_ok=True)


def digests(cluster: Cluster, node: Node) -> dict[str, str]:
    """The platform's images that the cluster's node has: those of its own image, which `node` may have left behind."""
    client = docker.client()
    try:
        found = client.containers.list(all=True, filters={"name": f"^/{node_name(cluster)}$"})
        image = found[0].attrs["Image"] if found else node.name
    finally:
        client.close()
    return preload.digests(image)


def publish_context(cluster: Cluster) -> None:
    """Put the context into the user's own kubeconfig, as kind does."""
    run([tools.path("kind"), "export", "kubeconfig", f"--name={cluster.name}"], hint=_HINT)


def node_name(cluster: Cluster) -> str:
    """The name of the node's container."""
    return f"{cluster.name}-control-plane"


def _finished(cluster: Cluster) -> bool:
    return cluster.kubeconfig.exists() and (cluster.state / "owner").read_text() != _CREATING


def _start(cluster: Cluster, kind: KindCluster) -> None:
    """Start the node again if it was stopped. A cluster with data is never replaced, however it is."""
    client = docker.client()
    try:
        node = client.containers.get(node_name(cluster))
        if node.status == "paused":
            node.unpause()
        elif node.status != "running":
            node.start()
    finally:
        client.close()
    try:
        kind.kubectl("wait", "--for=condition=Ready", "node", "--all", _READY_LIMIT, stderr=subprocess.STDOUT)
    except subprocess.CalledProcessError as error:
        raise PlatformError(
            f"cluster {cluster.name} is there, but its node is not ready: {last_line(error.output)}",
            "see docker logs of the node; or begin anew, without its data: delivery down, then delivery up",
        ) from None


def _node_id(cluster: Cluster) -> str:
    client = docker.client()
    try:
        found = client.containers.list(all=True, filters={"name": f"^/{node_name(cluster)}$"})
        return str(found[0].id) if found else ""
    finally:
        client.close()


def _insist_on_ports(cluster: Cluster, made_of: Path, wanted: str) -> None:
    """A node's ports are set when it is made: an environment that came later has none, and nobody would reach it."""
    if not made_of.exists():
        return
    missing = [one for one in _ports(wanted) if one not in _ports(made_of.read_text(encoding="utf-8"))]
    if missing:
        ports = ", ".join(str(one["hostPort"]) for one in missing)
        raise PlatformError(
            f"cluster {cluster.name} was made before pipeline.yaml asked for port {ports}",
            "make it anew, without its data: delivery down, then delivery up",
        )


def _ports(configuration: str) -> list[dict[str, Any]]:
    found = YAML(typ="safe", pure=True).load(configuration)["nodes"][0].get("extraPortMappings")
    return list(found or ())


def _quiet_kind(cluster: Cluster) -> Path:
    """kind as KindCluster calls it: on the cluster's own Docker network, what it tells in a log."""
    script = cluster.state / "kind"
    found = tools.path("kind")
    # Paths may have spaces and whatever else a home folder is called.
    program = shlex.quote(str(shutil.which(found) or found))
    log = shlex.quote(str(cluster.state / "kind.log"))
    script.write_text(
        "#!/bin/sh\n"
        # The node is for the daemon's own platform, and the daemon is Docker, whatever else is installed.
        "unset DOCKER_DEFAULT_PLATFORM\n"
        "export KIND_EXPERIMENTAL_PROVIDER=docker\n"
        f"export KIND_EXPERIMENTAL_DOCKER_NETWORK={shlex.quote(cluster.name)}\n"
        f'case "$1" in create|delete) exec {program} "$@" >>{log} 2>&1 ;; esac\n'
        f'exec {program} "$@" 2>/dev/null\n'
    )
    script.chmod(0o700)
    return script
