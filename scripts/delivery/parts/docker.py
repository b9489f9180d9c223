"""The Docker daemon: build with the classic builder, push and read the digest that this push reports."""

import re
from collections.abc import Callable, Mapping
from io import BytesIO

from docker.errors import ImageNotFound

from delivery.errors import PlatformError
from delivery.parts.credentials import Login
from delivery.parts.daemon import FAILURES, DockerForbidden, DockerMissing, client, logins, one_line, short
from delivery.parts.pulling import PullFailed, pull

__all__ = [
    "BuildFailed",
    "DockerForbidden",
    "DockerMissing",
    "PullFailed",
    "PushFailed",
    "build",
    "client",
    "image_id",
    "pull",
    "push",
]

DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


class BuildFailed(PlatformError):
    """The image did not build."""


class PushFailed(PlatformError):
    """The registry did not take the image."""


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
                    f"docker build {tag}: {one_line(message['error'])}",
                    "mend the Dockerfile or what it installs, commit, and build again",
                )
            identity = message.get("aux", {}).get("ID", identity)
            for line in str(message.get("stream", "")).splitlines():
                if line.strip():
                    log(line)
    except ImageNotFound as error:
        raise BuildFailed(
            f"docker build {tag}: {short(error)}", "make the base images first: delivery up"
        ) from None
    except FAILURES as error:
        raise logins(error) or BuildFailed(
            f"docker build {tag}: {short(error)}", "is Docker well? docker info"
        ) from None
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
    except FAILURES as error:
        raise PlatformError(f"docker image {name}: {short(error)}", "make it: delivery up") from None
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
                    f"docker push {repository}:{tag}: {one_line(message['error'])}",
                    "is the registry up? delivery doctor",
                )
            digest = message.get("aux", {}).get("Digest", digest)
    except FAILURES as error:
        raise PushFailed(
            f"docker push {repository}:{tag}: {short(error)}", "is the registry up? delivery doctor"
        ) from None
    finally:
        daemon.close()
    if not DIGEST.match(digest):
        raise PushFailed(f"docker push {repository}:{tag} reported no digest", "push again: delivery build")
    return digest
