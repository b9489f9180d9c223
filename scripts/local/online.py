"""The platform's images on a machine that reaches public registries: pulled, pinned by versions.yaml."""

from delivery.progress import phase
from local import pins, reach, room
from local.catalog import ArgocdImages, Catalog
from local.preload import Node
from local.recipes import Recipe, each


class Online:
    """Public images. Built on them: the Git server, which nobody publishes, and Python with Debian's updates."""

    # Bytes that must be free to make all of it and to start a cluster: about 3 GiB are pulled, and stand unpacked in
    # Docker, once more in the node image and once more in the node.
    space = 10 * room.GIB

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._versions: dict[str, str] = catalog.versions["online"]

    @property
    def python_images(self) -> tuple[str, str]:
        """(build, runtime) stages of the app's Dockerfile."""
        return self._catalog.python_build(self._python).tag, self._python.tag

    @property
    def platform_images(self) -> dict[str, str]:
        """The images that the cluster asks for by digest: those beside the app, and policy-controller."""
        public = {name: self._versions[name] for name in ("postgresql", "policy-controller")}
        return {**public, "python": self._python.tag}

    @property
    def registry(self) -> str:
        """The registry's image."""
        return self._versions["registry"]

    @property
    def gateway(self) -> Recipe:
        """The Git server and the guard before the registry."""
        return self._catalog.gateway(self._base)

    @property
    def probe(self) -> str:
        """A small image with a shell, to look from inside of Docker."""
        return self._versions["base"]

    @property
    def node(self) -> Node:
        """kind's own node image with the platform preloaded."""
        inside = "".join(self._versions[name] for name in pins.OF_ARGOCD)
        return Node(self._versions["node"], self.platform_images, stamp=self._catalog.module.key + inside)

    @property
    def _base(self) -> Recipe:
        return self._catalog.base(self._versions["base"])

    @property
    def _python(self) -> Recipe:
        # The public image is made anew when Python is; what Debian mends in between would be missing.
        return self._catalog.base(self._versions["python"], name="python")

    def make(self) -> None:
        """Pull and build what is missing."""
        upstream = ArgocdImages.read(self._catalog.argocd_manifest())
        pins.agree(self._versions, upstream)
        with phase("Pulling images") as progress:
            reach.pull([self.probe], progress.update)
            room.check(self.space, [self.probe])  # a VM can be looked into only now
            reach.pull(list(self._versions.values()), progress.update)
        with phase("Building the Git server and Python's updates") as progress:
            wanted = (self._base, self.gateway, self._python, self._catalog.python_build(self._python))
            for recipe, said in each(wanted, progress.update):
                recipe.build(said)
        self.node.make({pins.bare(self._versions[name]): self._versions[name] for name in pins.OF_ARGOCD})
