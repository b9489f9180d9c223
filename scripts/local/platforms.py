"""Operating system and processor, as Go and Docker name them: this host's, and the node's."""

import platform
import sys
from dataclasses import dataclass

from delivery.errors import PlatformError
from delivery.parts import docker

# What Python says of a processor -> what Go, Docker and the publishers of programs call it.
_PROCESSORS = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class Platform:
    """Such as linux/amd64."""

    os: str
    arch: str

    def __str__(self) -> str:
        return f"{self.os}/{self.arch}"


# Those that the project knows: where a pin is asked for, it is asked for each.
KNOWN = tuple(Platform(os, arch) for os in ("linux", "darwin") for arch in ("amd64", "arm64"))


def here() -> Platform:
    """The platform of this host, for programs that it runs itself; PlatformError where it is none of KNOWN."""
    machine = platform.machine()
    found = Platform(sys.platform, _PROCESSORS.get(machine.lower(), machine))
    if found not in KNOWN:
        raise PlatformError(f"{found} is not a platform that delivery runs on", f"use one of {_list(KNOWN)}")
    return found


def node() -> Platform:
    """The platform of the Docker daemon, for programs that go into images.

    On a Mac it is Linux on the Mac's own processor; behind DOCKER_HOST it may be anything.
    """
    client = docker.client()
    try:
        said = client.version()
    finally:
        client.close()
    found = Platform(str(said.get("Os", "")), str(said.get("Arch", "")))
    if found.os != "linux" or found not in KNOWN:
        raise PlatformError(
            f"the Docker daemon makes containers for {found}, which a kind node cannot be",
            "use a daemon for Linux containers on amd64 or arm64",
        )
    return found


def _list(platforms: tuple[Platform, ...]) -> str:
    return ", ".join(map(str, platforms))
