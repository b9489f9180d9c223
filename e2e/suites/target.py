"""The environment under test: where users reach it, and a look inside where a promise is about the inside."""

import json
import subprocess
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from delivery.build import image
from delivery.build.image import Built
from delivery.context import Context
from delivery.desired import manifests as desired
from delivery.parts import git, programs, registry
from delivery.parts.registry import Registry
from delivery.pipeline import Environment

Object = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What Git asks of the environment, and what that digest says of itself in the registry."""

    tag: str
    digest: str
    image: Built


class Target:
    """One environment of one site. Every question is bounded in seconds."""

    def __init__(self, context: Context, environment: Environment) -> None:
        self.context = context
        self.pipeline = context.pipeline
        self.environment = environment
        # Never anything but what the site names: some suites put load on it, or restart it.
        self.url = context.site.url(environment.name)

    @property
    def namespace(self) -> str:
        """Where the environment lives."""
        return self.environment.namespace

    @cached_property
    def wanted(self) -> Wanted:
        """Which build this environment is asked to run; fails when the registry does not have it."""
        with git.clone(self.context.site.git, self.pipeline.git.branch, bare=True) as repository:
            tag, digest = desired.image(repository, self.environment, repository.commit("HEAD"))
        with self.registry() as connection:
            built = image.describe(self.context, connection, digest)
        assert built is not None, f"{digest} is not in the registry"
        return Wanted(tag, digest, built)

    def registry(self) -> Registry:
        """The registry, to be used in a `with`."""
        return registry.connect(self.context.site.image)

    def kubectl(self, *arguments: str, input: str | None = None, seconds: float = 20) -> str:
        """What kubectl prints, asked as the tester, of the environment's own cluster and namespace."""
        site = self.context.site
        place = site.place(self.environment.name)
        chosen = [f"--kubeconfig={site.kubeconfig}"] if site.kubeconfig else []
        context = place.tester or place.context
        chosen += [f"--context={context}"] if context else []
        done = subprocess.run(
            [programs.path("kubectl"), *chosen, f"--namespace={self.namespace}", *arguments],
            capture_output=True,
            text=True,
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            timeout=seconds,
        )
        assert done.returncode == 0, f"kubectl {' '.join(arguments[:4])}: {done.stderr.strip()}"
        return done.stdout

    def get(self, *arguments: str) -> list[Object]:
        """kubectl get … as a list of objects."""
        found = json.loads(self.kubectl("get", *arguments, "--output=json"))
        return list(found["items"]) if "items" in found else [found]

    def pods(self, app: str = "", namespace: str = "") -> list[Object]:
        """Pods that are meant to live on: neither terminating nor finished."""
        chosen = [f"--selector=app.kubernetes.io/name={app}"] if app else []
        where = [f"--namespace={namespace}"] if namespace else []
        return [
            pod
            for pod in self.get("pods", *chosen, *where)
            if "deletionTimestamp" not in pod["metadata"]
            and pod["status"]["phase"] not in ("Succeeded", "Failed")
        ]

    def app_pods(self) -> list[Object]:
        """The app's pods; fails when there is none to look into."""
        found = self.pods(self.pipeline.chart.release)
        assert found, f"no pod of the app runs in {self.namespace}"
        return found

    def python(self, pod: str, container: str, code: str, *arguments: str, seconds: float = 20) -> Any:
        """Run a script in a running container (there may be no shell, but python3 is), and read its JSON."""
        command = ("exec", "--stdin", pod, f"--container={container}", "--", "python3", "-", *arguments)
        return json.loads(self.kubectl(*command, input=code, seconds=seconds))


def name(thing: Object) -> str:
    """An object's name."""
    return str(thing["metadata"]["name"])


def ready(pod: Object) -> bool:
    """Whether a pod is Ready."""
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
