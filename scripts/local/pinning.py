"""`make pin`: ask registries and publishers what is there today, and write it into scripts/local/versions.yaml.

All or nothing: the file is written once, at the end, when everything was answered.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delivery import files
from delivery.errors import PlatformError
from delivery.parts import docker, values
from delivery.parts.daemon import failing
from delivery.progress import phase
from local import pins, published, released, tools
from local.catalog import ArgocdImages, Catalog

_FILE = "scripts/local/versions.yaml"


class NotAsked(PlatformError):
    """A registry did not say what a name means today. Nothing was written."""


@dataclass(frozen=True)
class NewPin:
    """One value of the file: where it stands, what it was, what it is now."""

    path: values.Path
    before: str
    after: str


@dataclass(frozen=True)
class Pinned:
    """What was asked: all that changed in the file, and by what each tool's checksums are believed."""

    changes: list[NewPin]
    believed: dict[str, str]


def run(root: Path, *, images_only: bool = False) -> Pinned:
    """Pin every image, and every tool unless `images_only`; DeliveryError means that nothing was written."""
    catalog = Catalog(root)
    wanted = dict(_images(catalog))
    believed: dict[str, str] = {}
    if not images_only:
        for name, tool in released.tools(catalog).items():
            with phase(f"Reading checksums of {name} {tool.version}") as progress:
                checker = published.Checker(lambda: tools.path("cosign"), catalog.module.source)
                found = published.checksums(tool, checker, progress.update)
            believed[f"{name} {tool.version}"] = found.by
            wanted[("tools", name, "pinned", "version")] = tool.version
            for platform, checksum in found.of.items():
                wanted[("tools", name, "pinned", str(platform))] = checksum
    file = root / _FILE
    text = file.read_text(encoding="utf-8")
    changes = [
        NewPin(path, before, after)
        for path, after in wanted.items()
        if (before := values.get(text, path, _FILE)) != after
    ]
    if changes:
        files.write(file, values.replace(text, {one.path: one.after for one in changes}, _FILE))
    return Pinned(changes, believed)


def _images(catalog: Catalog) -> Iterator[tuple[values.Path, str]]:
    online: dict[str, str] = dict(catalog.versions["online"])
    upstream = ArgocdImages.read(catalog.argocd_manifest())
    online |= {"argocd": upstream.argocd, "redis": upstream.redis}
    with phase("Asking registries") as progress:
        client = docker.client(seconds=60)
        try:
            for count, (key, name) in enumerate(online.items(), 1):
                progress.update(f"{count} of {len(online)}: {pins.bare(name)}")
                yield ("online", key), f"{pins.bare(name)}@{_digest(client, pins.bare(name))}"
        finally:
            client.close()


def _digest(client: Any, name: str) -> str:
    hint = "nothing was written; run it where this registry is in reach: make pin"
    with failing(f"the registry of {name} does not say what it is", NotAsked, hint):
        said = client.api.inspect_distribution(name)
    try:
        digest = str(said["Descriptor"]["digest"])
    except (KeyError, TypeError):
        digest = ""
    if not docker.DIGEST.match(digest):
        raise NotAsked(f"the registry of {name} gave no digest", "nothing was written; try again: make pin")
    return digest
