"""`delivery up`, `down` and `doctor`: the whole local platform, each step safe to repeat after a kill."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from delivery import keys
from delivery import pipeline as pipelines
from delivery.cluster import admission, host, images, install, paths, preload, seed, services, tools
from delivery.cluster import kind as kinds
from delivery.cluster.closed import Closed
from delivery.cluster.online import Online
from delivery.cluster.progress import phase
from delivery.cluster.recipes import image_exists
from delivery.errors import DeliveryError, PlatformError
from delivery.lock import alone
from delivery.pipeline import Cluster, Pipeline

_GIB = 1 << 30
_ANOTHER_LIMIT = 1800.0  # seconds: the other one may be building the platform's images
# What must be free: to start a cluster, and to build the platform's images on a closed network.
SPACE_TO_START = 6 * _GIB
SPACE_TO_BUILD = 25 * _GIB
# Unpacked before Argo CD starts: three of its containers would each unpack their image at once.
_FIRST = ("argocd", "redis")
_THEN = ("platform/policy-controller", "platform/postgresql", "platform/python")


def up(cluster: Cluster, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Bring up Docker, the images, the registry, the Git server, kind, Argo CD and its Applications.

    `meanwhile` runs while the cluster starts, once the registry and the Git server answer. Raises DeliveryError; what
    was made until then is found and used by the next call, or removed by `down`.
    """
    pipeline = pipelines.load(cluster.root)
    with alone(cluster.state / "up.lock", f"another `delivery up` of {cluster.name}", _ANOTHER_LIMIT):
        host.ensure_docker()
        kinds.check_owner(cluster)
        _check_space(_made())
        images.ensure()
        tools.ensure()
        _check_ports(cluster)
        _up(pipeline, cluster, images.source(), meanwhile)


def _up(pipeline: Pipeline, cluster: Cluster, source: Online | Closed, meanwhile: Callable[[], None]) -> None:
    digests = kinds.digests(cluster, source.node)
    keys.create(cluster)
    with ThreadPoolExecutor(4) as pool:
        services.network(cluster)
        beside = pool.submit(_start_services, pipeline, cluster, source, digests, meanwhile)
        with phase(f"Creating cluster {cluster.name}"):
            kind = kinds.create(cluster, pipeline, source.node, pipeline.root)
            install.trust_registry(cluster)
        with phase("Installing Argo CD"):
            unpacked = pool.submit(preload.unpack, kinds.node_name(cluster), _FIRST)
            install.namespaces(kind, pipeline, pipeline.root / "cluster")
            unpacked.result()
            install.argocd(kind, images.catalog(), pipeline.root)
            guards = (kind, images.catalog(), cluster, digests, keys.public(cluster, "stage"))
            guarded = pool.submit(admission.install, *guards)
            rest = pool.submit(preload.unpack, kinds.node_name(cluster), _THEN)
        if cluster == pipeline.clusters[0]:
            kinds.publish_context(cluster)
        beside.result()
        with phase("Waiting for Argo CD"):
            rest.result()
            guarded.result()  # before the Applications: stage and prod are shut from the first sync on
            install.applications(kind, pipeline.root)
            install.wait_for_argocd(kind)
            admission.wait(*guards)


def _start_services(
    pipeline: Pipeline,
    cluster: Cluster,
    source: Online | Closed,
    digests: dict[str, str],
    then: Callable[[], None],
) -> None:
    with phase("Starting registry and Git server"):
        services.start(cluster, source.registry, source.gateway.tag, pipeline.root / "cluster")
        seed.publish(pipeline, cluster)
        seed.record_platform(pipeline, cluster, digests)
    then()


def down(cluster: Cluster, force: bool = False) -> None:
    """Remove the cluster, its registry and Git server with their data, and its keys.

    Stops Docker if it was started from here and nothing else runs in it. With `force`, also a cluster
    that another checkout made.
    """
    if host.docker_answers():
        if not force:
            kinds.check_owner(cluster)
        with phase(f"Removing cluster {cluster.name}"):
            if kinds.exists(cluster):
                kinds.delete(cluster)
            services.remove(cluster)
    shutil.rmtree(cluster.state, ignore_errors=True)
    if host.stop_docker():
        with phase("Stopped the Docker daemon that was started from here"):
            pass


@dataclass(frozen=True)
class Check:
    """One thing that the platform needs: whether it is well, what was seen, and the remedy if not."""

    name: str
    ok: bool
    seen: str
    hint: str = ""


def doctor(cluster: Cluster) -> list[Check]:
    """What is there and what is missing, from the ground up; never changes anything, never raises."""
    checks = [_space_check()]
    checks += [_checked(name, partial(tools.seen, name), "") for name in tools.NAMES]
    answers = host.docker_answers()
    checks.append(
        Check("docker", answers, "answers" if answers else "does not answer", "start it, or: delivery up")
    )
    if not answers:
        return checks
    checks.append(_checked("images", _images_seen, "delivery up makes them"))
    for role in ("registry", "gateway"):
        running = services.running(cluster, role)
        checks.append(Check(role, running, "runs" if running else "does not run", "delivery up"))
    checks.append(_checked("cluster", lambda: _cluster_seen(cluster), "delivery up"))
    if checks[-1].ok:
        checks.append(_checked("argocd", lambda: _argocd_seen(cluster), "delivery up"))
        guards = _checked("admission", lambda: admission.seen(kinds.handle(cluster), cluster), "delivery up")
        checks.append(guards)
    return checks


def _checked(name: str, look: Callable[[], str], hint: str) -> Check:
    try:
        return Check(name, True, look())
    except DeliveryError as error:
        return Check(name, False, error.message, hint or error.hint)


def _images_seen() -> str:
    if not _made():
        raise PlatformError("not made yet", "")
    return f"{images.source().node.name} and what stands beside it"


def _made() -> bool:
    # The node image is the largest, and made last.
    return image_exists(images.source().node.name)


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


def _space_check() -> Check:
    free = _free()
    return Check("disk", free > SPACE_TO_START, f"{free // _GIB} GiB free", "free some space")


def _check_space(made: bool) -> None:
    wanted = SPACE_TO_START if made else SPACE_TO_BUILD
    if (free := _free()) < wanted:
        raise PlatformError(
            f"the disk is nearly full: {free / _GIB:.1f} GiB free, {wanted // _GIB} GiB needed",
            "free some space, for example: docker system prune",
        )


def _free() -> int:
    folders = (paths.cache(), Path("/var/lib/docker"))
    existing = (next(p for p in (folder, *folder.parents) if p.exists()) for folder in folders)
    return min(shutil.disk_usage(folder).free for folder in existing)


def _check_ports(cluster: Cluster) -> None:
    wanted: dict[str, int] = {}
    if not services.running(cluster, "gateway"):
        wanted |= {"registry": cluster.registry, "git": cluster.git}
    if not kinds.exists(cluster):
        wanted |= cluster.environments
    for purpose, port in services.taken_ports(wanted).items():
        raise PlatformError(
            f"port {port} on 127.0.0.1 ({purpose}) is taken",
            f"free it (ss -ltnp 'sport = :{port}'), or change pipeline.yaml",
        )
