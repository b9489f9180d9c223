"""The Docker daemon that answers: which one it is, and why one does not.

It is the one that the docker command (and so kind) talks to: DOCKER_HOST, else the docker command's own
context, else the usual socket.
"""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.context import ContextAPI
from docker.context.config import get_current_context_name
from docker.credentials.errors import StoreError
from docker.errors import APIError, DockerException
from docker.utils.config import find_config_file
from requests.exceptions import RequestException, Timeout
from urllib3.exceptions import HTTPError

from delivery.errors import PlatformError

# What docker-py lets through: its own errors, requests' and, while it reads a stream, urllib3's.
FAILURES = (DockerException, RequestException, HTTPError, StoreError)
_SOCKET = "unix:///var/run/docker.sock"
# A helper that is not installed: our error says it, once.
warnings.filterwarnings("ignore", "docker-credential-", UserWarning)
_HELPER = re.compile(r"docker-credential-[\w.-]+")


class DockerMissing(PlatformError):
    """No Docker daemon answers."""


class DockerForbidden(PlatformError):
    """A daemon is there, and this user may not talk to it."""


class DockerUnsupported(PlatformError):
    """Something answers that is not Docker on this machine."""


class LoginsUnreadable(PlatformError):
    """The logins of Docker's own configuration cannot be read."""


@dataclass(frozen=True)
class Endpoint:
    """Where the daemon is, and who says so."""

    url: str
    context: str  # the docker command's name for it; "default" is the usual socket, or DOCKER_HOST
    source: str

    @property
    def socket(self) -> Path | None:
        """The file behind it, where it is one."""
        return Path(self.url.removeprefix("unix://")) if self.url.startswith("unix://") else None

    def __str__(self) -> str:
        return f"{self.url} ({self.source})" if self.source else self.url


def endpoint() -> Endpoint:
    """The daemon's place, as the docker command finds it; DockerMissing for a context that is not there."""
    if host := os.environ.get("DOCKER_HOST"):
        return Endpoint(host, "default", "DOCKER_HOST")
    name = os.environ.get("DOCKER_CONTEXT") or get_current_context_name() or "default"
    if name == "default":
        return Endpoint(_SOCKET, name, "")
    try:
        context = ContextAPI.get_context(name)
        url = str((context and context.Host) or "")
    except Exception as error:  # docker-py raises the bare class for a broken file
        context, url = None, ""
        why = one_line(str(error))
    else:
        why = "there is no such context" if context is None else "it names no Docker daemon"
    if not url:
        raise DockerMissing(
            f"docker context {name} cannot be used: {why}",
            "choose one: docker context ls, docker context use",
        )
    if url.startswith("ssh://"):
        raise DockerUnsupported(
            f"docker context {name} is on another machine, {url}: the cluster's ports would be there",
            "choose a Docker of this machine: docker context use default",
        )
    return Endpoint(url, name, f"docker context {name}")


def client(seconds: int = 60) -> docker.DockerClient:
    """The daemon that answers; else DockerMissing, DockerForbidden, DockerUnsupported or LoginsUnreadable."""
    where = endpoint()
    try:
        found = docker.from_env(timeout=seconds)
        about = found.version()
    except (*FAILURES, ValueError) as error:
        raise _unreachable(where, error, seconds) from None
    if any("podman" in str(part.get("Name")).lower() for part in about.get("Components") or ()):
        found.close()
        raise DockerUnsupported(
            f"podman answers at {where}, and podman is not supported",
            "install Docker Engine, Docker Desktop or colima, or point DOCKER_HOST to the one there is",
        )
    return found


@contextmanager
def failing(what: str, kind: type[PlatformError], hint: str) -> Iterator[None]:
    """Say `what` failed, with Docker's reason, as an error of `kind`; broken logins as what they are."""
    try:
        yield
    except FAILURES as error:
        raise logins(error) or kind(f"{what}: {short(error)}", hint) from None


def typed(error: BaseException) -> PlatformError | None:
    """An error of Docker's that nobody expected, as one of ours; None when it is not Docker's."""
    if not isinstance(error, FAILURES):
        return None
    return logins(error) or PlatformError(
        f"docker: {short(error)}", "is Docker well? docker info; then again"
    )


def logins(error: BaseException, config: str = "") -> LoginsUnreadable | None:
    """The error of a credential helper that does not work, told from Docker's other errors.

    `config` is the file that names the helper, where it is not docker's own.
    """
    text = str(error)
    helper = _HELPER.search(text)
    told = (
        "Credentials store error" in text or "error getting credentials" in text
    )  # docker-py, docker itself
    if not told and not isinstance(error, StoreError):
        return None
    return LoginsUnreadable(
        f"{helper[0] if helper else 'the credential helper'}, which {config or _config()} names, does not work: "
        f"{_inside(text)}",
        f"install it, or remove credsStore and credHelpers from {config or _config()} and log in again: docker login",
    )


def words(error: Any) -> str:
    """Docker's own words, all of them."""
    return str(getattr(error, "explanation", None) or error)


def short(error: Any) -> str:
    """Docker's reason, in one line."""
    return one_line(words(error))


def one_line(text: str) -> str:
    """A text as one line that a terminal can show; of a long one both ends, for the cause comes last."""
    line = " ".join(str(text).split())
    return line if len(line) <= 300 else f"{line[:120]} … {line[-177:]}"


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that brought it about."""
    # requests and urllib3 hide the operating system's error among their arguments.
    seen: list[BaseException] = [error]
    for one in seen:
        yield one
        inside = [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
        seen += [more for more in inside if isinstance(more, BaseException) and more not in seen]


def _unreachable(where: Endpoint, error: Exception, seconds: int) -> PlatformError:
    inside = list(causes(error))
    if any(isinstance(cause, PermissionError) for cause in inside):
        return DockerForbidden(
            f"Docker is there, but this user may not use {where.socket or where}",
            f"let the user into its group, then log out and in again: sudo usermod -aG {_group(where)} $USER",
        )
    if broken := logins(error):
        return broken
    if isinstance(error, ValueError) or type(error).__name__ == "InvalidConfigFile":
        return LoginsUnreadable(f"{_config()} cannot be read: {short(error)}", "mend it: docker login")
    if any(isinstance(cause, Timeout) for cause in inside):
        return DockerMissing(f"Docker at {where} does not answer within {seconds} s", "start it again")
    if any(isinstance(cause, APIError) for cause in inside):
        return DockerMissing(f"Docker at {where} answers with an error: {short(error)}", _start(where))
    return DockerMissing(f"no Docker daemon answers at {where}: {_reason(inside)}", _start(where))


def _start(where: Endpoint) -> str:
    name = f"{where.context} {where.url}"
    if "desktop" in name or ".docker/run" in name:
        return "start Docker Desktop, and wait until it says that it runs"
    if "colima" in name:
        return "start it: colima start"
    if where.source:
        return "start that Docker, or choose another: docker context ls"
    return (
        "`make up` starts one on Debian and Ubuntu as root; elsewhere install Docker and start it "
        "(Docker Desktop, colima start, or: sudo systemctl start docker)"
    )


def _reason(causes: list[BaseException]) -> str:
    told = next((cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror), None)
    return str(told) if told else short(causes[0])


def _group(where: Endpoint) -> str:
    try:
        return where.socket.group() if where.socket else "docker"
    except (OSError, KeyError):
        return "docker"


def _config() -> str:
    return find_config_file() or "~/.docker/config.json"


def _inside(text: str) -> str:
    inner = re.search(r"""Error\((['"])(.*)\1\)""", text)
    return one_line(inner[2] if inner else text)
