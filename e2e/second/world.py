"""The second site, whole: made for a block, and gone afterwards, also what a run that was killed left behind."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from docker.errors import ImageNotFound

from delivery import roles
from delivery.lock import alone
from delivery.parts import docker
from e2e.second import clusters, names, servers, team
from e2e.second.clusters import Clusters
from e2e.second.phases import Phases
from e2e.second.servers import Servers
from e2e.second.team import Team
from local import images
from local.cluster import Cluster
from local.shell import run

ENVIRONMENTS = ("dev", "qa", "stage", "prod")


@dataclass(frozen=True)
class World:
    """What there is: servers, clusters, and a team that has told its checkout where it lives, and built."""

    app: str
    servers: Servers
    clusters: Clusters
    team: Team
    digest: str  # of the build
    phases: Phases

    def cluster(self, environment: str) -> str:
        """The context of the cluster that an environment is in."""
        return clusters.PROD if environment == "prod" else clusters.TEST

    def namespace(self, environment: str) -> str:
        """Where an environment is in it."""
        return names.of(environment)

    def digests(self, environment: str) -> set[str]:
        """The digests that the app's containers run, by the pods' own imageID."""
        selector = f"app.kubernetes.io/name={self.app}"
        where = ("-n", self.namespace(environment), "get", "pods", "-l", selector)
        path = "{range .items[*].status.containerStatuses[*]}{.imageID}{'\\n'}{end}"
        said = self.clusters.kubectl(self.cluster(environment), *where, "-o", f"jsonpath={path}").stdout
        return {line.rpartition("@")[2] for line in said.split()}


@contextmanager
def made(root: Path, shared: Cluster, folder: Path, phases: Phases) -> Iterator[World]:
    """The world, in a folder of its own and beside the e2e's cluster."""
    app = _name(shared.pipeline.chart.release)
    # Names, containers and the second cluster are there once on this machine.
    with alone(shared.state / "second-site.lock", "another run of the second site", 900):
        with phases.of("what a killed run left"):
            _unmake(app, shared)
        try:
            yield _make(root, shared, folder, app, phases)
        finally:
            with phases.of("taken away again"):
                _unmake(app, shared)


def _name(release: str) -> str:
    # A fork that is called by one word keeps it: nobody could tell the name from the word.
    return "shop" if "-" in release else release


def _make(root: Path, shared: Cluster, folder: Path, app: str, phases: Phases) -> World:
    with ThreadPoolExecutor(1) as pool:
        # The longest part; who has only Git and the registry needs no cluster meanwhile.
        created = pool.submit(clusters.create_prod, shared.name, root, folder)
        with phases.of("registry and Git"):
            served = servers.start(shared.name, folder / "servers", app)
            names.trust(served.files.authority)
            names.tell(_addresses(served))
            servers.wait_for_answers(served, app)
            wanted = shared.pipeline.app.platform_images
            beside = {value: _push(served, folder, image) for image, value in wanted.items()}
        with phases.of("adopt, add qa, say where we live"):
            reached = Clusters(folder / "kubeconfig")
            ours = team.come(root, folder, served, reached.kubeconfig)
            team.adopt(ours, app)
            build, runtime = images.source().python_images
            team.settle(ours, served, {"BUILD_IMAGE": build, "RUNTIME_IMAGE": runtime}, beside)
            ours.git("push", "--quiet", ours.context.site.git.url, "HEAD:refs/heads/main")
        with phases.of("build"):
            digest = ours.delivery("build", "--format", "json").json["digest"]
        with phases.of("waited for the second cluster"):
            created.result()
    world = World(app, served, reached, ours, digest, phases)
    with phases.of("names, trust, Argo CD and policy-controller"):
        _join(world, shared, root)
    with phases.of("policies, projects, Applications"):
        _apply(world)
    return world


def _addresses(served: Servers) -> dict[str, str]:
    return dict.fromkeys((names.REGISTRY, names.LOGIN, names.GIT), served.address)


