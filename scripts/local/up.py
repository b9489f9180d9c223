"""`delivery up`, `down` and `doctor`: the whole local platform, each step safe to repeat after a kill."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from delivery.desired import policy
from delivery.errors import DeliveryError, PlatformError
from delivery.lock import alone
from delivery.parts import docker
from delivery.parts.daemon import endpoint
from delivery.progress import phase
from local import (
    admission,
    as_left,
    contexts,
    host,
    images,
    install,
    keys,
    network,
    preload,
    room,
    seed,
    services,
    tools,
)
from local import kind as kinds
from local.closed.images import Closed
from local.cluster import Cluster
from local.online import Online
from local.recipes import image_exists

_ANOTHER_LIMIT = 1800.0  # seconds: the other one may be building the platform's images
# Unpacked before Argo CD starts: three of its containers would each unpack their image at once.
_FIRST = ("argocd", "redis")


def up(cluster: Cluster, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Bring up Docker, the images, the registry, the Git server, kind, Argo CD and its Applications.

    `meanwhile` runs while the cluster starts, once the registry and the Git server answer. Raises DeliveryError; what
    was made until then is found and used by the next call, or removed by `down`.
    """
    policy.check(cluster.pipeline, cluster.root)
    with alone(cluster.state / "up.lock", f"another `delivery up` of {cluster.name}", _ANOTHER_LIMIT):
        as_left.forget(cluster)
        host.ensure_docker()
        kinds.check_owner(cluster)
        source = images.source()
        room.check(room.TO_START if image_exists(source.node.name) else source.space, images.probes())
        images.ensure()
        tools.ensure()
        images.catalog().drop_sources()
        _check_ports(cluster)
        _up(cluster, source, meanwhile)
        as_left.remember(cluster)


def _up(cluster: Cluster, source: Online | Closed, meanwhile: Callable[[], None]) -> None:
    pipeline = cluster.pipeline
    digests = kinds.digests(cluster, source.node)
    keys.create(cluster)
    with ThreadPoolExecutor(4) as pool:
        services.network(cluster)
        beside = pool.submit(_start_services, cluster, source, digests, meanwhile)
        with phase(f"Creating cluster {cluster.name}") as progress:
            kind = kinds.create(cluster, source.node, progress.update)
            install.trust_registry(cluster)
            network.name_soon(kind)
        with phase("Installing Argo CD") as progress:
            unpacked = pool.submit(preload.unpack, kinds.node_name(cluster), _FIRST)
            progress.update("namespaces")
            install.namespaces(kind, pipeline, pipeline.root / "policy")
            progress.update("unpacking its images")
            unpacked.result()
            install.argocd(kind, images.catalog(), cluster, progress.update)
            guards = (kind, images.catalog(), cluster, digests)
            guarded = pool.submit(admission.install, *guards)
            then = ("policy-controller", *pipeline.app.platform_images)
            names = tuple(f"platform/{name}" for name in then)
            rest = pool.submit(preload.unpack, kinds.node_name(cluster), names)
        if cluster.first:
            kinds.publish_context(cluster)
        beside.result()
        with phase("Waiting for Argo CD") as progress:
            progress.update(f"unpacking {', '.join(then)}")
            rest.result()
            progress.update("applying what admission refuses")
            guarded.result()  # before the Applications: what is guarded is shut from the first sync on
            contexts.write(kind, cluster)
            progress.update("until NetworkPolicy is enforced, and names are answered for")
            network.wait(kind)  # and no pod of an environment runs before it is kept apart
            progress.update("the Applications of the environments")
            install.applications(kind, cluster)
            install.wait_for_argocd(kind, progress.update)
            admission.wait(*guards, progress.update)


def _start_services(
    cluster: Cluster,
    source: Online | Closed,
    digests: dict[str, str],
    then: Callable[[], None],
) -> None:
    with phase("Starting registry and Git server") as progress:
        folder = cluster.root / "scripts" / "local"
        services.start(cluster, source.registry, source.gateway.tag, folder, progress.update)
        cluster.publish(source.platform_images, *source.python_images)
        progress.update("the checkout's history")
        seed.publish(cluster)
        progress.update("the digests of the platform's images")
        seed.record_platform(cluster, digests)
    then()


