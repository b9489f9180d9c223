"""The host's Docker: the daemon that answers, else Debian's own, started and later stopped by us."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from delivery.errors import PlatformError
from delivery.parts import docker
from delivery.parts.daemon import DockerMissing, endpoint, failing
from delivery.progress import phase
from local import paths, runc_bounded
from local.shell import last_line, run

START_LIMIT = 60.0
_CAP_SYS_RESOURCE = 24
_SECONDS = 10  # for a daemon to say that it is there
_ROOTLESS = "see https://kind.sigs.k8s.io/docs/user/rootless/, or use Docker as root runs it"


def docker_answers() -> bool:
    """Whether a Docker daemon answers; one that may not or cannot be used is an error, as `ensure_docker` says it."""
    try:
        docker.client(seconds=_SECONDS).close()
    except DockerMissing:
        return False
    return True


def ensure_docker() -> None:
    """A daemon that answers and a docker command (kind calls it); installs and starts Debian's if need be.

    Raises DockerMissing, DockerForbidden, DockerUnsupported or LoginsUnreadable, each with its own remedy.
    """
    try:
        client = docker.client(seconds=_SECONDS)
    except DockerMissing:
        if not _ours_to_start():
            raise
    else:
        try:
            with failing("Docker does not say what it is", PlatformError, "is Docker well? docker info"):
                _check_rootless(client.info())
        finally:
            client.close()
        if not shutil.which("docker"):
            raise PlatformError(
                "a Docker daemon answers, but there is no docker command, which kind needs",
                "install Docker's command line (Debian: apt-get install docker-cli; macOS: brew install docker)",
            )
        return
    if not (shutil.which("dockerd") and shutil.which("docker")):
        with phase("Installing Docker") as progress:
            names = ("docker.io", *([] if shutil.which("docker") else ["docker-cli"]))
            install(*names, said=progress.update)
    with phase("Starting the Docker daemon") as progress:
        _start(progress.update)


def wake_docker() -> bool:
    """Whether a daemon answers, Debian's being started where it is installed, stopped and ours to start.

    Containers outlive their daemon: after a restart of the machine they are there, and nobody answers for them.
    """
    if docker_answers():
        return True
    if not (_ours_to_start() and shutil.which("dockerd")):
        return False
    with phase("Starting the Docker daemon") as progress:
        _start(progress.update)
    return True


def _ours_to_start() -> bool:
    # Not one that somebody chose, not one that hangs, and not on a machine that is not ours to change.
    return not (endpoint().source or _listens() or cannot_install())


def cannot_install() -> str:
    """Why Debian packages cannot be installed from here; empty where they can."""
    if sys.platform != "linux":
        return f"this is {'macOS' if sys.platform == 'darwin' else sys.platform}"
    if not shutil.which("apt-get"):
        return "there is no apt-get"
    return "" if os.geteuid() == 0 else "this user is not root"


def install(*packages: str, said: Callable[[str], None]) -> None:
    """Install Debian packages; PlatformError where this is not ours to do (no apt, not root).

    `said` is told what apt says.
    """
    names = " ".join(packages)
    if lack := cannot_install():
        raise PlatformError(
            f"{names} is needed, and only root on Debian or Ubuntu can have it installed from here: {lack}",
            f"install {names}, then run this again",
        )
    hint = f"look at the package sources of this machine, then try: apt-get install {names}"
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], hint=hint, env=quiet, said=said)
    known = run(["apt-cache", "pkgnames"], hint=hint).split()
    wanted = [name for name in packages if name in known] or list(packages)
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *wanted]
    run(command, hint=hint, env=quiet, said=said)


def lacks_sys_resource(status: str) -> bool:
    """Whether the kernel withholds CAP_SYS_RESOURCE, read from the text of /proc/self/status."""
    for line in status.splitlines():
        if line.startswith("CapBnd:"):
            return not int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1
    return False


def _listens() -> bool:
    """Whether somebody listens on the usual socket: a daemon that does not answer is there all the same."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_SECONDS)
        return probe.connect_ex(str(endpoint().socket)) == 0


def _check_rootless(info: Mapping[str, Any]) -> None:
    # kind's own conditions, before minutes of pulling.
    if "name=rootless" not in (info.get("SecurityOptions") or ()):
        return
    if str(info.get("CgroupVersion")) != "2":
        raise PlatformError("kind works with rootless Docker on cgroup v2 alone, and here is v1", _ROOTLESS)
    if not all(info.get(limit) for limit in ("MemoryLimit", "PidsLimit", "CPUShares")):
        raise PlatformError("rootless Docker here may not limit memory, which kind needs", _ROOTLESS)


def _start(said: Callable[[str], None]) -> None:
    # kind mounts it into the node; hosts without kernel modules lack the folder.
    Path("/lib/modules").mkdir(exist_ok=True)
    folder = paths.host()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "dockerd.log"
    # A daemon that was killed leaves these behind, and the next one takes a reused number for itself.
    for stale in (Path("/var/run/docker.pid"), Path("/var/run/docker/containerd/containerd.pid")):
        if stale.exists() and not _alive(stale):
            stale.unlink()
    command = [shutil.which("dockerd") or "dockerd", "--log-level=warn"]
    if lacks_sys_resource(Path("/proc/self/status").read_text()):
        command += [f"--add-runtime=bounded={_bounded_runtime(folder)}", "--default-runtime=bounded"]
    with log.open("wb") as stream:
        daemon = subprocess.Popen(
            command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True
        )
    (folder / "dockerd.pid").write_text(str(daemon.pid))
    end = time.monotonic() + START_LIMIT
    while not docker_answers():
        if daemon.poll() is not None:
            raise PlatformError(f"dockerd ended at once: {last_line(log.read_text())}", f"see {log}")
        if time.monotonic() > end:
            raise PlatformError(f"dockerd did not answer within {START_LIMIT:.0f} s", f"see {log}")
        said(f"process {daemon.pid} does not answer yet")
        time.sleep(0.2)  # a daemon's first answer cannot be watched for


def _bounded_runtime(folder: Path) -> Path:
    runc = shutil.which("runc") or "/usr/sbin/runc"
    program = folder / "runc-bounded"
    source = folder / "runc_bounded.py"
    shutil.copyfile(runc_bounded.__file__, source)
    # The base interpreter, not the virtual environment's: the checkout may be gone when a container stops.
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    command = shlex.join([str(python), "-IS", str(source), runc])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    return program


def _alive(pidfile: Path) -> bool:
    try:
        return "docker" in Path("/proc", pidfile.read_text().strip(), "comm").read_text()
    except OSError:
        return False


def stop_docker() -> None:
    """Stop the daemon if it was started by us and nothing runs in it any more."""
    pidfile = paths.host("dockerd.pid")
    if not pidfile.exists():
        return
    if _alive(pidfile):
        client = docker.client(seconds=30)
        busy = client.containers.list()
        client.close()
        if busy:
            return
        with phase("Stopping the Docker daemon that was started from here") as progress:
            _stop(pidfile, progress.update)
    pidfile.unlink()


def _stop(pidfile: Path, said: Callable[[str], None]) -> None:
    pid = int(pidfile.read_text())
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 30
    while _alive(pidfile) and time.monotonic() < end:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # started by this very command: it stays a zombie until somebody asks
        said(f"process {pid} still runs")
        time.sleep(0.1)  # mostly not our child: there is nothing to wait on
