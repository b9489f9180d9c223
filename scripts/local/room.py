"""Whether there is room for the platform: memory and disk of the machine that Docker runs on, often a VM."""

import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delivery.errors import PlatformError
from delivery.parts import docker
from delivery.parts.daemon import endpoint, failing
from local import paths, store

GIB = 1 << 30
# The platform at rest takes about 3 GiB; a build and a suite come on top.
MEMORY = 4 * GIB
# What must be free to start a cluster of images that are made.
TO_START = 6 * GIB
_WELL = "is Docker well? docker info"


@dataclass(frozen=True)
class Room:
    """What there is, in bytes, and where; `free` is None where nobody can look yet."""

    place: str
    memory: int
    free: int | None
    more_memory: str
    more_disk: str


def look(probes: Sequence[str]) -> Room:
    """The room that Docker has; `probes` are small images to look from inside of a VM, of which one may be there."""
    client = docker.client()
    try:
        with failing("Docker does not say what it has", PlatformError, _WELL):
            info: dict[str, Any] = client.info()
        place = _elsewhere(info)
        free = _free_there(client, probes) if place else _free_here(info)
    finally:
        client.close()
    return Room(place or "this machine", int(info.get("MemTotal") or 0), free, *_remedies(info, place))


def check(space: int, probes: Sequence[str]) -> None:
    """PlatformError where Docker has less memory than the platform takes, or less than `space` bytes of disk."""
    room = look(probes)
    enough_memory(room)
    enough_disk(room, space)


def enough_memory(room: Room) -> str:
    """How much memory there is; PlatformError where it is too little."""
    # A VM set to 4 GiB tells its kernel's part as missing, and is too small as well: both are told as they are.
    if room.memory < MEMORY:
        raise PlatformError(
            f"{room.place} has {room.memory / GIB:.1f} GiB of memory, at least {MEMORY // GIB} GiB are needed",
            room.more_memory,
        )
    return f"{room.memory / GIB:.1f} GiB, {room.place}"


def enough_disk(room: Room, space: int) -> str:
    """How much disk is free; PlatformError where it is less than `space` bytes."""
    if room.free is None:
        return f"not known before the first image is there ({room.place})"
    if room.free < space:
        raise PlatformError(
            f"the disk is nearly full: {room.free / GIB:.1f} GiB free, {space // GIB} GiB needed ({room.place})",
            room.more_disk,
        )
    return f"{room.free // GIB} GiB free, {room.place}"


def _elsewhere(info: Mapping[str, Any]) -> str:
    """Where Docker's disk is, if not on a disk of this host; empty when it is."""
    if "Docker Desktop" in str(info.get("OperatingSystem")):
        return "Docker Desktop's VM"
    here = info.get("Name") == platform.node() and os.path.exists(str(info.get("DockerRootDir")))
    if sys.platform == "linux" and endpoint().socket and here:
        return ""
    return "the machine that Docker runs on"


def _remedies(info: Mapping[str, Any], place: str) -> tuple[str, str]:
    where = f"{endpoint()} {info.get('Name')}"
    if "Docker Desktop" in place:
        settings = "Docker Desktop, Settings, Resources"
        return f"{settings}: a memory limit of 6 GB", f"{settings}: a larger disk; or: docker system prune"
    if "colima" in where:
        return "colima stop, then: colima start --memory 6", "docker system prune; or: colima start --disk 60"
    if place:
        return "give Docker's machine 6 GiB of memory", "free some space there: docker system prune"
    return (
        "take a machine with 6 GiB of memory or more",
        "free some space, for example: docker system prune",
    )


def _free_here(info: Mapping[str, Any]) -> int:
    folders = [paths.cache(), Path(str(info["DockerRootDir"]))]
    if "io.containerd.snapshotter" in str(info.get("DriverStatus")):
        folders.append(Path("/var/lib/containerd"))  # the containerd image store's, beside Docker's own
    existing = (next(p for p in (folder, *folder.parents) if os.path.exists(p)) for folder in folders)
    return min(shutil.disk_usage(folder).free for folder in existing)


def _free_there(client: Any, probes: Sequence[str]) -> int | None:
    probe = next((name for name in probes if store.find(client, name)), None)
    if probe is None:
        return None
    # The root of a container is on the disk where Docker unpacks images.
    with failing("cannot look how much disk Docker has", PlatformError, _WELL):
        said: bytes = client.containers.run(
            store.reference(probe), ["-P", "-k", "/"], entrypoint=["df"], network_disabled=True, remove=True
        )
    return available(said.decode())


def available(told: str) -> int:
    """The bytes that `df -P -k` says are available."""
    return int(told.splitlines()[-1].split()[3]) * 1024
