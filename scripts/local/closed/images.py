"""The platform's images on a closed network: the same parts, built from Debian's and Go's registries."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from delivery.errors import PlatformError
from delivery.parts import docker
from delivery.progress import phase
from local import platforms, room, store
from local.catalog import KIND, ArgocdImages, Catalog
from local.closed import debian
from local.preload import REPOSITORY, Node
from local.recipes import PREFIX, Recipe, content_stamp, each, image_exists
from local.shell import run

_HINT = "run it again: what was made is kept"
_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
# What enforces NetworkPolicy, as the node's own default-cni.yaml names it.
ENFORCER = f"{REPOSITORY}/kube-network-policies:preloaded"
_NODE_PROGRAMS = ("kubeadm", "kubectl", "kubelet", "crictl", "ptp", "loopback", "host-local", "portmap")


class Closed:
    """Images whose names say what went into them: the same inputs, the same name, nothing built twice."""

    # Bytes that must be free to make all of it and to start a cluster: Go's build cache is the most of it.
    space = 25 * room.GIB

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._module = catalog.module
        self._suite: str = catalog.versions["debian"]
        self.debootstrap = f"{PREFIX}/debootstrap:{self._suite}"
        self.base = catalog.base(self.debootstrap)

    @property
    def python_images(self) -> tuple[str, str]:
        """(build, runtime) stages of the app's Dockerfile."""
        return self._python_build.tag, self._python.tag

    @property
    def platform_images(self) -> dict[str, str]:
        """The images that the cluster asks for by digest: those beside the app, and policy-controller."""
        return {
            "postgresql": self._postgresql.tag,
            "python": self._python.tag,
            "policy-controller": self._program("policy-controller").tag,
        }

    @property
    def registry(self) -> str:
        """The registry's image."""
        return self._program("registry").tag

    @property
    def gateway(self) -> Recipe:
        """The Git server and the guard before the registry."""
        return self._catalog.gateway(self.base)

    @property
    def probe(self) -> str:
        """A small image with a shell, to look from inside of Docker."""
        return self.base.tag

    @property
    def node(self) -> Node:
        """A node image as kind makes it, with the platform preloaded."""
        return Node(self.node_base.tag, self.platform_images, stamp=self.argocd.tag + self._redis.tag)

    @cached_property
    def _platform(self) -> platforms.Platform:
        return platforms.node()

    @property
    def _bin(self) -> Path:
        """The programs for the images: for the node's platform, which is not always the host's."""
        return self._module.bin_for(self._platform)

    def make(self) -> None:
        """Build what is missing. Debian's part of the images is made while Go compiles."""
        node_is_there = image_exists(self.node.name)
        with ThreadPoolExecutor(1) as pool:
            programs = pool.submit(self._module.build_for_images, self._platform)
            with phase("Preparing Debian") as progress:
                self._import_debian(progress.update)
                self.base.build(progress.update)
            self._build(
                [self._python, self._python_build, self._postgresql, self.gateway],
                "Debian images",
            )
            if not node_is_there:
                with phase("Preparing the node image") as progress:
                    wanted = (self._redis, self.node_base, self.argocd, self._kube_proxy)
                    for recipe, said in each(wanted, progress.update):
                        make = recipe.build if recipe.name == self._redis.name else recipe.prepare
                        make(said)
            programs.result()
        self._build(
            [self._program(name) for name in ("registry", "policy-controller")], "images that run alone"
        )
        if not node_is_there:
            self._make_node()

    def _make_node(self) -> None:
        control_plane = self.control_plane()
        self._build([self.node_base, self.argocd, *control_plane.values()], "images of the node")
        upstream = ArgocdImages.read(self._catalog.argocd_manifest())
        preloaded = {name: recipe.tag for name, recipe in control_plane.items()}
        self.node.make({**preloaded, upstream.argocd: self.argocd.tag, upstream.redis: self._redis.tag})
        inside = [*control_plane.values(), self.node_base, self.argocd, self._redis]
        client = docker.client()
        try:  # the node image has them inside, and nothing asks for them beside it
            for recipe in inside:
                if recipe.tag != self.base.tag:
                    store.remove(client, recipe.tag, f"{PREFIX}/{recipe.name}:system")
        finally:
            client.close()

    def _build(self, recipes: list[Recipe], what: str) -> None:
        with phase(f"Building {what}") as progress:
            for recipe, said in each(recipes, progress.update):
                recipe.build(said)

    def _import_debian(self, said: Callable[[str], None]) -> None:
        if not image_exists(self.debootstrap):
            rootfs = debian.rootfs(self._suite, said)
            said("docker import")
            run(["docker", "import", rootfs, self.debootstrap], hint=_HINT)

    def _on_base(self, name: str) -> Recipe:
        return self._catalog.recipe(name, {"BASE": self.base.tag})

    @property
    def _python(self) -> Recipe:
        return self._on_base("python")

    @property
    def _python_build(self) -> Recipe:
        return self._catalog.python_build(self._python)

    @property
    def _postgresql(self) -> Recipe:
        folder = self._catalog.folder / "closed" / "dockerfiles" / "postgresql"
        return self._catalog.with_folder("postgresql", folder, {"BASE": self.base.tag})

    @property
    def _redis(self) -> Recipe:
        return self._on_base("redis")

    @property
    def argocd(self) -> Recipe:
        """Argo CD, as its own image has it."""

        def files() -> dict[str, Path | bytes]:
            upstream = self._catalog.argocd_manifest().parent.parent
            scripts = ("hack/gpg-wrapper.sh", "hack/git-verify-wrapper.sh", "entrypoint.sh")
            return {f"upstream/{name}": upstream / name for name in scripts} | self._programs(
                "argocd", "helm"
            )

        return self._catalog.recipe("argocd", {"BASE": self.base.tag}, files, self._module.key)

    @property
    def _kube_proxy(self) -> Recipe:
        return self._catalog.recipe(
            "kube-proxy", {"BASE": self.base.tag}, lambda: self._programs("kube-proxy"), self._module.key
        )

    @property
    def _enforcer(self) -> Recipe:
        # On a Debian: its startup probe looks into /proc.
        name = "kube-network-policies"
        dockerfile = f'ARG BASE\nFROM ${{BASE}}\nCOPY {name} /usr/local/bin/\nENTRYPOINT ["{name}"]\n'
        arguments, files = {"BASE": self.base.tag}, lambda: {name: self._bin / name}
        return Recipe(name, dockerfile, arguments, files, self._module.key)

    @property
    def node_base(self) -> Recipe:
        """The node before anything is preloaded."""
        own = self._catalog.folder / "closed" / "dockerfiles" / "node"

        def files() -> dict[str, Path | bytes]:
            kind = self._module.source(KIND)
            return {
                "upstream": kind / "images" / "base" / "files",
                "node": own,
                "pause-image": next(name for name in self._kubeadm_images() if "/pause:" in name).encode(),
                "default-storage.yaml": default_storage(kind)[0].encode(),
                **self._programs(*_NODE_PROGRAMS),
            }

        arguments = {"BASE": self.base.tag, "KUBERNETES_VERSION": self._module.version("k8s.io/kubernetes")}
        return self._catalog.recipe("node", arguments, files, self._module.key + content_stamp(own))

    def control_plane(self) -> dict[str, Recipe]:
        """The images that kubeadm and kind look for in a node, each under the very name they use."""
        recipes = {name: self._program(name) for name in (*_KUBERNETES, "etcd", "coredns", "pause")}
        recipes["kube-proxy"] = self._kube_proxy
        names = {re.split(r"[/:]", name)[-2]: name for name in self._kubeadm_images()}
        _, provisioner, helper = default_storage(self._module.source(KIND))
        return {
            **{names[name]: recipe for name, recipe in recipes.items()},
            provisioner: self._program("local-path-provisioner"),
            helper: self.base,
            ENFORCER: self._enforcer,
        }

    def _kubeadm_images(self) -> list[str]:
        version = self._module.version("k8s.io/kubernetes")
        kubeadm = self._module.build("kubeadm", platform=platforms.here()) / "kubeadm"
        listed = run([kubeadm, "config", "images", "list", f"--kubernetes-version={version}"], hint=_HINT)
        return listed.split()

    def _program(self, name: str) -> Recipe:
        dockerfile = (
            f'FROM scratch\nENV PATH=/usr/local/bin\nCOPY {name} /usr/local/bin/\nENTRYPOINT ["{name}"]\n'
        )
        return Recipe(name, dockerfile, files=lambda: {name: self._bin / name}, stamp=self._module.key)

    def _programs(self, *names: str) -> dict[str, Path | bytes]:
        return {f"bin/{name}": self._bin / name for name in names}


def default_storage(kind: Path) -> tuple[str, str, str]:
    """(manifest, provisioner image, helper image) of kind's default storage class, out of kind's own source."""
    text = (kind / "pkg" / "build" / "nodeimage" / "const_storage.go").read_text(encoding="utf-8")
    constants = dict(re.findall(r'^const (\w+) = "(.*)"$', text, re.M))
    provisioner, helper = constants["storageProvisionerImage"], constants["storageHelperImage"]
    manifest = text.partition("const defaultStorageManifest = `")[2].rpartition("`")[0]
    for name, value in constants.items():
        manifest = manifest.replace(f"` + {name} + `", value)
    if not manifest or "`" in manifest:
        raise PlatformError(
            "kind's default storage manifest has another form now", "see default_storage() in closed.py"
        )
    return manifest, provisioner, helper
