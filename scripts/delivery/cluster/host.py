"""The host's Docker: the daemon that answers, else Debian's own, started and later stopped by us."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from delivery.cluster import paths, runc_bounded
from delivery.cluster.progress import phase
from delivery.cluster.shell import last_line, run
from delivery.errors import PlatformError

START_LIMIT = 60.0
_CAP_SYS_RESOURCE = 24


def docker_answers() -> bool:
    """Whether a Docker daemon answers where DOCKER_HOST (or the default socket) says."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=10)
        try:
            client.ping()
        finally:
            client.close()
    except DockerException:
        return False
    return True


def ensure_docker() -> None:
    """A daemon that answers and a docker command (kind calls it); installs and starts Debian's if need be."""
    if docker_answers():
        if not shutil.which("docker"):
            raise PlatformError(
                "a Docker daemon answers, but there is no docker command, which kind needs",
                "install Docker's command line (Debian: apt-get install docker-cli)",
            )
        return
    if os.environ.get("DOCKER_HOST"):
        raise PlatformError(
            f"no Docker daemon answers at DOCKER_HOST={os.environ['DOCKER_HOST']}",
            "start it, or unset DOCKER_HOST",
        )
    if not (shutil.which("dockerd") and shutil.which("docker")):
        with phase("Installing Docker"):
            install("docker.io", *([] if shutil.which("docker") else ["docker-cli"]))
    with phase("Starting the Docker daemon"):
        _start()


def install(*packages: str) -> None:
    """Install Debian packages; PlatformError where this is not ours to do (no apt, not root)."""
    names = " ".join(packages)
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise PlatformError(
            f"{names} is needed, and only root on Debian or Ubuntu can have it installed from here",
            "install Docker Engine and start it, then run this again",
        )
    hint = f"look at the package sources of this machine, then try: apt-get install {names}"
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], hint=hint, env=quiet)
    known = run(["apt-cache", "pkgnames"], hint=hint).split()
    wanted = [name for name in packages if name in known] or list(packages)
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted], hint=hint, env=quiet)


def lacks_sys_resource(status: str) -> bool:
    """Whether the kernel withholds CAP_SYS_RESOURCE, read from the text of /proc/self/status."""
    for line in status.splitlines():
        if line.startswith("CapBnd:"):
            return not int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1
    return False


def _start() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        raise PlatformError(
            "no Docker daemon answers", "start Docker (Docker Desktop, or: systemctl start docker)"
        )
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
        time.sleep(0.2)  # a daemon's first answer cannot be watched for


def _bounded_runtime(folder: Path) -> Path:
    runc = shutil.which("runc") or "/usr/sbin/runc"
    program = folder / "runc-bounded"
    source = folder / "runc_bounded.py"
    shutil.copyfile(runc_bounded.__file__, source)
    # The base interpreter, not the virtual environment's: the checkout may be gone when a container stops.
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    program.write_text(f'#!/bin/sh\nexec {python} -IS {source} {runc} "$@"\n')
    program.chmod(0o755)
    return program


def _alive(pidfile: Path) -> bool:
    try:
        return "docker" in Path("/proc", pidfile.read_text().strip(), "comm").read_text()
    except OSError:
        return False


def stop_docker() -> bool:
    """Stop the daemon if it was started by us and nothing runs in it any more; whether it was stopped."""
    pidfile = paths.host("dockerd.pid")
    if not pidfile.exists():
        return False
    if _alive(pidfile):
        import docker

        client = docker.from_env(timeout=30)
        busy = client.containers.list()
        client.close()
        if busy:
            return False
        pid = int(pidfile.read_text())
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 30
        while _alive(pidfile) and time.monotonic() < end:
            time.sleep(0.1)  # not our child any more: there is nothing to wait on
    pidfile.unlink()
    return True
