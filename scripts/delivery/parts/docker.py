"""The Docker daemon: build with the classic builder, push and read the digest that this push reports."""

import re
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound
from requests.exceptions import RequestException

from delivery.errors import PlatformError
from delivery.parts.credentials import Login

DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


class DockerMissing(PlatformError):
    """No Docker daemon answers."""


class BuildFailed(PlatformError):
    """The image did not build."""


class PushFailed(PlatformError):
    """The registry did not take the image."""


def client(seconds: int = 60) -> docker.DockerClient:
    """The daemon that answers (DOCKER_HOST is respected), or DockerMissing."""
    try:
        found = docker.from_env(timeout=seconds)
        found.ping()
    except (DockerException, RequestException) as error:
        raise DockerMissing(
            f"no Docker daemon answers: {_short(error)}",
            "`make up` starts one on Debian and Ubuntu as root; elsewhere install and start Docker",
        ) from None
    return found


def build(
    context: bytes,
    tag: str,
    arguments: Mapping[str, str],
    log: Callable[[str], None] = lambda line: None,
    *,
    target: str = "",
) -> str:
    """Build a tar file of a folder, up to the stage `target` if named; its log goes to `log` line by line.

    Returns the image's id.
    """
    daemon = client(seconds=900)
    identity = ""
    try:
        for message in daemon.api.build(
            fileobj=BytesIO(context),
            custom_context=True,
            tag=tag,
            buildargs=dict(arguments),
            target=target,
            rm=True,
            forcerm=True,
            decode=True,
        ):
            if "error" in message:
                raise BuildFailed(
                    f"docker build {tag}: {_one_line(message['error'])}",
                    "mend the Dockerfile or what it installs, commit, and build again",
                )
            identity = message.get("aux", {}).get("ID", identity)
            for line in str(message.get("stream", "")).splitlines():
                if line.strip():
                    log(line)
    except ImageNotFound as error:
        raise BuildFailed(
            f"docker build {tag}: {_short(error)}", "make the base images first: delivery up"
        ) from None
    except (APIError, RequestException) as error:
        raise BuildFailed(f"docker build {tag}: {_short(error)}", "is Docker well? docker info") from None
    finally:
        daemon.close()
    if not identity:
        raise BuildFailed(f"docker build {tag} ended without an image", "is Docker well? docker info")
    return identity


def image_id(name: str) -> str:
    """The id of an image that this daemon has; PlatformError when it has none of that name."""
    daemon = client()
    try:
        return str(daemon.images.get(name).id)
    except (ImageNotFound, APIError, RequestException) as error:
        raise PlatformError(f"docker image {name}: {_short(error)}", "make it: delivery up") from None
    finally:
        daemon.close()


def push(repository: str, tag: str, login: Login) -> str:
    """Push repository:tag; the digest, as this very push reports it and from nowhere else."""
    daemon = client(seconds=300)
    digest = ""
    try:
        for message in daemon.api.push(
            repository,
            tag=tag,
            stream=True,
            decode=True,
            auth_config={"username": login.username, "password": login.password},
        ):
            if "error" in message:
                raise PushFailed(
                    f"docker push {repository}:{tag}: {_one_line(message['error'])}",
                    "is the registry up? delivery doctor",
                )
            digest = message.get("aux", {}).get("Digest", digest)
    except (APIError, RequestException) as error:
        raise PushFailed(
            f"docker push {repository}:{tag}: {_short(error)}", "is the registry up? delivery doctor"
        ) from None
    finally:
        daemon.close()
    if not DIGEST.match(digest):
        raise PushFailed(f"docker push {repository}:{tag} reported no digest", "push again: delivery build")
    return digest


def _short(error: Any) -> str:
    return _one_line(getattr(error, "explanation", None) or str(error))


def _one_line(text: str) -> str:
    return " ".join(str(text).split())[:300]
