"""The Docker daemon: build an image, pull one, push one and read the digest that this push reports."""

import re
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from docker.errors import APIError, NotFound

from delivery.errors import PlatformError
from delivery.parts import buildkit
from delivery.parts.daemon import (
    FAILURES,
    DockerForbidden,
    DockerMissing,
    client,
    failing,
    logins,
    one_line,
    short,
)
from delivery.parts.logins import Lookup, find
from delivery.parts.pulling import CertificateUnknown, PullFailed, certificate_unknown, error_in, pull
from delivery.site import ImageRepository

__all__ = [
    "Base",
    "BuildFailed",
    "CertificateUnknown",
    "DockerForbidden",
    "DockerMissing",
    "PullFailed",
    "PushFailed",
    "base",
    "build",
    "client",
    "labels",
    "pull",
    "push",
]

DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_WELL = "is Docker well? docker info"
_UP = "is the registry up? delivery doctor"
_LOGIN = re.compile(r"denied|unauthorized|authentication required|no basic auth|forbidden|\b40[13]\b", re.I)
_CONTAINERD = "io.containerd.snapshotter.v1"


class BuildFailed(PlatformError):
    """The image did not build."""


class PushFailed(PlatformError):
    """The registry did not take the image."""


@dataclass(frozen=True)
class Base:
    """What an image that others are built from is known by.

    `of` says what the digest is of: a `manifest` (or an index of them), as registries count, or the `config`
    alone, which is all that Docker's classic store knows of an image that it built itself; else it is `unknown`.
    """

    digest: str
    of: str
    pinned: bool


def build(
    context: bytes,
    tag: str,
    arguments: Mapping[str, str],
    log: Callable[[str], None] = lambda line: None,
    *,
    target: str = "",
    labels: Mapping[str, str] | None = None,
) -> None:
    """Build a tar file of a folder, up to the stage `target` if named; its log goes to `log` line by line.

    The image has these labels besides the Dockerfile's own, and instead of those.

    BuildKit does it where docker has buildx, else Docker's classic builder; the image is the daemon's either way.
    """
    if not buildkit.chosen():
        return _classic(context, tag, arguments, log, target, labels or {})
    client().close()  # it says better than buildx why there is none
    try:
        buildkit.build(context, tag, arguments, log, target, labels or {})
    except buildkit.Unsolved as error:
        raise BuildFailed(f"docker build {tag}: {error}", _hint(str(error))) from None


def _classic(
    context: bytes,
    tag: str,
    arguments: Mapping[str, str],
    log: Callable[[str], None],
    target: str,
    labels: Mapping[str, str],
) -> None:
    daemon = client(seconds=900)
    identity, step = "", ""
    try:
        for message in daemon.api.build(
            fileobj=BytesIO(context),
            custom_context=True,
            tag=tag,
            buildargs=dict(arguments),
            use_config_proxy=True,  # as the docker command does
            target=target,
            labels=dict(labels),
            rm=True,
            forcerm=True,
            decode=True,
        ):
            if error := error_in(message):
                said = one_line(": ".join(filter(None, [step, error])))
                raise BuildFailed(f"docker build {tag}: {said}", _hint(said))
            identity = message.get("aux", {}).get("ID", identity)
            for line in str(message.get("stream", "")).splitlines():
                if line.strip():
                    log(line)
                if line.startswith("Step "):
                    step = line.partition(" : ")[2]
    except FAILURES as error:
        if isinstance(error, APIError) and error.is_client_error():  # it understood, and will not
            raise BuildFailed(f"docker build {tag}: {short(error)}", _hint(short(error))) from None
        raise logins(error) or BuildFailed(f"docker build {tag}: {short(error)}", _WELL) from None
    finally:
        daemon.close()
    if not identity:
        raise BuildFailed(f"docker build {tag} ended without an image", _WELL)


def _hint(said: str) -> str:
    if re.search(r"^(FROM|load metadata for) |no such image|pull access denied", said, re.I):
        return "is the name of the base image right, and in reach? `delivery up` makes those of a local site"
    return "mend the Dockerfile or what it installs, commit, and build again"