def _join(world: World, shared: Cluster, root: Path) -> None:
    """Have everybody know everybody, as whoever runs such a place did it long ago."""
    authority, prod = world.servers.files.authority, clusters.PROD
    test, live = (clusters.address(name, shared.name) for name in (shared.name, prod))
    names.tell(
        _addresses(world.servers)
        | {f"{one}.{names.DOMAIN}": live if one == "prod" else test for one in ENVIRONMENTS}
        | {clusters.node(shared.name): test, clusters.node(prod): live}
    )
    for name in (shared.name, prod):
        clusters.trust(name, authority)
    clusters.kubeconfig(world.clusters.kubeconfig, [(clusters.TEST, shared.name), (prod, prod)])
    world.clusters.install_policy_controller(images.catalog(), root)
    for context in (clusters.TEST, prod):
        world.clusters.policy_controller_trusts(context, authority)
    world.clusters.join_argocd()
    url = f"https://{names.GIT}/acme/{world.app}"
    world.clusters.argocd_reads(url, "reader", world.servers.git["reader"], authority)


def _apply(world: World) -> None:
    """What README tells a team to do by hand, once."""
    ours, reached = world.team, world.clusters
    for context in (clusters.TEST, clusters.PROD):
        reached.wait_for_policy_controller(context)
        deployer = clusters.role(context, roles.DEPLOYER)  # as pipeline.yaml names the cluster
        reached.take_policies(context, ours.delivery("policy", "--context", deployer).out)
        reached.let_in(context, world.app)
    pull = world.servers.docker_config(ours.home / "pull", "cluster") / "config.json"
    for environment in ENVIRONMENTS:
        own = (world.cluster(environment), "-n", world.namespace(environment), "create", "secret", "generic")
        for secret, keys in ours.pipeline.app.secrets.items():
            reached.kubectl(*own, secret, *(f"--from-literal={key}=not-a-secret" for key in keys))
        kind = "--type=kubernetes.io/dockerconfigjson"
        reached.kubectl(*own, "registry", kind, f"--from-file=.dockerconfigjson={pull}")
    gates = [one.gate for one in ours.pipeline.environments if one.guarded]
    reached.argocd_verifies(
        (ours.path / "keys" / f"{gate}.asc").read_text(encoding="ascii") for gate in gates
    )
    for part in ("projects", "manual-promotion"):
        reached.kubectl(clusters.TEST, "apply", "--server-side", "-k", str(ours.path / "argocd" / part))


def _push(served: Servers, folder: Path, image: str) -> str:
    """An image like the platform's in the site's registry, by its digest there; as a person makes and pushes it.

    Not the very same one: a node that has it under another name shows that, and rightly it would be no proof.
    """
    name = f"{names.REGISTRY}/acme/{image}:1"
    config = served.docker_config(folder / "ci", "ci")
    hint = "docker logs second-site"
    recipe = f"FROM {images.source().platform_images[image]}\nLABEL {servers.LABEL}=yes\n"
    run(["docker", "build", "--quiet", f"--tag={name}", "-"], hint=hint, input=recipe)
    said = run(["docker", f"--config={config}", "push", name], hint=hint)
    [digest] = set(re.findall(r"digest: (sha256:[0-9a-f]{64})", said))
    return f"{name.removesuffix(':1')}@{digest}"


def _unmake(app: str, shared: Cluster) -> None:
    home = "" if app == shared.pipeline.chart.release else roles.home(app)
    Clusters(shared.kubeconfig).leave(shared.context, app, ENVIRONMENTS, home)
    clusters.remove_prod()
    servers.remove()
    clusters.distrust(shared.name)
    names.forget()
    names.distrust()
    _forget_images()


def _forget_images() -> None:
    """What this host's Docker has of the site; an image that has another name as well stays under that."""
    client = docker.client()
    try:
        for image in client.images.list():
            for name in [*image.tags, *(image.attrs.get("RepoDigests") or ())]:
                if name.startswith(f"{names.REGISTRY}/"):
                    with suppress(ImageNotFound):  # the last tag takes the digests along
                        client.images.remove(name)
    finally:
        client.close()
