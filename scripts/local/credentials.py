"""The passwords of a local site's registry and Git server: made once at `up`, kept in its state folder."""

import base64
import json
import secrets
from dataclasses import asdict, dataclass

from delivery.files import write_private
from delivery.parts.logins import Login
from local.cluster import Cluster


@dataclass(frozen=True)
class Credentials:
    """Who may push: images to the registry, commits to the Git server."""

    registry: Login
    git: Login


def create(cluster: Cluster) -> Credentials:
    """Make the credentials, or return those already made; safe to repeat, also after being killed."""
    file = cluster.state / "credentials.json"
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        made = Credentials(registry=Login(**data["registry"]), git=Login(**data["git"]))
    except (OSError, ValueError, KeyError, TypeError):
        made = Credentials(
            registry=Login("delivery", secrets.token_urlsafe(24)),
            git=Login("delivery", secrets.token_urlsafe(24)),
        )
    write_private(file, json.dumps(asdict(made), indent=2) + "\n")
    git = made.git
    write_private(cluster.git_credentials, f"http://{git.username}:{git.password}@localhost:{cluster.git}\n")
    word = base64.b64encode(f"{made.registry.username}:{made.registry.password}".encode()).decode()
    config = json.dumps({"auths": {cluster.registry_host: {"auth": word}}}) + "\n"
    write_private(cluster.docker_config / "config.json", config)
    return made
