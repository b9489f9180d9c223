"""A laptop: a machine of another Debian with a Docker daemon of its own, and an ordinary user on it."""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from delivery import wait
from delivery.parts import docker, tar
from delivery.progress import phase
from e2e.online.world import NAME, World
from local import host, paths, runc_bounded
from local.recipes import Recipe, content_stamp, image_exists
from local.shell import run

HERE = Path(__file__).resolve().parent
SUITE = "trixie"
DISK = 19 * 10**9  # bytes, for its Docker and its home together
_HOME = "/home/Ada Lovelace"
CHECKOUT = f"{_HOME}/checkout"
_CA = Path("/etc/ssl/certs/ca-certificates.crt")
_ANSWER_LIMIT = 60.0


class ImageStore(StrEnum):
    """Where Docker keeps images: containerd's store (Docker Desktop, Engine 29), or its own (Engine until 28)."""

    containerd = "containerd"
    classic = "classic"


class Laptop:
    """The machine; commands run as its user, in the checkout."""

    def __init__(self, container: Any, disk: Path) -> None:
        self._container = container
        self._disk = disk

    def user(self, command: str, limit: float, log: Path | None = None, check: bool = True) -> str:
        """Run a shell command as the user, in the checkout; what it printed goes to `log` as it comes.

        `limit` is in seconds. Raises AssertionError when it fails and `check` is on.
        """
        asked = [
            "docker",
            "exec",
            "--user=ada",
            f"--env=HOME={_HOME}",
            "--env=USER=ada",
            "--env=LANG=C.UTF-8",
        ]
        asked += [f"--workdir={CHECKOUT}", self._container.id, "bash", "-c", f"exec 2>&1; {command}"]
        lines = []
        end = time.monotonic() + limit
        with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL) as process:
            with log.open("a") if log else tempfile.TemporaryFile("w") as out:
                for line in process.stdout or ():
                    lines.append(line)
                    out.write(line)
                    out.flush()
                    if time.monotonic() > end:
                        process.kill()
            code = process.wait()
        text = "".join(lines)
        assert code == 0 or not check, f"{command}: exit {code}\n{text[-3000:]}"
        return text

    def root(self, *command: str) -> str:
        """Run a command as the machine's administrator."""
        code, output = self._container.exec_run(list(command), user="root")
        assert code == 0, f"{command}: {output.decode()[-2000:]}"
        return str(output.decode())

    def put(self, folder: str, files: dict[str, bytes]) -> None:
        """Put files there, as root."""
        self._container.put_archive(folder, tar.pack(files))

    def trust(self, authority: Path) -> None:
        """Install the authority, as an administrator does where a proxy re-signs TLS, and start Docker again."""
        self.put("/usr/local/share", {"world.crt": authority.read_bytes()})
        self.root("sh", "-c", "cat /usr/local/share/world.crt >> /etc/ssl/certs/ca-certificates.crt")
        self._container.restart(timeout=20)
        _wait(self._container)

    @property
    def used(self) -> int:
        """Bytes that its disk holds now."""
        return shutil.disk_usage(self._disk).used


@contextmanager
def laptop(folder: Path, store: ImageStore, world: World) -> Iterator[Laptop]:
    """A new laptop with an empty image store; gone afterwards, with its disk."""
    disk = folder / "disk"
    _mount(folder / "disk.img", disk)
    client = docker.client()
    try:
        container = client.containers.create(
            _image(),
            name=f"{NAME}-laptop",
            hostname="laptop",
            privileged=True,
            init=True,
            network=NAME,
            extra_hosts=dict.fromkeys(world.hosts, world.address),
            volumes={
                str(disk / "docker"): {"bind": "/var/lib/docker", "mode": "rw"},
                str(disk / "home"): {"bind": _HOME, "mode": "rw"},
            },
        )
        machine = Laptop(container, disk)
        machine.put("/etc/docker", {"daemon.json": _daemon(store)})
        container.start()
        machine.root("chown", "ada:ada", _HOME)
        _wait(container)
        yield machine
    finally:
        for left in client.containers.list(all=True, filters={"name": f"^/{NAME}-laptop$"}):
            left.remove(force=True, v=True)
        client.close()
        _unmount(disk)


def _wait(container: Any) -> None:
    def answers() -> wait.Reached[None] | wait.Pending | wait.Failed:
        container.reload()
        if container.status == "exited":
            return wait.Failed(container.logs(tail=3).decode())
        code, output = container.exec_run(["docker", "info"], user="ada")
        return wait.Reached(None) if code == 0 else wait.Pending(output.decode()[-200:])

    wait.until("the laptop's Docker answers", answers, _ANSWER_LIMIT, f"docker logs {NAME}-laptop")


def _daemon(store: ImageStore) -> bytes:
    servers = [
        line.split()[1] for line in Path("/etc/resolv.conf").read_text().splitlines() if "nameserver" in line
    ]
    settings: dict[str, Any] = {
        "features": {"containerd-snapshotter": store is ImageStore.containerd},
        "dns": servers,  # a container's own resolver cannot be asked from the containers in it
        "log-level": "warn",
    }
    if host.lacks_sys_resource(Path("/proc/self/status").read_text()):
        settings["runtimes"] = {"bounded": {"path": "/usr/local/lib/runc/runc-bounded"}}
        settings["default-runtime"] = "bounded"
    return json.dumps(settings).encode()


def _image() -> str:
    """The machine's root file system: a debootstrap of another release than the platform's, with Docker from it."""
    start = f"{NAME}/{SUITE}:debootstrap"
    if not image_exists(start):
        with phase(f"Preparing a laptop with Debian {SUITE}") as progress:
            _debootstrap(start, progress.update)
    bounded = '#!/bin/sh\nexec python3 -IS /usr/local/lib/runc/runc_bounded.py /usr/sbin/runc "$@"\n'
    files: dict[str, Path | bytes] = {
        "host.crt": _CA,
        "runc-bounded": bounded.encode(),
        "runc_bounded.py": Path(runc_bounded.__file__),
    }
    text = (HERE / "laptop.Dockerfile").read_text(encoding="utf-8")
    stamp = bounded + content_stamp(_CA, Path(runc_bounded.__file__))
    recipe = Recipe("laptop", text, {"TRIXIE": start}, lambda: files, stamp)
    with phase("Installing the laptop") as progress:
        return recipe.build(progress.update)


def _debootstrap(name: str, said: Callable[[str], None]) -> None:
    hint = "look at this machine's Debian package sources"
    listed = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"], hint=hint)
    mirror = next(uri for uri in listed.split() if "security" not in uri)
    paths.cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.cache()) as folder:
        root = Path(folder, "root")
        command = ["debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, str(root), mirror]
        run(command, hint=hint, limit=1800, said=said)
        packed = Path(folder, "root.tar")
        run(["tar", "--numeric-owner", "-C", root, "-cf", packed, "."], hint=hint)
        run(["docker", "import", packed, name], hint=hint)


def _mount(image: Path, at: Path) -> None:
    """A disk of its own, so that what is free is what a laptop has free."""
    _unmount(at)
    at.mkdir(parents=True, exist_ok=True)
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(DISK + DISK // 25)  # what the file system takes for itself
    run(["mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", image], hint="apt-get install e2fsprogs")
    run(["mount", "-o", "loop", image, at], hint="this machine must allow loop devices")
    for name in ("docker", "home"):
        (at / name).mkdir()


def _unmount(at: Path) -> None:
    if at.is_mount():
        run(["umount", "--lazy", at], hint="umount it by hand")
