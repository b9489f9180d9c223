"""How one image is made from a Dockerfile and named by what went into it, so that nothing is built twice."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from delivery.parts import docker
from local import store

PREFIX = "delivery-platform"

# Path in the build context -> a file, a folder, or the content itself.
Files = Mapping[str, Path | bytes]


@dataclass(frozen=True)
class Recipe:
    """An image by its Dockerfile; `stamp` stands for files whose content need not be read to be known."""

    name: str
    dockerfile: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    files: Callable[[], Files] = dict
    stamp: str = ""

    @property
    def tag(self) -> str:
        """The image's local name: the same inputs, the same name."""
        digest = hashlib.sha256()
        for part in (self.dockerfile, repr(sorted(self.arguments.items())), self.stamp):
            digest.update(part.encode() + b"\0")
        return f"{PREFIX}/{self.name}:{digest.hexdigest()[:16]}"

    def exists(self) -> bool:
        """Whether it was already built on this Docker daemon."""
        return image_exists(self.tag)

    def build(self, said: Callable[[str], None] = lambda line: None) -> str:
        """Build it unless it is there; its name. `said` is told what Docker says meanwhile."""
        if not self.exists():
            docker.build(context(self.dockerfile, self.files()), self.tag, self.arguments, said)
        return self.tag

    def prepare(self, said: Callable[[str], None] = lambda line: None) -> None:
        """Build what its stage `system` installs, ahead of the programs that come on top."""
        if not self.exists():
            name = f"{PREFIX}/{self.name}:system"
            docker.build(context(self.dockerfile, {}), name, self.arguments, said, target="system")


def each(
    recipes: Sequence[Recipe], said: Callable[[str], None]
) -> Iterator[tuple[Recipe, Callable[[str], None]]]:
    """One recipe after the other, each with what its Docker's lines go to: `said`, as `2 of 5: redis: Step 3/7`."""
    for count, recipe in enumerate(recipes, 1):
        step = f"{count} of {len(recipes)}: {recipe.name}"
        said(step)
        yield recipe, partial(_beneath, said, step)


def _beneath(said: Callable[[str], None], step: str, line: str) -> None:
    said(f"{step}: {line}")


def image_exists(name: str) -> bool:
    """Whether the Docker daemon has an image of that name (with a tag, a digest or both) that it can run."""
    client = docker.client()
    try:
        return store.find(client, name) is not None
    finally:
        client.close()


def context(dockerfile: str, files: Files) -> bytes:
    """A build context as a tar file: sorted, without owners or times, so that Docker's layer cache holds."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        _add(archive, "Dockerfile", dockerfile.encode(), 0o644)
        for name, content in sorted(files.items()):
            if isinstance(content, bytes):
                _add(archive, name, content, 0o644)
                continue
            inside = sorted(p for p in content.rglob("*") if p.is_file()) if content.is_dir() else [content]
            for file in inside:
                path = f"{name}/{file.relative_to(content)}" if content.is_dir() else name
                # The Go module cache keeps no mode; what starts like a script or a program may run.
                data = file.read_bytes()
                _add(archive, path, data, 0o755 if data[:2] == b"#!" or data[:4] == b"\x7fELF" else 0o644)
    return stream.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def content_stamp(*paths: Path) -> str:
    """What files and folders hold, as a hash."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            digest.update(str(file.relative_to(path.parent)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
