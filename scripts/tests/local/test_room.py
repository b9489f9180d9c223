"""Memory and disk: what each way of getting the images needs, asked of the machine that Docker runs on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery.errors import PlatformError
from local import room
from local.closed.images import Closed
from local.online import Online
from scripts.tests.daemon import daemon

if TYPE_CHECKING:
    from scripts.tests.daemon import Daemon

__all__ = ["daemon"]  # a fixture

PROBE = "debian:bookworm-slim"
DESKTOP = {"OperatingSystem": "Docker Desktop", "Name": "docker-desktop", "DockerRootDir": "/var/lib/docker"}


def there(info: dict[str, object], memory: float = 8) -> dict[str, object]:
    return {**info, "MemTotal": int(memory * room.GIB)}


def test_a_github_runner_has_room_to_pull() -> None:
    """14 GB free are enough where images are pulled; building them all takes more, and says so before it begins."""
    runner = room.Room("this machine", 16 * room.GIB, 14 * 10**9, "more memory", "prune")
    room.enough_disk(runner, Online.space)
    with pytest.raises(PlatformError, match=r"13\.0 GiB free, 25 GiB needed") as refused:
        room.enough_disk(runner, Closed.space)
    assert (refused.value.hint, refused.value.exit_code) == ("prune", 4)


def test_on_docker_desktop_the_vm_is_asked(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full VM on a Mac with a large disk is found full, by a look from a container in it."""
    daemon.about(**there(DESKTOP))
    daemon.has(PROBE)
    monkeypatch.setattr(room, "_free_here", lambda info: pytest.fail("it looked at this host's disk"))
    monkeypatch.setattr(room, "_free_there", lambda client, probes: 3 * room.GIB)
    with pytest.raises(PlatformError, match=r"3\.0 GiB free, 10 GiB needed \(Docker Desktop's VM") as refused:
        room.check(Online.space, [PROBE])
    assert "Docker Desktop, Settings, Resources" in refused.value.hint


def test_before_the_first_image_the_vm_is_not_asked(daemon: Daemon) -> None:
    """Nothing is pulled to look with: what cannot be known yet does not refuse, and doctor says so."""
    daemon.about(**there(DESKTOP))
    found = room.look([PROBE])
    assert found.free is None
    assert "not known" in room.enough_disk(found, Online.space)
    room.check(Online.space, [PROBE])


def test_a_daemon_elsewhere_is_not_measured_by_this_hosts_disk(daemon: Daemon) -> None:
    """Behind DOCKER_HOST=tcp:// the disk of this host says nothing, even where it has a /var/lib/docker as well."""
    daemon.about(**there({"OperatingSystem": "Ubuntu", "Name": platform.node(), "DockerRootDir": "/"}))
    assert room.look([PROBE]).place == "the machine that Docker runs on"


@pytest.mark.skipif(platform.system() != "Linux", reason="on macOS Docker is always in a VM")
def test_on_linux_the_daemons_own_disk_counts(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker's data root and the cache are on disks of this host: the fuller one counts."""
    daemon.about(
        **there({"OperatingSystem": "Debian", "Name": platform.node(), "DockerRootDir": str(tmp_path)})
    )
    played = room.endpoint()
    monkeypatch.setattr(room, "endpoint", lambda: type(played)("unix:///var/run/docker.sock", "default", ""))
    found = room.look([PROBE])
    assert (found.place, bool(found.free)) == ("this machine", True)


@pytest.mark.parametrize(
    ("info", "remedy"),
    [
        (DESKTOP, "Docker Desktop, Settings, Resources: a memory limit of 6 GB"),
        (
            {"OperatingSystem": "Ubuntu 24.04", "Name": "colima", "DockerRootDir": "/var/lib/docker"},
            "colima start --memory 6",
        ),
    ],
)
def test_too_little_memory_is_refused(daemon: Daemon, info: dict[str, object], remedy: str) -> None:
    """A VM of 2 GiB, colima's default, is refused before anything is pulled, with the setting that mends it."""
    daemon.about(**there(info, memory=1.9))
    with pytest.raises(PlatformError, match=r"1\.9 GiB of memory, at least 4 GiB are needed") as refused:
        room.check(Online.space, [PROBE])
    assert remedy in refused.value.hint


def test_df_is_read() -> None:
    """What POSIX df says in a container is read in bytes."""
    told = "Filesystem  1024-blocks    Used Available Capacity Mounted on\noverlay 61202244 9000000 52202244 15% /\n"
    assert room.available(told) == 52202244 * 1024
