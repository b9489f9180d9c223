"""The public images that a laptop pulls, made on the closed network after their contracts (images/README.md)."""

import gzip
import hashlib
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML

from delivery.parts import tar
from delivery.progress import phase
from local import images, paths, pins, platforms, released
from local.catalog import KIND
from local.closed.images import Closed
from local.preload import Node
from local.recipes import Files, Recipe, content_stamp, each
from local.shell import run

HERE = Path(__file__).resolve().parent
_CONTAINERD = ("containerd", "containerd-shim-runc-v2", "ctr")


class Public:
    """What the closed network has, under the contracts of public images."""

    def __init__(self) -> None:
        self._catalog = images.catalog()
        self._closed = Closed(self._catalog)
        self._programs = self._catalog.module.bin

    def make(self) -> dict[str, str]:
        """Build what is missing; key of scripts/local/versions.yaml -> the local image that stands for it."""
        self._closed.make()
        base = self._closed.base.build()
        recipes = {name: self._recipe(name, base) for name in ("python", "postgres", "registry", "redis")}
        recipes["policy-controller"] = self._recipe("policy-controller", "")
        with phase("Building the public images") as progress:
            for recipe, said in each(list(recipes.values()), progress.update):
                recipe.build(said)
        node = self._node()
        made = {recipe.name.removeprefix("public-"): recipe.tag for recipe in recipes.values()}
        return {
            "node": node,
            "base": self._closed.debootstrap,
            "python": made["python"],
            "postgresql": made["postgres"],
            "registry": made["registry"],
            "policy-controller": made["policy-controller"],
            "argocd": self._closed.argocd.build(),
            "redis": made["redis"],
        }

    def names(self) -> dict[str, str]:
        """Key of scripts/local/versions.yaml -> NAME:TAG that a laptop asks for, without a digest."""
        return {key: pins.bare(name) for key, name in self._catalog.versions["online"].items()}

    def web(self) -> str:
        """An image with nginx in it."""
        return self._closed.gateway.build()

    def downloads(self) -> dict[str, bytes]:
        """The programs that a laptop fetches, as HOST/PATH -> content: ours, packed as their publishers pack them."""
        here, found = platforms.here(), {}
        for tool in released.tools(self._catalog).values():
            content = (self._programs / tool.name).read_bytes()
            if member := tool.at(tool.member, here):
                content = gzip.compress(tar.pack({member: content}, 0o755), compresslevel=1, mtime=0)
            found[tool.at(tool.url, here).removeprefix("https://")] = content
        return found

    def versions(self, pinned: Mapping[str, str], downloads: Mapping[str, bytes]) -> str:
        """scripts/local/versions.yaml with the digests that the test has, and the checksums of its downloads."""
        yaml = YAML()
        file = self._catalog.folder / "versions.yaml"
        document = yaml.load(file.read_text(encoding="utf-8"))
        document["online"].update(pinned)
        here = platforms.here()
        for name, tool in released.tools(self._catalog).items():
            content = downloads[tool.at(tool.url, here).removeprefix("https://")]
            document["tools"][name]["pinned"] = {
                "version": tool.version,
                str(here): hashlib.sha256(content).hexdigest(),
            }
        out = StringIO()
        yaml.dump(document, out)
        return out.getvalue()

    def _recipe(self, name: str, base: str) -> Recipe:
        folder = HERE / "images"
        text = (folder / f"{name}.Dockerfile").read_text(encoding="utf-8")
        files: dict[str, Mapping[str, Path]] = {
            "postgres": {"docker-entrypoint.sh": folder / "postgres-entrypoint"},
            "redis": {"docker-entrypoint.sh": folder / "redis-entrypoint"},
            "registry": {
                "entrypoint.sh": folder / "registry-entrypoint",
                "config.yml": folder / "registry.yml",
                "registry": self._programs / "registry",
            },
            "policy-controller": {"policy-controller": self._programs / "policy-controller"},
        }
        own = files.get(name, {})
        stamp = content_stamp(*(path for path in own.values() if path.is_relative_to(HERE)))
        arguments = {"BASE": base} if base else {}
        return Recipe(f"public-{name}", text, arguments, lambda: own, stamp + self._catalog.module.key)

    def _node(self) -> str:
        """kind's node with containerd 2 and kind's own configuration; the control plane is in it, nothing of ours."""
        programs = _containerd(self._catalog.module.go())

        def files() -> Files:
            kind = self._catalog.module.source(KIND)
            own: dict[str, Path | bytes] = {f"bin/{name}": programs / name for name in _CONTAINERD}
            return {
                **own,
                "config.toml": kind / "images" / "base" / "files" / "etc" / "containerd" / "config.toml",
            }

        text = (HERE / "images" / "node.Dockerfile").read_text(encoding="utf-8")
        stamp = content_stamp(HERE / "node") + self._catalog.module.key
        base = Recipe("public-node", text, {"NODE": self._closed.node_base.build()}, files, stamp)
        with phase("Building kind's node image") as progress:
            base.build(progress.update)
        node = Node(base.tag, {}, stamp="public")
        node.make({name: recipe.build() for name, recipe in self._closed.control_plane().items()})
        return node.name


def _containerd(go: Path) -> Path:
    """containerd 2, which no Debian release before forky has, from its Go module; the folder with its programs."""
    made = paths.cache("containerd", content_stamp(HERE / "node")[:16])
    if not all((made / name).exists() for name in _CONTAINERD):
        made.mkdir(parents=True, exist_ok=True)
        environment = {
            "CGO_ENABLED": "0",
            "GOFLAGS": "-buildvcs=false -trimpath",
            "GOTOOLCHAIN": "local",
            "GOMODCACHE": str(paths.cache("go", "mod")),
            "GOCACHE": str(paths.cache("go", "build")),
        }
        tags = "no_aufs no_zfs no_btrfs no_devmapper"
        packages = [f"github.com/containerd/containerd/v2/cmd/{name}" for name in _CONTAINERD]
        with phase("Compiling containerd") as progress:
            command = [str(go), "build", "-v", "-tags", tags, "-ldflags=-s -w", "-o", f"{made}/", *packages]
            node, hint = HERE / "node", "look at the Go proxy and the space that is left"
            run(command, hint=hint, limit=1800, cwd=node, env=environment, said=progress.update)
    return made
