"""source-controller and kustomize-controller in the cluster, with what upstream's own manifests ask for."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

from ruamel.yaml import YAML

from delivery.parts import docker
from e2e.delivery import Checkout
from local import kind as kinds
from local import platforms, preload, store
from local.closed.golang import Module
from local.recipes import Recipe
from local.shell import run

NAMESPACE = "flux-system"
NAMES = ("source-controller", "kustomize-controller")
_MODULE = "github.com/fluxcd/"
_READY_LIMIT = "--timeout=180s"
_HINT = "run it again: what was made is kept"


class Controllers(Module):
    """The Go module of this folder."""

    programs: ClassVar[Mapping[str, str]] = {name: _MODULE + name for name in NAMES}

    def __init__(self, toolchain: Path) -> None:
        super().__init__(Path(__file__).parent)
        self._toolchain = toolchain

    @property
    def toolchain(self) -> Path:
        """The platform's own."""
        return self._toolchain

    def linker_flags(self) -> str:
        """No symbols; nothing asks these for their version."""
        return "-s -w"

    def recipe(self, name: str, programs: Path) -> Recipe:
        """The image of one: the program alone, as upstream's runs it; what else that one has is for sops and ssh."""
        dockerfile = f'FROM scratch\nCOPY {name} /\nUSER 65534:65534\nENTRYPOINT ["/{name}"]\n'
        return Recipe(name, dockerfile, files=lambda: {name: programs / name}, stamp=self.key)

    def upstream(self, name: str) -> Path:
        """The folder `config` of a controller's source: its manifests are taken from there, never copied into Git."""
        return self.source(_MODULE + name) / "config"


@contextmanager
def running(checkout: Checkout) -> Iterator[None]:
    """Both controllers, Ready, for as long as the block; PlatformError where they cannot be compiled."""
    platform = checkout.cluster.root / "scripts" / "local" / "closed" / "go"
    module = Controllers(platform / Module(platform).toolchain.name)
    programs = module.build(*NAMES, platform=platforms.node())
    images = {name: module.recipe(name, programs).build() for name in NAMES}
    node = kinds.node_name(checkout.cluster)
    client = docker.client()
    try:
        preload.fill(node, list(images.values()), store.architecture(client))
    finally:
        client.close()
    preload.unpack(node, tuple(images.values()))
    checkout.kubectl("create", "namespace", NAMESPACE, check=False)
    try:
        for name, image in images.items():
            _apply(checkout, module.upstream(name), image)
        _rights(checkout)
        for name in NAMES:
            ready = ("rollout", "status", f"deployment/{name}", _READY_LIMIT)
            checkout.kubectl("-n", NAMESPACE, *ready)
        yield
    finally:
        _remove(checkout, module, node, images)


def _apply(checkout: Checkout, config: Path, image: str) -> None:
    checkout.kubectl("apply", "--server-side", "-f", str(config / "crd" / "bases"))
    checkout.kubectl(
        "wait", "--for=condition=Established", "--timeout=60s", "-f", str(config / "crd" / "bases")
    )
    for file in ("service.yaml", "deployment.yaml"):
        if not (config / "manager" / file).exists():
            continue  # kustomize-controller serves nobody
        yaml, out = YAML(), StringIO()
        document: dict[str, Any] = yaml.load((config / "manager" / file).read_text(encoding="utf-8"))
        if document["kind"] == "Deployment":
            [container] = document["spec"]["template"]["spec"]["containers"]
            container |= {"image": image, "imagePullPolicy": "Never"}
        yaml.dump(document, out)
        checkout.kubectl("-n", NAMESPACE, "apply", "-f", "-", input=out.getvalue())


def _rights(checkout: Checkout) -> None:
    """`flux bootstrap` makes its reconciler an administrator of the whole cluster, too."""
    who = f"--serviceaccount={NAMESPACE}:default"
    checkout.kubectl(
        "create", "clusterrolebinding", "bench-flux", "--clusterrole=cluster-admin", who, check=False
    )


def _remove(checkout: Checkout, module: Controllers, node: str, images: dict[str, str]) -> None:
    """Namespace, rights, CRDs, and the images on the node; the images in Docker stay, for the next bench."""
    for what in (("namespace", NAMESPACE), ("clusterrolebinding", "bench-flux")):
        checkout.kubectl("delete", *what, "--ignore-not-found", "--timeout=90s")
    for name in NAMES:
        bases = str(module.upstream(name) / "crd" / "bases")
        checkout.kubectl("delete", "--ignore-not-found", "--timeout=60s", "-f", bases)
    names = [f"docker.io/{name}" for name in images.values()]
    run(["docker", "exec", node, "ctr", "-n", "k8s.io", "images", "rm", *names], hint=_HINT)