def base(name: str) -> Base:
    """What a base image is known by; without a digest where the daemon keeps none (BuildKit pulls for itself).

    An image's Id is of another thing in each of Docker's stores, so it is never given without saying of what.
    """
    if (pin := name.partition("@")[2]) and DIGEST.match(pin):
        return Base(pin, "manifest", pinned=True)
    with closing(client()) as daemon, failing(f"docker image {name}", PlatformError, _WELL):
        try:
            image: Mapping[str, Any] = daemon.images.get(name).attrs
        except NotFound:
            return Base("", "unknown", pinned=False)
        store = dict(daemon.info().get("DriverStatus") or ()).get("driver-type")
    repository = re.sub(r"^docker\.io/(library/)?|:[^/:]+$", "", name)  # as Docker lists it
    known = [
        one.partition("@")[2] for one in image.get("RepoDigests") or () if one.partition("@")[0] == repository
    ]
    if store == _CONTAINERD or not known:
        return Base(str(image["Id"]), "manifest" if store == _CONTAINERD else "config", pinned=False)
    return Base(known[0], "manifest", pinned=False)


def labels(name: str) -> dict[str, str]:
    """The labels of an image of this daemon."""
    with closing(client()) as daemon, failing(f"docker image {name}", PlatformError, _WELL):
        return dict(daemon.images.get(name).labels)


def push(repository: ImageRepository, tag: str, said: Callable[[str], None] = lambda sent: None) -> str:
    """Push repository:tag; the digest, as this very push reports it and from nowhere else.

    `said` is told how much the registry has, such as `2 of 5 layers, 34 MB sent`.

    Docker's classic store reports it in a message of its own and as a line for people, containerd's store in
    that line alone: both are read, and one digest must come of it.
    """
    what = f"docker push {repository.here}:{tag}"
    line = re.compile(rf"^{re.escape(tag)}: digest: (\S+) size: \d+$")
    login = find(repository.host, repository.docker_config)
    digests: dict[str, None] = {}
    sent = _Sent()
    with closing(client(seconds=300)) as daemon, failing(what, PushFailed, _UP):
        for message in daemon.api.push(
            repository.here, tag=tag, stream=True, decode=True, auth_config=login.for_docker
        ):
            if error := error_in(message):
                raise _push_failed(what, one_line(error), repository, login)
            if reported := (message.get("aux") or {}).get("Digest"):
                digests[str(reported)] = None
            if found := line.match(str(message.get("status") or "")):
                digests[found[1]] = None
            if message.get("id"):
                said(sent.after(message))
    if len(digests) > 1:
        raise PushFailed(
            f"{what} reported several digests: {', '.join(digests)}", "push again: delivery build"
        )
    [digest] = digests or [""]
    if not DIGEST.match(digest):
        raise PushFailed(
            f"{what} reported {digest!r}, which is no digest" if digest else f"{what} reported no digest",
            "push again: delivery build",
        )
    return digest


class _Sent:
    """How much of an image the registry has, by what a push says of its layers."""

    def __init__(self) -> None:
        self._layers: dict[str, bool] = {}  # whether the registry has it
        self._bytes: dict[str, int] = {}

    def after(self, message: Mapping[str, Any]) -> str:
        """The same after one more message, in words."""
        layer, status = str(message["id"]), str(message.get("status") or "")
        there = status.startswith(("Pushed", "Layer already exists", "Mounted from"))
        self._layers[layer] = there or self._layers.get(layer, False)
        self._bytes[layer] = max(
            int((message.get("progressDetail") or {}).get("current") or 0), self._bytes.get(layer, 0)
        )
        done, megabytes = sum(self._layers.values()), sum(self._bytes.values()) / 1e6
        return f"{done} of {len(self._layers)} layers" + (f", {megabytes:.0f} MB sent" if megabytes else "")


def _push_failed(what: str, said: str, repository: ImageRepository, login: Lookup) -> PlatformError:
    if re.search(r"x509|certificate|tls: ", said, re.I):
        return certificate_unknown(repository.host, said)
    if _LOGIN.search(said):
        user = (
            f"{login.login.username}, by {login.asked}"
            if login.login
            else f"nobody: no login in {login.asked}"
        )
        return PushFailed(f"{what}: {said} (asked as {user})", repository.log_in)
    return PushFailed(f"{what}: {said}", _UP)
