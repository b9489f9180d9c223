"""The logins of a local site's registry and Git server: made once at `up`, kept in its state folder.

A login for each role: who has one can write what that role writes, and read everything.
"""

import base64
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from delivery.files import write_private
from delivery.parts.logins import Login
from delivery.pipeline import BUILD
from local.cluster import Cluster

READER = "only_reads"  # of the registry; nobody who signs can be called so
DELIVERY, DEVELOPER = "delivery", "developer"  # of the Git server: the verbs, and people


@dataclass(frozen=True)
class Credentials:
    """Who may push, by their names: images and statements to the registry, commits to the Git server."""

    registry: Mapping[str, Login]
    git: Mapping[str, Login]


def create(cluster: Cluster) -> Credentials:
    """Make the logins that are missing, or return those already made; safe to repeat, also after being killed."""
    file, signers = cluster.state / "credentials.json", cluster.pipeline.signed_by
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        known = {
            server: {name: Login(**login) for name, login in data[server].items()}
            for server in ("registry", "git")
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        known = {"registry": {}, "git": {}}
    made = Credentials(
        registry=_logins((READER, *signers), known["registry"]),
        git=_logins((DELIVERY, DEVELOPER), known["git"]),
    )
    write_private(file, json.dumps(asdict(made), indent=2) + "\n")
    for name, store in (
        (DELIVERY, cluster.git_credentials),
        (DEVELOPER, cluster.developers_git_credentials),
    ):
        login = made.git[name]
        write_private(store, f"http://{login.username}:{login.password}@localhost:{cluster.git}\n")
    for name, login in made.registry.items():
        folder = cluster.docker_config if name == READER else cluster.docker_config_of(name)
        word = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
        config = {"auths": {cluster.registry_host: {"auth": word}}}
        write_private(folder / "config.json", json.dumps(config) + "\n")
    return made


def writers(cluster: Cluster) -> list[tuple[str, str]]:
    """Which login writes which repository of the registry: the build the image, each signer its own statements."""
    image = cluster.pipeline.chart.release
    return [(BUILD, image), *((name, f"{image}/{name}") for name in cluster.pipeline.signed_by)]


def _logins(names: Iterable[str], known: Mapping[str, Login]) -> dict[str, Login]:
    return {name: known.get(name) or Login(name, secrets.token_urlsafe(24)) for name in names}
