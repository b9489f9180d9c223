"""Who we are in a registry, as docker itself knows it: its config.json, and the credential helpers that this names."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker import auth
from docker.errors import DockerException

from delivery.parts import daemon
from delivery.parts.daemon import LoginsUnreadable
from delivery.parts.heard import heard

# A helper may ask the person at the keyboard, who may not be there.
SECONDS = 60.0


@dataclass(frozen=True)
class Login:
    """One user of one server; its text form never shows the password."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.username!r}, …)"


@dataclass(frozen=True)
class Lookup:
    """A login, or none, and who was asked for it: a file, or a helper that a file names."""

    login: Login | None
    asked: str

    @property
    def for_docker(self) -> dict[str, str]:
        """The same as docker's API takes it; empty for nobody in particular."""
        return {"username": self.login.username, "password": self.login.password} if self.login else {}


def find(host: str, folder: Path | None = None) -> Lookup:
    """The login of a registry; LoginsUnreadable names the file or the helper that does not work.

    `folder` has docker's config.json; without one it is DOCKER_CONFIG, else ~/.docker.
    """
    file = (folder or Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")) / "config.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        config = auth.load_config(config_dict=settings) if settings else auth.AuthConfig({})
    except FileNotFoundError:
        return Lookup(None, f"{file} (which is not there)")
    except (OSError, ValueError, AttributeError, DockerException) as error:
        raise LoginsUnreadable(
            f"{file} cannot be read: {daemon.short(error)}", "mend it: docker login"
        ) from None
    helper = config.get_credential_store(host)
    asked = f"docker-credential-{helper} (named in {file})" if helper else str(file)
    try:
        [found] = heard(lambda: [config.resolve_authconfig(host)], SECONDS)
    except TimeoutError:
        raise LoginsUnreadable(
            f"{asked} does not answer within {SECONDS:.0f} s",
            f"does it wait for somebody? ask it by hand: echo {host} | docker-credential-{helper} get",
        ) from None
    except daemon.FAILURES as error:
        raise daemon.logins(error, str(file)) or LoginsUnreadable(
            f"{asked} does not work: {daemon.short(error)}", f"log in again: docker login {host}"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise LoginsUnreadable(
            f"{asked} gave no login: {type(error).__name__}", f"log in again: docker login {host}"
        ) from None
    return Lookup(_login(host, asked, found or {}), asked)


def _login(host: str, asked: str, found: dict[str, Any]) -> Login | None:
    if "IdentityToken" in found:
        raise LoginsUnreadable(
            f"{asked} has an identity token for {host}, which cannot be used here",
            f"log in with a user and an access token: docker login {host}",
        )
    name, password = (found.get(key) or found.get(key.lower()) for key in ("Username", "Password"))
    return Login(str(name), str(password)) if name and password else None
