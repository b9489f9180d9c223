"""The registry and the Git server: two containers beside the cluster, published on 127.0.0.1 only.

The gateway (scripts/local/gateway) is the only door: the cluster's side of it reads, on the host's side each login
that was made at `up` writes what is its own. The registry itself is on a network of its own, out of the pods' reach.
"""

import base64
import hashlib
import secrets
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
from docker.errors import APIError, NotFound

from delivery import wait
from delivery.errors import PlatformError
from delivery.parts import docker, tar
from delivery.parts.logins import Login
from local import credentials
from local.cluster import ADDRESS, Cluster

_ANSWER_LIMIT = 20.0
_WWW_DATA = 33
_LABEL = "delivery.cluster"


def network(cluster: Cluster) -> None:
    """The cluster's own Docker network, so that two clusters never share a name such as registry.local."""
    client = docker.client()
    try:
        for name, internal in ((cluster.name, False), (_backend(cluster), True)):
            if not client.networks.list(names=[f"^{name}$"]):
                client.networks.create(
                    name, driver="bridge", internal=internal, labels={_LABEL: cluster.name}
                )
    finally:
        client.close()


def start(
    cluster: Cluster, registry_image: str, gateway_image: str, folder: Path, said: Callable[[str], None]
) -> None:
    """Start both containers, or keep those that run; returns when both answer.

    `said` is told what is started, and then who does not answer yet.
    """
    said("the registry's container")
    login = credentials.create(cluster)
    client = docker.client()
    try:
        registry = _container(client, cluster, "registry", registry_image, {
            "command": ["serve", "/etc/distribution/config.yml"],
            "volumes": {f"{cluster.name}-registry": {"bind": "/var/lib/registry", "mode": "rw"}},
        })  # fmt: skip
        _connect(client, registry, _backend(cluster), ["registry"])
        config = {"etc/distribution/config.yml": (folder / "registry" / "config.yml").read_bytes()}
        registry.put_archive("/", tar.pack(config))
        said("the Git server's container")
        gateway = _container(client, cluster, "gateway", gateway_image, {
            "network": cluster.name,
            "environment": {"REPOSITORY": cluster.repository, "BRANCH": cluster.pipeline.git.branch},
            "ports": {"5001/tcp": (ADDRESS, cluster.registry), "3000/tcp": (ADDRESS, cluster.git)},
            "volumes": {f"{cluster.name}-git": {"bind": "/srv/git", "mode": "rw"}},
        })  # fmt: skip
        _connect(client, gateway, cluster.name, ["registry.local", "registry.localhost", "git.local"])
        _connect(client, gateway, _backend(cluster), [])
        files = {
            "registry.htpasswd": htpasswd(login.registry.values()),
            "git.htpasswd": htpasswd(login.git.values()),
            "writers.conf": writers(credentials.writers(cluster)).encode(),
        }
        gateway.put_archive("/etc/nginx", tar.pack(files, 0o640, _WWW_DATA))
        for container in (registry, gateway):
            container.start()
        if gateway.status == "running":  # before: it has read who writes where, and that may be other now
            gateway.kill(signal="HUP")
    except APIError as error:
        raise PlatformError(
            f"the registry or the Git server did not start: {' '.join(str(error.explanation).split())[:250]}",
            "if a port is taken, free it or change it in pipeline.yaml; then run it again",
        ) from None
    finally:
        client.close()
    _wait_for_answers(cluster, login, said)


def remove(cluster: Cluster) -> None:
    """Remove both containers, their data and the networks."""
    client = docker.client()
    try:
        for role in ("gateway", "registry"):
            for container in client.containers.list(all=True, filters={"name": f"^/{cluster.name}-{role}$"}):
                container.remove(force=True)
        for name in (f"{cluster.name}-registry", f"{cluster.name}-git"):
            for volume in client.volumes.list(filters={"name": f"^{name}$"}):
                volume.remove(force=True)
        for name in (cluster.name, _backend(cluster)):
            for found in client.networks.list(names=[f"^{name}$"]):
                found.remove()
    finally:
        client.close()


def taken_ports(ports: dict[str, int]) -> dict[str, int]:
    """Those of the ports on 127.0.0.1 that something listens on, by what they are for."""
    found = {}
    for purpose, port in ports.items():
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((ADDRESS, port)) == 0:
                found[purpose] = port
    return found


def running(cluster: Cluster, role: str) -> bool:
    """Whether the container `registry` or `gateway` of the cluster runs."""
    client = docker.client()
    try:
        return bool(client.containers.list(filters={"name": f"^/{cluster.name}-{role}$"}))
    finally:
        client.close()


def _backend(cluster: Cluster) -> str:
    return f"{cluster.name}-registry"


def _container(client: Any, cluster: Cluster, role: str, image: str, options: dict[str, Any]) -> Any:
    name = f"{cluster.name}-{role}"
    try:
        found = client.containers.get(name)
        if found.attrs["Image"] == client.images.get(image).id:  # by id alone: the old image may be gone
            return found
        found.remove(force=True)
    except NotFound:
        pass
    options = {"network": _backend(cluster), **options}
    return client.containers.create(
        image, name=name, restart_policy={"Name": "unless-stopped"}, labels={_LABEL: cluster.name}, **options
    )


def _connect(client: Any, container: Any, network: str, aliases: list[str]) -> None:
    container.reload()
    joined = container.attrs["NetworkSettings"]["Networks"].get(network)
    if joined is not None and set(aliases) <= set(joined.get("Aliases") or ()):
        return
    target = client.networks.get(network)
    if joined is not None:
        target.disconnect(container, force=True)
    target.connect(container, aliases=aliases)


def writers(may: Iterable[tuple[str, str]]) -> str:
    """Which login writes which repository, as nginx's map reads it."""
    return "".join(f'"{name} {path}" yes;\n' for name, path in may)


def htpasswd(logins: Iterable[Login]) -> bytes:
    """Salted hashes of generated passwords, in the form {SSHA} that nginx reads without help of its libc."""
    lines = []
    for login in logins:
        salt = secrets.token_bytes(8)
        digest = hashlib.sha1(login.password.encode() + salt, usedforsecurity=False).digest()
        lines.append(f"{login.username}:{{SSHA}}{base64.b64encode(digest + salt).decode()}\n")
    return "".join(lines).encode()


def _wait_for_answers(cluster: Cluster, login: credentials.Credentials, said: Callable[[str], None]) -> None:
    reader = login.registry[credentials.READER]
    asked = {
        f"http://{cluster.registry_host}/v2/": (reader.username, reader.password),
        f"{cluster.git_url}/info/refs?service=git-upload-pack": None,
    }
    with httpx.Client(timeout=5, trust_env=False) as client:

        def look() -> wait.Reached[None] | wait.Pending:
            for url, auth in asked.items():
                try:
                    answer = client.get(url, auth=auth)
                except httpx.HTTPError as error:
                    return wait.Pending(f"{url}: {type(error).__name__}")
                if answer.status_code != 200:
                    return wait.Pending(f"{url}: {answer.status_code}")
            return wait.Reached(None)

        hint = f"docker logs {cluster.name}-gateway; docker logs {cluster.name}-registry"
        wait.until("registry and Git server answer", look, _ANSWER_LIMIT, hint, said=said)
