"""A kind node image with images already inside, so that a new cluster pulls nothing to start.

The images are imported without unpacking: an overlay snapshotter cannot unpack inside a Docker build.
`unpack` does that once in a new node, before several containers would each do it for themselves.
"""

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from delivery.errors import PlatformError
from delivery.parts import docker
from delivery.progress import phase
from local import store
from local.recipes import PREFIX, image_exists
from local.shell import last_line, run

# Where the platform's images are said to live, as the chart names them; they are in the node already.
REPOSITORY = "registry.local:5000/platform"
_BOX = "delivery-preloading"
_LABEL = "delivery.platform-digests"
_HINT = "run it again: what was made is kept"
_CTR = ("ctr", "-n", "k8s.io")
_PINNED = "io.cri-containerd.pinned=pinned"  # the kubelet never removes it to win space
_IMPORT_LIMIT = 900.0


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
            box = client.containers.create(
                self.base, name=_BOX, entrypoint=["sleep"], command=["infinity"], privileged=True
            )
            try:
                box.start()
                box.exec_run(["containerd"], detach=True)
                _wait_for_containerd(box)
                wanted = {
                    **images,
                    **{f"{REPOSITORY}/{name}:preloaded": local for name, local in self.platform.items()},
                }
                for name, local in wanted.items():
                    store.tag(client, local, name)
                progress.update(f"{len(wanted)} images")
                fill(box.id, list(wanted), store.architecture(client))
                held = held_digests(_in(box, *_CTR, "images", "check"), wanted)
                digests = {name: held[f"{REPOSITORY}/{name}:preloaded"] for name in self.platform}
                for name, digest in digests.items():
                    _name_by_digest(box, name, digest)
                _pin(box, [*wanted, *(f"{REPOSITORY}/{name}@{digest}" for name, digest in digests.items())])
                progress.update("committing it")
                _stop_containerd(box)
                _commit(box, self.name, digests)
                for name, local in wanted.items():
                    if name.rpartition(":")[0] != local.partition("@")[0].rpartition(":")[0]:
                        client.images.remove(name)  # ours alone: what was pulled stays as it was
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


def fill(container: str, names: list[str], architecture: str) -> None:
    """Hand images of this Docker daemon to the containerd in a container, content only; PlatformError if it fails.

    One platform alone: the containerd image store saves the whole index of an image, and the layers of that one.
    Labels follow later: ctr 1.6 says nothing about a --label that it does not know.
    """
    load = [*_CTR, "images", "import", f"--platform=linux/{architecture}", "--no-unpack", "-"]
    with tempfile.TemporaryFile("w+") as said:
        # Its end closes the pipe, so that `docker save` ends as well when ctr ended first.
        with subprocess.Popen(["docker", "save", *names], stdout=subprocess.PIPE, stderr=said) as save:
            try:
                done = subprocess.run(
                    ["docker", "exec", "-i", container, *load],
                    stdin=save.stdout,
                    capture_output=True,
                    text=True,
                    timeout=_IMPORT_LIMIT,
                )
            except subprocess.TimeoutExpired:
                save.kill()
                raise PlatformError(
                    f"the node image took no images within {_IMPORT_LIMIT:.0f} s",
                    "is Docker well? docker info",
                ) from None
        said.seek(0)
        why = last_line(said.read())
    if save.returncode and not (done.returncode and "broken pipe" in why.lower()):
        raise PlatformError(f"docker save failed: {why}", _HINT)
    if done.returncode:
        raise PlatformError(f"the node image took no images: {last_line(done.stderr)}", _HINT)


def held_digests(checked: str, names: Collection[str]) -> dict[str, str]:
    """Name -> digest, out of `ctr images check`; PlatformError for an image of which a part is missing."""
    rows = {fields[0]: fields for line in checked.splitlines() if len(fields := line.split()) > 3}
    found = {}
    for name in names:
        # REF TYPE DIGEST STATUS: it spells names of Docker Hub out.
        row = rows.get(name) or rows.get(f"docker.io/{name}") or rows.get(f"docker.io/library/{name}")
        if row is None or row[3] != "complete":
            raise PlatformError(
                f"the node image has {name} not whole: {' '.join(row[3:5]) if row else 'not there'}",
                f"pull it anew: docker rmi -f {name}, then delivery up",
            )
        found[name] = row[2]
    return found


def _name_by_digest(box: Any, name: str, digest: str) -> None:
    """Give a platform image the name that pods use."""
    _in(box, *_CTR, "images", "tag", f"{REPOSITORY}/{name}:preloaded", f"{REPOSITORY}/{name}@{digest}")


def _pin(box: Any, names: list[str]) -> None:
    script = f'for name; do {" ".join(_CTR)} images label "$name" {_PINNED} >/dev/null || exit 1; done'
    _in(box, "sh", "-c", script, "sh", *names)


def _stop_containerd(box: Any) -> None:
    # Its database is whole on disk once it has ended; a zombie has.
    runs = "ps -C containerd -o stat= | grep -qv ^Z"
    script = f"pkill -x containerd; for i in $(seq 100); do {runs} || exit 0; sleep 0.1; done"
    _in(box, "sh", "-c", f"{script}; echo containerd does not end; exit 1")


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
