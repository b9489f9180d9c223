"""A kind node image with images already inside, so that a new cluster pulls nothing to start.

The images are imported without unpacking: an overlay snapshotter cannot unpack inside a Docker build.
`unpack` does that once in a new node, before several containers would each do it for themselves.
"""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from delivery.cluster.progress import phase
from delivery.cluster.recipes import PREFIX, image_exists
from delivery.cluster.shell import last_line, run
from delivery.errors import PlatformError
from delivery.parts import docker

# Where the platform's images are said to live, as the chart names them; they are in the node already.
REPOSITORY = "registry.local:5000/platform"
_BOX = "manual-app-preloading"
_LABEL = "manual-app.platform-digests"
_HINT = "run it again: what was made is kept"
_CTR = ("ctr", "-n", "k8s.io")


@dataclass(frozen=True)
class Node:
    """A node image made of `base`; `platform` are images that the chart asks for by digest."""

    base: str
    platform: Mapping[str, str]
    stamp: str

    @property
    def name(self) -> str:
        """The node image's local name, by what is inside."""
        inputs = json.dumps([self.base, dict(self.platform), self.stamp], sort_keys=True)
        return f"{PREFIX}/node:{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"

    def make(self, images: Mapping[str, str]) -> None:
        """Make it, unless it is there: `images` are preloaded as name in the cluster -> local name."""
        if image_exists(self.name):
            return
        with phase("Preloading the node image") as progress:
            client = docker.client(seconds=900)
            for left in client.containers.list(all=True, filters={"name": f"^/{_BOX}$"}):
                left.remove(force=True, v=True)  # of a run that was killed
            box = client.containers.run(
                self.base, name=_BOX, entrypoint=["sleep"], command=["infinity"], privileged=True, detach=True
            )
            try:
                box.exec_run(["containerd"], detach=True)
                _wait_for_containerd(box)
                wanted = {
                    **images,
                    **{f"{REPOSITORY}/{name}:preloaded": local for name, local in self.platform.items()},
                }
                for name, local in wanted.items():
                    client.images.get(local).tag(*name.rsplit(":", 1))
                progress.update(f"{len(wanted)} images")
                _import(box.id, list(wanted))
                digests = {name: _name_by_digest(box, name) for name in self.platform}
                _in(box, "pkill", "containerd")
                _commit(box, self.name, digests)
                for name in wanted:
                    client.images.remove(name)
            finally:
                box.remove(force=True, v=True)
                client.close()


def digests(node_image: str) -> dict[str, str]:
    """Name of a platform image -> the digest under which nodes made of this image have it."""
    client = docker.client()
    try:
        return json.loads(client.images.get(node_image).labels[_LABEL])  # type: ignore[no-any-return]
    finally:
        client.close()


def unpack(container: str, names: tuple[str, ...]) -> None:
    """Unpack preloaded images in a running node; each name is a part of an image's name."""
    script = (
        "ctr -n k8s.io images ls | awk 'NR>1{print $1, $3}' | "
        f"grep -E '{'|'.join(names)}' | awk '{{print $2}}' | sort -u | "
        "xargs -n1 ctr -n k8s.io snapshots unpack"
    )
    run(["docker", "exec", container, "sh", "-c", script], hint=_HINT)


def _wait_for_containerd(box: Any) -> None:
    script = "for i in $(seq 150); do ctr version >/dev/null 2>&1 && exit 0; sleep 0.2; done; exit 1"
    _in(box, "sh", "-c", script)


def _import(container: str, names: list[str]) -> None:
    save = subprocess.Popen(["docker", "save", *names], stdout=subprocess.PIPE)
    command = [
        *_CTR,
        "images",
        "import",
        "--label=io.cri-containerd.pinned=pinned",
        "--all-platforms",
        "--no-unpack",
    ]
    done = subprocess.run(
        ["docker", "exec", "-i", container, *command, "-"],
        stdin=save.stdout,
        capture_output=True,
        text=True,
        timeout=900,
    )
    if save.wait() or done.returncode:
        raise PlatformError(f"the node image took no images: {last_line(done.stderr)}", _HINT)


def _name_by_digest(box: Any, name: str) -> str:
    """Give a platform image the name that pods use, REPOSITORY/NAME@DIGEST; the digest."""
    reference = f"{REPOSITORY}/{name}:preloaded"
    rows = _in(box, *_CTR, "images", "ls", f"name=={reference}").splitlines()
    digest = rows[1].split()[2]
    _in(box, *_CTR, "images", "tag", reference, f"{REPOSITORY}/{name}@{digest}")
    _in(box, *_CTR, "images", "label", f"{REPOSITORY}/{name}@{digest}", "io.cri-containerd.pinned=pinned")
    return digest


def _in(box: Any, *command: str) -> str:
    code, output = box.exec_run(list(command))
    text: str = output.decode("utf-8", "replace")
    if code:
        raise PlatformError(f"{command[0]} failed in the node image: {last_line(text)}", _HINT)
    return text


def _commit(box: Any, name: str, digests: Mapping[str, str]) -> None:
    repository, _, tag = name.rpartition(":")
    changes = [
        'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]',
        "CMD []",
        f"LABEL {_LABEL}='{json.dumps(dict(digests))}'",
    ]
    box.commit(repository=repository, tag=tag, changes="\n".join(changes))
