"""Where a team's Git and image repositories are, as they were typed or as they follow from each other."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from delivery.errors import BadInput
from delivery.site import Name

_SSH = re.compile(r"([\w.-]+)@([\w.-]+):(?!//)(\S+)")  # git@github.com:acme/order-desk.git
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[0-9]{1,5})?")
_SEGMENT = re.compile(
    r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
)  # of a repository, as the OCI distribution specification says
_LOOPBACK = re.compile(r"(localhost|.*\.localhost|127\.[0-9.]+|0\.0\.0\.0|\[?::1\]?)(:[0-9]+)?")
# A registry that gives nobody a repository at its top, and where a forge keeps the images of what it hosts.
_NEEDS_OWNER = frozenset(("docker.io", "ghcr.io", "quay.io", "registry.gitlab.com"))
_BESIDE = {"github.com": "ghcr.io", "gitlab.com": "registry.gitlab.com"}


@dataclass(frozen=True)
class GitAddress:
    """A Git repository on a server."""

    url: str
    host: str
    path: tuple[str, ...]

    @property
    def owner(self) -> str:
        """The organisation that it belongs to; empty where the server has none."""
        return self.path[0] if len(self.path) > 1 else ""

    @property
    def repository(self) -> str:
        """What it is called there."""
        return self.path[-1].removesuffix(".git")

    @property
    def registry(self) -> str:
        """Where its forge keeps images; empty where nobody knows."""
        beside = _BESIDE.get(self.host)
        return "/".join((beside, *self.path[:-1])).lower() if beside and self.owner else ""


def git(url: str) -> GitAddress:
    """A Git URL, checked: https or ssh, without a password in it, on a server that Argo CD can reach too."""
    shown = re.sub(r"//[^@/]*@", "//", url)  # never a password in a message
    hint = "such as https://github.com/acme/order-desk or git@github.com:acme/order-desk.git: --git"
    if found := _SSH.fullmatch(url):
        host, path = found[2], found[3]
    else:
        try:
            parts = urlsplit(url)
            host, path = parts.hostname or "", parts.path
            _ = parts.port
        except ValueError:
            raise BadInput(f"{shown!r} is not a Git URL", hint) from None
        if parts.scheme not in ("https", "ssh"):
            raise BadInput(f"{shown!r} is not a Git URL with https or ssh", hint)
        if parts.password or (parts.username and parts.scheme == "https"):
            raise BadInput(
                f"{shown} came with a login in it: pipeline.yaml is read by everybody",
                "leave it out; git's own helpers know it, or DELIVERY_GIT_TOKEN",
            )
        if parts.query or parts.fragment:
            raise BadInput(f"{shown!r} is not a Git URL: it has a query", hint)
    segments = tuple(part for part in path.split("/") if part)
    if not host or not segments or not re.fullmatch(r"[\w.~%+-]+(/[\w.~%+-]+)*", "/".join(segments)):
        raise BadInput(f"{shown!r} is not a Git URL: it needs a host and a repository", hint)
    if _LOOPBACK.fullmatch(host):
        raise BadInput(f"{shown} is this machine: Argo CD cannot reach it there", hint)
    return GitAddress(url.rstrip("/"), host.lower(), segments)


def image(registry: str, name: str) -> str:
    """The image repository of `name` in a registry: under its path, or that path itself where it ends in the name."""
    hint = "such as ghcr.io/acme, docker.io/acme or 1234.dkr.ecr.eu-west-1.amazonaws.com: --registry"
    host, *path = registry.rstrip("/").split("/")
    if "://" in registry:
        raise BadInput(f"{registry!r} is a URL: a registry is named by its host alone", hint)
    if not _HOST.fullmatch(host) or not ("." in host or ":" in host or host == "localhost"):
        raise BadInput(f"{registry!r} does not begin with the host of a registry", hint)
    if _LOOPBACK.fullmatch(host):
        raise BadInput(f"{registry} is this machine: a cluster's nodes cannot pull from it", hint)
    for segment in path:
        if not _SEGMENT.fullmatch(segment):
            raise BadInput(
                f"{registry!r}: registries take no {segment!r} in a path (a-z, 0-9, and . _ - between)", hint
            )
    if not path and host in _NEEDS_OWNER:
        raise BadInput(f"{host} has no repositories at its top", hint)
    whole = "/".join((host, *path) if path[-1:] == [name] else (host, *path, name))
    if len(whole) > 255:
        raise BadInput(f"{whole[:60]}… is longer than the 255 characters that clients take", hint)
    return whole


def site(git: GitAddress, image: str) -> str:
    """What to call the site: the organisation, else the first word of the image's path or of the host."""
    host, *path = image.split("/")
    words = (path[0] if len(path) > 1 else "", git.host, host)
    return slug(git.owner or next(filter(None, words)).partition(".")[0])


def slug(text: str) -> str:
    """A word as a name: small letters, digits and dashes; empty where nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].rstrip("-")


def insist_on_site_name(name: str) -> None:
    """Return when a site can be called so, else BadInput."""
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise BadInput(
            f"{name!r} cannot be a site's name: a-z, 0-9 and dashes between",
            "choose another one: --site-name",
        ) from None
