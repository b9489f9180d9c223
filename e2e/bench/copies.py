"""Copies of an environment in namespaces of their own, which nobody guards: the floor, and what others deploy into."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from delivery.parts import programs
from delivery.pipeline import Environment
from e2e.bench.watch import Rollout, Watch
from e2e.delivery import Checkout

PREFIX = "bench-"  # of every namespace that the bench makes
_READY_LIMIT = 180.0


@dataclass(frozen=True)
class Copy:
    """An environment's chart and values in the namespace `bench-NAME`."""

    checkout: Checkout
    environment: Environment
    name: str

    @property
    def namespace(self) -> str:
        """Where it is."""
        return PREFIX + self.name

    @property
    def replicas(self) -> int:
        """How many pods of the app it has."""
        found = self.checkout.get("deployment", self.checkout.app, "-n", self.namespace)
        return int(found["spec"]["replicas"])

    def rendered(self, digest: str = "") -> str:
        """The manifests of the environment as its newest values have it, or with another digest."""
        pipeline, tree = self.checkout.pipeline, self.checkout.path
        chosen = ("--set", f"image.digest={digest}") if digest else ()
        return subprocess.run(
            [
                *(programs.path("helm"), "template", pipeline.chart.release, tree / pipeline.chart.path),
                *("--namespace", self.namespace, "--values", tree / self.environment.values),
                *("--set", "service.nodePort=0", *chosen),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout

    def set_image(self, digest: str) -> float:
        """Seconds from `kubectl set image` to all replicas Ready with that digest."""
        checkout = self.checkout
        image = f"{checkout.app}={checkout.context.site.image.name}@{digest}"
        replicas = self.replicas
        with self.pods() as pods:
            start = time.monotonic()
            checkout.kubectl("-n", self.namespace, "set", "image", f"deployment/{checkout.app}", image)
            return self.ready(pods, digest, replicas) - start

    def pods(self) -> Watch:
        """A watch on the app's pods."""
        return Watch(self.checkout, "pods", "-n", self.namespace, "-l", self.checkout.selector)

    def ready(self, pods: Watch, digest: str, replicas: int, limit: float = _READY_LIMIT) -> float:
        """When all replicas were Ready with that digest, in seconds of time.monotonic()."""
        return pods.until(
            Rollout(digest, replicas).look, limit, f"{digest[:19]} is Ready in {self.namespace}"
        )

    def prepare(self) -> None:
        """Make the namespace with the environment's Secrets, and nothing that runs yet. One that is left goes first."""
        checkout = self.checkout
        self.remove()
        checkout.kubectl("create", "namespace", self.namespace)
        for name in checkout.pipeline.app.secrets:
            secret = checkout.get("secret", name, "-n", self.environment.namespace)
            secret["metadata"] = {"name": name, "namespace": self.namespace}
            checkout.apply(secret)

    def remove(self) -> None:
        """Delete the namespace, and return when it is gone: what follows is measured without it."""
        delete = ("delete", "namespace", self.namespace, "--ignore-not-found", "--timeout=100s")
        self.checkout.kubectl(*delete)


@contextmanager
def running(checkout: Checkout, environment: Environment) -> Iterator[Copy]:
    """A copy that runs what the environment runs now, for as long as the block: the floor of that environment."""
    copy = Copy(checkout, environment, environment.name)
    with kept(copy):
        checkout.kubectl("-n", copy.namespace, "apply", "-f", "-", input=copy.rendered())
        limit = f"--timeout={_READY_LIMIT:.0f}s"
        checkout.kubectl("-n", copy.namespace, "rollout", "status", f"deployment/{checkout.app}", limit)
        yield copy


@contextmanager
def kept(copy: Copy) -> Iterator[Copy]:
    """The copy's namespace, for as long as the block."""
    copy.prepare()
    try:
        yield copy
    finally:
        copy.remove()