def down(cluster: Cluster, force: bool = False) -> None:
    """Remove the cluster, its registry and Git server with their data, and its keys.

    Stops Docker if it was started from here and nothing else runs in it. With `force`, also a cluster
    that another checkout made. PlatformError, and nothing is removed, where Docker does not answer for a
    cluster that was made here.
    """
    if not (force or cluster.state.exists()):
        answers = host.docker_answers()
    elif not (answers := host.wake_docker()) and kinds.made_here(cluster):
        raise PlatformError(
            f"Docker does not answer, so cluster {cluster.name} cannot be removed",
            "start Docker, then run this again",
        )
    if answers:
        if not force:
            kinds.check_owner(cluster)
        with phase(f"Removing cluster {cluster.name}") as progress:
            if kinds.exists(cluster):
                progress.update("its node")
                kinds.delete(cluster)
            progress.update("registry and Git server, with their data")
            services.remove(cluster)
    shutil.rmtree(cluster.state, ignore_errors=True)
    host.stop_docker()


@dataclass(frozen=True)
class Check:
    """One thing that the platform needs: whether it is well, what was seen, and the remedy if not."""

    name: str
    ok: bool
    seen: str
    hint: str = ""


def doctor(cluster: Cluster) -> list[Check]:
    """What is there and what is missing, from the ground up; never changes anything, never raises."""
    checks = [_checked(name, partial(tools.seen, name), "") for name in tools.NAMES]
    checks.append(_checked("docker", _docker_seen, ""))
    if not checks[-1].ok:
        return checks
    checks += _room_checks()
    checks.append(_checked("images", _images_seen, ""))
    for role in ("registry", "gateway"):
        running = services.running(cluster, role)
        checks.append(Check(role, running, "runs" if running else "does not run", "delivery up"))
    checks.append(_checked("cluster", lambda: _cluster_seen(cluster), "delivery up"))
    if checks[-1].ok:
        checks.append(_checked("network", lambda: network.seen(kinds.handle(cluster)), ""))
        checks.append(_checked("argocd", lambda: _argocd_seen(cluster), "delivery up"))
        guards = _checked("admission", lambda: admission.seen(kinds.handle(cluster), cluster), "delivery up")
        checks.append(guards)
    return checks


def _checked(name: str, look: Callable[[], str], hint: str) -> Check:
    try:
        return Check(name, True, look())
    except DeliveryError as error:
        return Check(name, False, error.message, hint or error.hint)


def _docker_seen() -> str:
    client = docker.client(seconds=10)
    try:
        return f"{client.version()['Version']} at {endpoint()}"
    finally:
        client.close()


def _images_seen() -> str:
    # The node image is the largest, and made last.
    node = images.source().node.name
    if not image_exists(node):
        raise PlatformError("not made yet", "delivery up makes them")
    return f"{node} and what stands beside it"


def _room_checks() -> list[Check]:
    try:
        found = room.look(images.probes())
    except DeliveryError as error:
        return [Check("room", False, error.message, error.hint)]
    return [
        _checked("memory", partial(room.enough_memory, found), ""),
        _checked("disk", partial(room.enough_disk, found, room.TO_START), ""),
    ]


def _cluster_seen(cluster: Cluster) -> str:
    if not kinds.exists(cluster):
        raise PlatformError("there is no kind cluster of that name", "")
    kinds.check_owner(cluster)
    return str(install.kubectl(kinds.handle(cluster), "get", "nodes", "--no-headers")).split("\n")[0]


def _argocd_seen(cluster: Cluster) -> str:
    install.kubectl(
        kinds.handle(cluster),
        "-n",
        install.ARGOCD,
        "rollout",
        "status",
        "deployment/argocd-repo-server",
        "--timeout=2s",
    )
    return "repo-server is ready"


def _check_ports(cluster: Cluster) -> None:
    wanted: dict[str, int] = {}
    if not services.running(cluster, "gateway"):
        wanted |= {"registry": cluster.registry, "git": cluster.git}
    if not kinds.exists(cluster):
        wanted |= cluster.environments
    for purpose, port in services.taken_ports(wanted).items():
        raise PlatformError(
            f"port {port} on 127.0.0.1 ({purpose}) is taken",
            f"see who has it (lsof -nP -iTCP:{port} -sTCP:LISTEN) and stop it, or change pipeline.yaml",
        )
