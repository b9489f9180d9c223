"""The second site's registry and Git server: TLS under its own authority, a token for each, nothing without one.

Two containers on the Docker network of the clusters, with the names that nodes, pods and this host know them by. No
port of this machine is taken.
"""

import base64
import hashlib
import json
import secrets
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from delivery import wait
from delivery.parts import docker, tar
from e2e.second import certificates, names
from local import images

NAME = "second-site"
LABEL = f"delivery.{NAME}"
_BACK = f"{NAME}-registry"  # a network that nobody but the front is on
_CONFIGURATION = Path(__file__).with_name("servers.nginx.conf")
_REGISTRY = b"""
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: /var/lib/registry}, delete: {enabled: true}}
http: {addr: ":5000", relativeurls: true}
"""


@dataclass(frozen=True)
class Servers:
    """The servers of the site, and the passwords that were made for them."""

    files: certificates.Files
    address: str = ""
    registry: dict[str, str] = field(
        default_factory=dict, repr=False
    )  # user -> password: `ci` pushes, `cluster` pulls
    git: dict[str, str] = field(
        default_factory=dict, repr=False
    )  # user -> token: `oauth2` pushes, `reader` reads

    def docker_config(self, folder: Path, user: str, password: str | None = None) -> Path:
        """A folder as `docker login` leaves it: one login of the registry."""
        word = base64.b64encode(f"{user}:{password or self.registry[user]}".encode()).decode()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"auths": {names.REGISTRY: {"auth": word}}}))
        return folder


def start(network: str, folder: Path, app: str) -> Servers:
    """Start both on a Docker network; returns when both answer under their names, to whom they should alone."""
    site_names = [names.REGISTRY, names.LOGIN, names.GIT]
    files = certificates.make(folder, site_names)
    registry = {user: secrets.token_urlsafe(24) for user in ("ci", "cluster")}
    git = {user: secrets.token_urlsafe(24) for user in ("oauth2", "reader")}
    client = docker.client()
    try:
        client.networks.create(_BACK, driver="bridge", internal=True, labels={LABEL: "yes"})
        store = client.containers.create(
            images.source().registry,
            ["serve", "/etc/distribution/config.yml"],
            name=f"{NAME}-registry",
            network=_BACK,
            labels={LABEL: "yes"},
        )
        store.put_archive("/", tar.pack({"etc/distribution/config.yml": _REGISTRY}))
        front = client.containers.create(
            images.source().gateway.tag,
            name=NAME,
            environment={"REPOSITORY": f"acme/{app}.git"},
            network=_BACK,
            labels={LABEL: "yes"},
        )
        client.networks.get(network).connect(front, aliases=site_names)
        front.put_archive("/etc/nginx", tar.pack({"nginx.conf": _CONFIGURATION.read_bytes()}))
        front.put_archive("/etc/nginx", tar.pack(_front(files, registry, git)))
        store.start()
        front.start()
        front.reload()
        address = front.attrs["NetworkSettings"]["Networks"][network]["IPAddress"]
    finally:
        client.close()
    return Servers(files, address, registry, git)


def wait_for_answers(servers: Servers, app: str) -> None:
    """Return when the token server, the registry and Git answer under their names."""
    user, password = "ci", servers.registry["ci"]
    trusted = ssl.create_default_context(cafile=servers.files.authority)
    with httpx.Client(verify=trusted, timeout=5, trust_env=False) as http:

        def look() -> wait.Reached[None] | wait.Pending:
            try:
                token = http.get(f"https://{names.LOGIN}/token", auth=(user, password))
                bearer = {"Authorization": f"Bearer {token.json().get('token')}"}
                asked = {
                    "the registry": http.get(f"https://{names.REGISTRY}/v2/", headers=bearer),
                    "Git": http.get(
                        f"https://{names.GIT}/acme/{app}/info/refs?service=git-upload-pack",
                        auth=("reader", servers.git["reader"]),
                    ),
                }
            except (httpx.HTTPError, ValueError) as error:
                return wait.Pending(f"{type(error).__name__}: {error}")
            wrong = [
                f"{who} says {said.status_code}" for who, said in asked.items() if said.status_code != 200
            ]
            return wait.Pending("; ".join(wrong)) if wrong else wait.Reached(None)

        wait.until("the second site's servers answer", look, 20, "docker logs second-site")


def remove() -> None:
    """Remove both with their data."""
    client = docker.client()
    try:
        for container in client.containers.list(all=True, filters={"label": LABEL}):
            container.remove(force=True, v=True)
        for network in client.networks.list(filters={"label": LABEL}):
            network.remove()
    finally:
        client.close()


def _front(files: certificates.Files, registry: dict[str, str], git: dict[str, str]) -> dict[str, bytes]:
    # As opaque to clients as anybody's: they pass it on.
    tokens = {user: secrets.token_urlsafe(32) for user in registry}
    return {
        "site/servers.pem": files.servers.read_bytes(),
        "site/registry.htpasswd": _htpasswd(registry),
        "site/git.htpasswd": _htpasswd(git),
        "site/tokens.conf": "".join(f'"Bearer {word}" {user};\n' for user, word in tokens.items()).encode(),
        **{
            f"site/{user}.json": json.dumps({"token": word, "expires_in": 3600}).encode()
            for user, word in tokens.items()
        },
    }


def _htpasswd(users: dict[str, str]) -> bytes:
    lines = []
    for user, password in users.items():
        salt = secrets.token_bytes(8)
        digest = hashlib.sha1(password.encode() + salt, usedforsecurity=False).digest()
        lines.append(f"{user}:{{SSHA}}{base64.b64encode(digest + salt).decode()}\n")
    return "".join(lines).encode()
