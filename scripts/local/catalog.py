"""What both sources of images share: the checkout's Dockerfiles, its versions file and its Go module."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from local import trust
from local.closed.golang import Module
from local.recipes import Files, Recipe, content_stamp

KIND = "sigs.k8s.io/kind"
ARGOCD = "github.com/argoproj/argo-cd/v3"
POLICY_CONTROLLER = "github.com/sigstore/policy-controller"


class Catalog:
    """The recipes in scripts/local, read from one checkout."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "scripts" / "local"
        # Once: a run that crosses midnight on Sunday goes on with the images that it began with.
        self._week = datetime.now(UTC).strftime("%G-W%V")
        self.module = Module(self.folder / "closed" / "go")
        self.versions: dict[str, Any] = YAML(typ="safe").load(
            (self.folder / "versions.yaml").read_text("utf-8")
        )

    def recipe(
        self,
        name: str,
        arguments: Mapping[str, str],
        files: Callable[[], Files] = dict,
        stamp: str = "",
    ) -> Recipe:
        """The recipe of NAME.Dockerfile, in dockerfiles/ or among those for a closed network alone."""
        folders = (self.folder / "dockerfiles", self.folder / "closed" / "dockerfiles")
        found = next(file for one in folders if (file := one / f"{name}.Dockerfile").is_file())
        text = found.read_text(encoding="utf-8")
        return Recipe(name, text, arguments, files, stamp)

    def with_folder(self, name: str, folder: Path, arguments: Mapping[str, str]) -> Recipe:
        """A recipe that copies in one folder of the checkout, under the folder's own name."""
        return self.recipe(name, arguments, lambda: {folder.name: folder}, content_stamp(folder))

    def base(self, debian: str, name: str = "base") -> Recipe:
        """An image of Debian with its newest updates; `debian` is the image it starts from.

        Made anew each week, so that updates get in without anybody thinking of it.
        """
        script = self.folder / "dockerfiles" / "apt-install"
        arguments = {"DEBIAN": debian, "WEEK": self._week}
        made = self.recipe("base", arguments, lambda: {"apt-install": script}, content_stamp(script))
        return replace(made, name=name)

    def python_build(self, python: Recipe) -> Recipe:
        """The app's build stage: `python`, with pip that reaches what this host's pip reaches."""
        bundle, pip = trust.ca_bundle(), trust.pip_configuration()
        files: Files = {"ca-certificates.crt": bundle, "pip.conf": pip.encode()}
        stamp = content_stamp(bundle) + pip
        return self.recipe("python-build", {"PYTHON": python.tag}, lambda: files, stamp)

    def gateway(self, base: Recipe) -> Recipe:
        """The Git server and the guard before the registry."""
        return self.with_folder("gateway", self.folder / "gateway", {"BASE": base.tag})

    def drop_sources(self) -> None:
        """Remove what only a compiler needs, once all is compiled: of the sources those stay that are read again."""
        self.module.drop_sources(ARGOCD, KIND, POLICY_CONTROLLER)

    def argocd_manifest(self) -> Path:
        """Argo CD's own core-install.yaml, out of its module."""
        return self.module.source(ARGOCD) / "manifests" / "core-install.yaml"


@dataclass(frozen=True)
class ArgocdImages:
    """The image names that Argo CD's manifest asks for."""

    argocd: str
    redis: str

    @classmethod
    def read(cls, manifest: Path) -> "ArgocdImages":
        """Read them out of the upstream manifest: it has the last word about names and tags."""
        names = set(re.findall(r"^\s+image: (\S+)$", manifest.read_text(encoding="utf-8"), re.M))
        redis = next(name for name in names if "/redis:" in name)
        (argocd,) = names - {redis}
        return cls(argocd, redis)
