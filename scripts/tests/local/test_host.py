"""Docker as a user has it: what is started from here, and what is said where nothing can be."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from delivery.errors import PlatformError
from delivery.parts import docker
from delivery.parts.daemon import DockerForbidden, DockerMissing, DockerUnsupported, Endpoint
from local import cluster as clusters
from local import host, services, up
from local import kind as kinds
from scripts.tests.daemon import daemon
from scripts.tests.world import ROOT

if TYPE_CHECKING:
    from local.cluster import Cluster
    from scripts.tests.daemon import Daemon

__all__ = ["daemon"]  # a fixture


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which everything could be installed, and nothing must be."""
    monkeypatch.setattr(host, "cannot_install", lambda: "")
    monkeypatch.setattr(host, "install", lambda *names, said: pytest.fail(f"it installs {names}"))
    monkeypatch.setattr(host, "_start", lambda said: pytest.fail("it starts a daemon"))


def raising(error: Exception) -> Any:
    def client(seconds: int = 0) -> None:
        raise error

    return client


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster that was made here, before the machine was restarted."""
    monkeypatch.setenv("DELIVERY_STATE", str(tmp_path))
    cluster = clusters.chosen("local", ROOT)
    cluster.state.mkdir()
    (cluster.state / "owner").write_text("a node")
    return cluster


def test_down_starts_the_daemon_that_a_restart_stopped(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, details: dict[str, list[str]]
) -> None:
    """After a restart of the machine no daemon answers, but its containers are there: `down` removes them.

    It says which of them it is at.
    """
    answers = iter([False, True])
    did: list[str] = []
    monkeypatch.setattr(host, "docker_answers", lambda: next(answers))
    monkeypatch.setattr(host, "_ours_to_start", lambda: True)
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(host, "_start", lambda said: did.append("start"))
    monkeypatch.setattr(host, "stop_docker", lambda: did.append("stop"))
    monkeypatch.setattr(kinds, "exists", lambda cluster: True)
    monkeypatch.setattr(kinds, "delete", lambda cluster: did.append("delete"))
    monkeypatch.setattr(services, "remove", lambda cluster: did.append("remove"))
    up.down(cluster, force=True)
    assert did == ["start", "delete", "remove", "stop"]
    assert details[f"Removing cluster {cluster.name}"] == [
        "its node",
        "registry and Git server, with their data",
    ]
    assert not cluster.state.exists()


def test_down_keeps_what_it_cannot_remove(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker Desktop is not running: the cluster is not forgotten, it would be another checkout's afterwards."""
    monkeypatch.setattr(host, "docker_answers", lambda: False)
    monkeypatch.setattr(host, "_ours_to_start", lambda: False)
    with pytest.raises(PlatformError, match="cannot be removed"):
        up.down(cluster)
    assert kinds.made_here(cluster)


def test_a_daemon_that_this_command_started_is_stopped_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`down` that had to start Docker first does not wait half a minute for it to be gone."""
    monkeypatch.setattr(host, "_alive", lambda pidfile: Path("/proc", pidfile.read_text(), "comm").exists())
    with subprocess.Popen(["sleep", "60"]) as child:
        (tmp_path / "pid").write_text(str(child.pid))
        begin, told = time.monotonic(), set[str]()
        host._stop(tmp_path / "pid", told.add)
        assert time.monotonic() - begin < 20
    assert told == {f"process {child.pid} still runs"}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("kind", [DockerForbidden, DockerUnsupported])
def test_a_daemon_that_may_not_be_used_is_not_replaced(
    kind: type[PlatformError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No permission on the socket, or podman behind it, is said as it is: no second daemon beside the first."""
    monkeypatch.setattr(docker, "client", raising(kind("it is there", "do this")))
    with pytest.raises(kind, match="it is there"):
        host.ensure_docker()
    with pytest.raises(kind, match="it is there"):
        host.docker_answers()


@pytest.mark.usefixtures("untouched")
def test_a_docker_that_somebody_chose_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """DOCKER_HOST that does not answer, or a stopped Docker Desktop: its own remedy, and nothing is started."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(DockerMissing, match="DOCKER_HOST"):
        host.ensure_docker()
    assert host.docker_answers() is False


@pytest.mark.usefixtures("untouched")
def test_a_daemon_that_hangs_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that takes calls and does not answer still owns its data: a second one would fight for it."""
    folder = tempfile.mkdtemp(dir="/tmp")  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as hanging:
            hanging.bind(f"{folder}/docker.sock")
            hanging.listen()
            usual = Endpoint(f"unix://{folder}/docker.sock", "default", "")
            monkeypatch.setattr(host, "endpoint", lambda: usual)
            monkeypatch.setattr(docker, "client", raising(DockerMissing("it does not answer", "start it")))
            with pytest.raises(DockerMissing):
                host.ensure_docker()
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("system", "user", "apt", "reason"),
    [
        ("darwin", 0, True, "this is macOS"),
        ("linux", 1000, True, "this user is not root"),
        ("linux", 0, False, "there is no apt-get"),
        ("linux", 0, True, ""),
    ],
)
def test_where_packages_can_be_installed(
    system: str, user: int, apt: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root on Debian or Ubuntu, and nobody else: everybody else is told what is missing."""
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/apt-get" if apt else None)
    assert host.cannot_install() == reason
    if reason:
        with pytest.raises(PlatformError, match=f"debootstrap is needed.*{reason}") as refused:
            host.install("debootstrap", said=print)
        assert "install debootstrap" in refused.value.hint


def test_without_the_docker_command_it_is_said(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon without the docker command, as colima leaves it: kind would fail later, with other words."""
    daemon.about(OperatingSystem="Ubuntu")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlatformError, match="no docker command") as refused:
        host.ensure_docker()
    assert "brew install docker" in refused.value.hint


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({"CgroupVersion": "1"}, "cgroup v2"),
        ({"CgroupVersion": "2", "MemoryLimit": False, "PidsLimit": True, "CPUShares": True}, "may not limit"),
    ],
)
def test_rootless_docker_has_conditions(daemon: Daemon, info: dict[str, object], reason: str) -> None:
    """kind's conditions for rootless Docker are told before minutes of pulling."""
    daemon.about(SecurityOptions=["name=seccomp,profile=builtin", "name=rootless"], **info)
    with pytest.raises(PlatformError, match=reason):
        host.ensure_docker()


def test_the_runtime_that_we_write_takes_a_home_with_a_space(tmp_path: Path) -> None:
    """Paths in the small program that Docker calls are quoted."""
    folder = tmp_path / "a home" / "with space"
    folder.mkdir(parents=True)
    program = host._bounded_runtime(folder)
    assert f"'{folder}/runc_bounded.py'" in program.read_text()
