"""The app's container and those beside it on this machine's Docker, on a network of their own, gone afterwards."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from delivery.app import SECRETS, AppContainer, Container, Service
from delivery.context import Context
from delivery.errors import BadInput, PlatformError
from delivery.parts import direct, docker, tar
from delivery.parts.daemon import failing
from delivery.pipeline import FILE
from delivery.site import Site
from delivery.wait import Failed, Pending, Reached, until

_SECONDS = 90.0
_LABEL = "delivery.ci"
_PLATFORM = "platform/"
_HOW = "mend the app, or how it is run: ci.app in pipeline.yaml"
# As the chart's pods are: an app that needs more is found here, and not in the cluster.
_RESTRICTED = {"cap_drop": ["ALL"]}


class Started:
    """The app's container, and where this machine reaches it."""

    def __init__(self, container: Any, port: str) -> None:
        self._container = container
        self._port = port
        self.url = ""

    def look(self) -> Reached[None] | Failed | Pending:
        """Whether it runs; with its last words when it does not any more."""
        self._container.reload()
        if self._container.status == "exited":
            return Failed(f"it ended: {_last(self._container)}", _HOW)
        if ports := self._container.ports.get(self._port):
            self.url = f"http://{direct.LOOPBACK}:{ports[0]['HostPort']}"
            return Reached(None)
        return Pending(self._container.status)


class Containers:
    """What `delivery ci` starts: the app from `image`, services by their names, secrets made for the occasion."""

    def __init__(self, context: Context, image: str, client: Any, name: str) -> None:
        self._context = context
        self._image = image
        self._client = client
        self._name = name
        self._secrets = {
            f"{SECRETS}/{secret}/{key}": secrets.token_urlsafe(24).encode()
            for secret, keys in context.pipeline.app.secrets.items()
            for key in keys
        }

    def secret(self, name: str) -> str:
        """The value of one of `app.secrets`, named SECRET/KEY, as all of these containers have it."""
        return self._secrets[f"{SECRETS}/{name}"].decode()

    def start_service(self, name: str, service: Service) -> None:
        """Start one container that stands beside the app; it is reached by its name."""
        image = _image(self._context.site, service.image)
        if image == service.image:
            self._have(image)
        self._create(name, image, service).start()

    def run_once(self, app: AppContainer) -> None:
        """Run the app's image with another command; BadInput with its last words when that fails."""
        container = self._create("init", self._image, app, **_RESTRICTED)
        container.start()
        code = container.wait(timeout=_SECONDS)["StatusCode"]
        if code:
            raise BadInput(
                f"{' '.join(app.command)} exits with {code}: {_last(container)}", "mend it: ci.app.init"
            )

    def start_app(self, app: AppContainer, port: int) -> "Started":
        """Start the app."""
        inside = f"{port}/tcp"
        container = self._create(
            "app", self._image, app, ports={inside: (direct.LOOPBACK, None)}, **_RESTRICTED
        )
        container.start()
        started = Started(container, inside)
        until("the container runs", started.look, 30, _HOW)
        return started

    def remove(self) -> None:
        """Remove everything that was started, and its network."""
        label = {"label": f"{_LABEL}={self._name}"}
        for container in self._client.containers.list(all=True, filters=label):
            container.remove(force=True, v=True)
        for network in self._client.networks.list(filters=label):
            network.remove()

    def _have(self, image: str) -> None:
        from docker.errors import ImageNotFound

        try:
            self._client.images.get(image)
        except ImageNotFound:
            docker.pull(image)

    def _create(self, name: str, image: str, wanted: Container, **more: Any) -> Any:
        from docker.types import Mount

        files = self._secrets | {inside: self._file(source) for inside, source in wanted.files.items()}
        folders = sorted({str(PurePosixPath(one).parent) for one in files})
        container = self._client.containers.create(
            image,
            list(wanted.command) or None,
            name=f"{self._name}-{name}",
            environment=wanted.environment,
            user=wanted.user,
            read_only=wanted.read_only,
            tmpfs=dict(self._tmpfs(one) for one in wanted.tmpfs),
            # A volume of its own for each folder of files: they can be put there although the container reads only.
            mounts=[Mount(folder, None, type="volume") for folder in folders],
            security_opt=["no-new-privileges"],
            labels={_LABEL: self._name},
            network=self._name,
            networking_config={self._name: self._client.api.create_endpoint_config(aliases=[name])},
            **more,
        )
        for folder in folders:
            inside = {
                one: content for one, content in files.items() if str(PurePosixPath(one).parent) == folder
            }
            named = {PurePosixPath(one).name: content for one, content in inside.items()}
            container.put_archive(folder, tar.pack(named, 0o444))
        return container

    def _file(self, source: str) -> bytes:
        try:
            return (self._context.checkout / source).read_bytes()
        except OSError as error:
            raise BadInput(f"{source}: {error.strerror}", f"mend `files` in {FILE}: ci") from None

    @staticmethod
    def _tmpfs(text: str) -> tuple[str, str]:
        folder, _, options = text.partition(":")
        return folder, options


@contextmanager
def removed_after(context: Context, image: str) -> Iterator[Containers]:
    """Containers on a network of their own; whatever was started is removed at the end of the block."""
    client = docker.client(seconds=120)
    name = f"{context.pipeline.chart.release}-ci-{secrets.token_hex(4)}"
    containers = Containers(context, image, client, name)
    try:
        with failing("docker", PlatformError, "is Docker well? docker info"):
            client.networks.create(name, labels={_LABEL: name})
            yield containers
    finally:
        containers.remove()
        client.close()


def _image(site: Site, name: str) -> str:
    """What Docker calls an image of pipeline.yaml: platform/NAME is the local site's, any other is its own name."""
    if not name.startswith(_PLATFORM):
        return name
    wanted = name.removeprefix(_PLATFORM)
    if wanted not in site.images:
        known = ", ".join(_PLATFORM + one for one in sorted(site.images))
        raise BadInput(
            f"site {site.name} has no image {name}",
            f"one of: {known}" if known else f"name one that docker can pull, in {FILE}: ci.services",
        )
    return site.images[wanted]


def _last(container: Any) -> str:
    lines = container.logs(tail=5).decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
