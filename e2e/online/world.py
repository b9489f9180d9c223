"""The internet of the test: one registry behind every public name, and the hosts that programs are downloaded from.

Everything is in containers and on networks of the test; the one port on this machine is for filling the registry.
"""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from delivery import wait
from delivery.parts import docker, tar
from delivery.progress import phase
from e2e.online.index import Store

HERE = Path(__file__).resolve().parent
NAME = "delivery-online"
_PORT = 15555
# Registry in an image's name -> the host that Docker asks for it.
_REGISTRIES = {"docker.io": "registry-1.docker.io"}
_DOWNLOADS = ("dl.k8s.io", "get.helm.sh", "github.com")


@contextmanager
def world(folder: Path, registry_image: str, web_image: str, names: Mapping[str, str]) -> Iterator["World"]:
    """Run it while the block runs. `names` are the images that it must know, key -> name:tag."""
    hosts = sorted({_registry(name) for name in names.values()} | set(_DOWNLOADS))
    _certificates(folder, hosts)
    client = docker.client()
    try:
        remove(client)
        network = client.networks.create(NAME, driver="bridge")
        store = client.containers.create(
            registry_image,
            ["serve", "/etc/distribution/config.yml"],
            name=f"{NAME}-store",
            network=NAME,
            ports={"5000/tcp": ("127.0.0.1", _PORT)},
            volumes={f"{NAME}-store": {"bind": "/var/lib/registry", "mode": "rw"}},
        )
        network.disconnect(store)
        network.connect(store, aliases=["store"])
        config = {"etc/distribution/config.yml": (HERE / "images" / "registry.yml").read_bytes()}
        store.put_archive("/", tar.pack(config))
        store.start()
        web = client.containers.create(
            web_image,
            ["nginx", "-g", "daemon off;", "-c", "/etc/world/nginx.conf"],
            name=f"{NAME}-web",
            network=NAME,
        )
        files = {f"etc/world/{name}": (folder / name).read_bytes() for name in ("world.crt", "world.key")}
        files["etc/world/nginx.conf"] = (HERE / "world.nginx.conf").read_bytes()
        web.put_archive("/", tar.pack(files))
        web.start()
        yield World(client, web, hosts, folder / "ca.crt")
    finally:
        remove(client)
        client.close()


class World:
    """What the laptop sees of it: names, their address, and the authority that vouches for them."""

    def __init__(self, client: Any, web: Any, hosts: list[str], authority: Path) -> None:
        self._web = web
        self.hosts = hosts
        self.authority = authority
        self.store = Store(f"127.0.0.1:{_PORT}")

        def running() -> wait.Reached[str] | wait.Pending | wait.Failed:
            web.reload()
            if web.status == "exited":
                return wait.Failed(web.logs(tail=3).decode())
            address = web.attrs["NetworkSettings"]["Networks"][NAME]["IPAddress"]
            return wait.Reached(address) if address else wait.Pending(web.status)

        self.address = wait.until("the test's internet answers", running, 20, f"docker logs {NAME}-web")

    def publish(self, images: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
        """Push each local image under the name that the world knows; key -> NAME:TAG@DIGEST."""
        found = {}
        with phase("Filling the public registries") as progress:
            for key, local in images.items():
                progress.update(names[key])
                path, _, tag = names[key].rpartition(":")
                found[key] = f"{names[key]}@{self.store.push(local, _path(path), tag)}"
        return found

    def offer(self, files: Mapping[str, bytes]) -> None:
        """Put downloads there, as HOST/PATH -> content."""
        placed = {f"srv/downloads/{name}": content for name, content in files.items()}
        self._web.put_archive("/", tar.pack(placed))

    def log(self) -> str:
        """What was asked of it."""
        return str(self._web.logs().decode("utf-8", "replace"))


def remove(client: Any) -> None:
    """What a run made, also one that was killed; the images that were pushed stay in their volume."""
    for container in client.containers.list(all=True, filters={"name": f"^/{NAME}-(store|web|laptop)$"}):
        container.remove(force=True, v=True)
    for network in client.networks.list(names=[f"^{NAME}$"]):
        network.remove()


def _registry(name: str) -> str:
    first, slash, _ = name.partition("/")
    host = first if slash and ("." in first or ":" in first) else "docker.io"
    return _REGISTRIES.get(host, host)


def _path(name: str) -> str:
    """The repository's path at its registry: `debian` is `library/debian` at Docker's."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first):
        return rest
    return name if slash else f"library/{name}"


def _certificates(folder: Path, hosts: list[str]) -> None:
    """An authority of the test, and a certificate for every name, good for two days."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    names = ",".join(f"DNS:{host}" for host in hosts)
    # Python 3.13 takes no authority that does not say what its key is for.
    authority = ("-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=e2e-online authority")
    signs = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    leaf = ("-keyout", "world.key", "-out", "world.crt", "-subj", "/CN=e2e-online")
    by = ("-CA", "ca.crt", "-CAkey", "ca.key", "-addext", f"subjectAltName={names}")
    for command in (
        (*key, *authority, *signs),
        (*key, *leaf, *by, "-addext", "basicConstraints=critical,CA:FALSE"),
    ):
        subprocess.run(
            ["openssl", "req", "-x509", *command], cwd=folder, check=True, capture_output=True, timeout=60
        )
