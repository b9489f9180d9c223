"""The passwords of a local cluster's registry and Git server: made once at `up`, kept in its state folder."""

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from delivery.errors import PlatformError
from delivery.pipeline import Cluster


@dataclass(frozen=True)
class Login:
    """One user of one server; its text form never shows the password."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.username!r}, …)"


@dataclass(frozen=True)
class Credentials:
    """Who may push: images to the registry, commits to the Git server."""

    registry: Login
    git: Login


def load(cluster: Cluster) -> Credentials:
    """Those that `delivery up` made; PlatformError when there are none."""
    file = _file(cluster)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return Credentials(registry=Login(**data["registry"]), git=Login(**data["git"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise PlatformError(
            f"cluster {cluster.name} is not up: {file} {'is missing' if missing else 'cannot be read'}",
            "start it: delivery up",
        ) from None


def create(cluster: Cluster) -> Credentials:
    """Make the credentials, or return those already made; safe to repeat, also after being killed."""
    try:
        credentials = load(cluster)
    except PlatformError:
        credentials = Credentials(
            registry=Login("delivery", secrets.token_urlsafe(24)),
            git=Login("delivery", secrets.token_urlsafe(24)),
        )
    write_private(_file(cluster), json.dumps(asdict(credentials), indent=2) + "\n")
    git = credentials.git
    write_private(cluster.git_credentials, f"http://{git.username}:{git.password}@localhost:{cluster.git}\n")
    return credentials


def docker_config(cluster: Cluster) -> Path:
    """A folder for DOCKER_CONFIG, with the login of this cluster's registry and of no other."""
    login = load(cluster).registry
    word = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    text = json.dumps({"auths": {cluster.registry_host: {"auth": word}}}) + "\n"
    file = cluster.state / "docker" / "config.json"
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        write_private(file, text)
    return file.parent


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner reads (0600, in a 0700 folder), whole or not at all."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.parent.chmod(0o700)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(
        os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as out:
        out.write(text)
    temporary.replace(file)


def _file(cluster: Cluster) -> Path:
    return cluster.state / "credentials.json"
