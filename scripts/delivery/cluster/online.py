"""The platform's images on a machine that reaches public registries: pulled, pinned by versions.yaml."""

from delivery.cluster import pins
from delivery.cluster.catalog import ArgocdImages, Catalog
from delivery.cluster.preload import Node
from delivery.cluster.progress import phase
from delivery.cluster.recipes import Recipe, image_exists
from delivery.errors import PlatformError
from delivery.parts import docker


class Online:
    """Public images. Built on them: the Git server, which nobody publishes, and Python with Debian's updates."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._versions: dict[str, str] = catalog.versions["online"]

    @property
    def python_images(self) -> tuple[str, str]:
        """(build, runtime) stages of manual-app's Dockerfile."""
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
        names = list(self._versions.values())
        with phase("Pulling images") as progress:
            client = docker.client(seconds=1800)
            for count, name in enumerate(names, 1):
                progress.update(f"{count} of {len(names)}: {name.partition('@')[0]}")
                if not image_exists(name):
                    _pull(client, name)
            client.close()
        with phase("Building the Git server and Python's updates"):
            for recipe in (self._base, self.gateway, self._python, self._catalog.python_build(self._python)):
                recipe.build()
        self.node.make({pins.bare(self._versions[name]): self._versions[name] for name in pins.OF_ARGOCD})


def reaches_registry(catalog: Catalog) -> bool:
    """Whether a public registry answers this machine's Docker daemon."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    client = docker.client(seconds=15)
    try:
        client.api.inspect_distribution(catalog.versions["online"]["base"])
    except (DockerException, RequestException):
        return False
    finally:
        client.close()
    return True


def _pull(client, name: str) -> None:  # type: ignore[no-untyped-def]
    from docker.errors import DockerException

    try:
        client.api.pull(name)
    except DockerException as error:
        raise PlatformError(
            f"cannot pull {name}: {' '.join(str(error).split())[:200]}",
            "run it again, or build the same parts from package registries: DELIVERY_IMAGES=closed",
        ) from None
