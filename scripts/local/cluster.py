"""The kind cluster of a local site: its ports, its state folder, and the site that comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from delivery import pipeline as pipelines
from delivery import roles
from delivery.errors import BadInput
from delivery.files import write_private
from delivery.pipeline import Pipeline
from delivery.site import FILE, LOCAL_GIT, LocalSite

ADDRESS = "127.0.0.1"  # nothing is published anywhere else
_REGISTRY = "registry.local:5000"  # as nodes and pods know it


@dataclass(frozen=True)
class Cluster:
    """One local cluster, before it is there and after."""

    pipeline: Pipeline
    site: LocalSite

    @property
    def name(self) -> str:
        """kind's name of it, and the prefix of everything that Docker has of it."""
        return self.site.local.cluster

    @property
    def root(self) -> Path:
        """The checkout."""
        return self.pipeline.root

    @property
    def first(self) -> bool:
        """Whether it is the site that is chosen when none is named."""
        return self.site == self.pipeline.sites[0]

    @property
    def context(self) -> str:
        """The administrator's kube-context, as kind names it."""
        return f"kind-{self.name}"

    @property
    def state(self) -> Path:
        """The git-ignored folder (0700) with its keys and logins."""
        return self.site.state

    @property
    def kubeconfig(self) -> Path:
        """The only kubeconfig that leads to it from our code; the user's current context plays no part."""
        return self.state / "kubeconfig"

    @property
    def registry(self) -> int:
        """The registry's port on this machine."""
        return self.site.local.registry

    @property
    def registry_host(self) -> str:
        """The registry as this machine sees it (everything needs credentials)."""
        return f"localhost:{self.registry}"

    @property
    def image(self) -> str:
        """The app's image as pods pull it."""
        return f"{_REGISTRY}/{self.pipeline.chart.release}"

    @property
    def git(self) -> int:
        """The Git server's port on this machine."""
        return self.site.local.git

    @property
    def repository(self) -> str:
        """What the Git server calls the repository."""
        return f"{self.pipeline.chart.release}.git"

    @property
    def git_url(self) -> str:
        """The repository as this machine sees it (reads are open, pushes need credentials)."""
        return f"http://localhost:{self.git}/{self.repository}"

    @property
    def git_seen_as(self) -> str:
        """The repository as Argo CD sees it."""
        return f"http://{LOCAL_GIT}/{self.repository}"

    @property
    def git_credentials(self) -> Path:
        """The verbs' user and password for pushes, in the format of git's credential store."""
        return self.state / "git-credentials"

    @property
    def developers_git_credentials(self) -> Path:
        """The same of whoever pushes by hand."""
        return self.state / "git-credentials-developer"

    @property
    def docker_config(self) -> Path:
        """A folder for DOCKER_CONFIG, with a login that reads this cluster's registry, and no other."""
        return self.state / "docker"

    def docker_config_of(self, signer: str) -> Path:
        """The same with the login of somebody who signs, and so writes."""
        return self.state / "logins" / signer

    @property
    def environments(self) -> dict[str, int]:
        """The port of each environment on this machine."""
        return self.site.local.environments

    def publish(self, images: Mapping[str, str], build: str, runtime: str) -> None:
        """Write the site into the state folder: from here on it is a site like any other.

        `images` are the platform's by their short names, `build` and `runtime` what the app's Dockerfile starts from.
        """
        gates = {one.gate for one in self.pipeline.environments if one.guarded}
        signers: dict[str, dict[str, Any]] = {
            name: {
                "key": str(self.state / "keys" / f"{name}.key"),
                "password_file": str(self.state / "keys" / f"{name}.password"),
                "public": str(self.state / "keys" / f"{name}.pub"),
                "docker_config": str(self.docker_config_of(name)),
            }
            for name in self.pipeline.signed_by
        }
        for name in gates:
            keys = self.state / "keys"
            signers[name]["commits"] = {"key": str(keys / f"{name}.pgp"), "public": str(keys / f"{name}.asc")}
        site: dict[str, Any] = {
            "name": self.site.name,
            "git": {
                "url": self.git_url,
                "seen_as": self.git_seen_as,
                "credentials": str(self.git_credentials),
            },
            "image": {
                "name": self.image,
                "reached": f"{self.registry_host}/{self.pipeline.chart.release}",
                "plain_http": True,
                "docker_config": str(self.docker_config),
            },
            "kubeconfig": str(self.kubeconfig),
            "environments": {
                name: {"context": roles.DEPLOYER, "url": f"http://{ADDRESS}:{port}"}
                | ({"tester": roles.TESTER} if name != self.pipeline.environments[-1].name else {})
                for name, port in self.environments.items()
            },
            "signers": signers,
            "arguments": {"BUILD_IMAGE": build, "RUNTIME_IMAGE": runtime},
            "images": dict(images),
            "made_here": True,
        }
        yaml, out = YAML(typ="safe", pure=True), StringIO()
        yaml.default_flow_style = False
        yaml.dump(site, out)
        write_private(self.state / FILE, out.getvalue())


def chosen(site: str | None = None, folder: Path | None = None) -> Cluster:
    """The cluster of a local site of the checkout; BadInput when the site is somebody else's."""
    pipeline = pipelines.load(folder)
    found = pipeline.site(site)
    if not isinstance(found, LocalSite):
        local = ", ".join(one.name for one in pipeline.sites if isinstance(one, LocalSite)) or "none"
        raise BadInput(
            f"site {found.name} is not made here: `delivery up` and `down` leave it alone",
            f"local sites of pipeline.yaml: {local}",
        )
    return Cluster(pipeline, found)
