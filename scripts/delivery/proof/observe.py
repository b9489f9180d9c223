"""What really runs: every container of every pod, what Argo CD did, and what each replica says of itself."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from delivery.build import image
from delivery.desired import manifests as desired
from delivery.desired.manifests import Desired
from delivery.errors import DeliveryError, Unknown
from delivery.parts import argocd, git
from delivery.parts.registry import Falsified, connect
from delivery.pipeline import Cluster, Environment, Pipeline
from delivery.proof.decide import Answer, Container, Facts, Image, Pod, Proof, decide, runs
from delivery.wait import Failed, Pending, Reached, until

if TYPE_CHECKING:
    from delivery.parts.kubernetes import Kubernetes

PORT = 8080  # where the app listens
T = TypeVar("T")


def observe(pipeline: Pipeline, cluster: Cluster, environments: Iterable[Environment]) -> list[Facts]:
    """Read everything there is to know about these environments; what cannot be read is Unknown."""
    from delivery.parts.kubernetes import Kubernetes

    chosen = list(environments)
    kubernetes = _try(lambda: Kubernetes(cluster))
    try:
        with git.clone(cluster.git_url, pipeline.git.branch, bare=True) as repository:
            return _each(lambda e: facts(pipeline, cluster, e, repository, kubernetes), chosen)
    except (git.GitFailed, git.ServerUnreachable) as error:
        unreadable = Unknown(error.message)
    finally:
        if not isinstance(kubernetes, Unknown):
            kubernetes.close()
    return _each(lambda e: facts(pipeline, cluster, e, unreadable, kubernetes), chosen)


def proofs(pipeline: Pipeline, cluster: Cluster, environments: Iterable[Environment]) -> list[Proof]:
    """The verdict about each of these environments, by what is read there now."""
    return [decide(found) for found in observe(pipeline, cluster, environments)]


def facts(
    pipeline: Pipeline,
    cluster: Cluster,
    environment: Environment,
    repository: git.Repository | Unknown,
    kubernetes: "Kubernetes | Unknown",
) -> Facts:
    """The facts about one environment, given its Git history and its cluster."""
    if isinstance(kubernetes, Unknown):
        application: argocd.Application | Unknown = kubernetes
        found: tuple[Pod, ...] | Unknown = kubernetes
        answers: Mapping[str, Answer | Unknown] = {}
    else:
        api = kubernetes
        application = _try(lambda: argocd.ArgoCD(api).application(environment.application))
        found = _try(lambda: pods(api, environment.namespace)[0])
        answers = {} if isinstance(found, Unknown) else ask(pipeline, api, environment.namespace, found)
    follows = environment.sync == "automatic"
    wanted, current = _desired(pipeline, environment, repository, application)
    return Facts(
        environment=environment.name,
        release=pipeline.chart.release,
        follows=follows,
        desired=wanted,
        argocd=application,
        current=current,
        pods=found,
        answers=answers,
        image=wanted if isinstance(wanted, Unknown) else _try(lambda: registered(pipeline, cluster, wanted)),
    )


def pods(kubernetes: "Kubernetes", namespace: str) -> tuple[tuple[Pod, ...], str]:
    """All pods of a namespace, with all their containers, and the version to watch from."""
    items, version = kubernetes.pods(namespace)
    return tuple(parse(item) for item in items), version


def ask(
    pipeline: Pipeline, kubernetes: "Kubernetes", namespace: str, found: Iterable[Pod]
) -> dict[str, Answer | Unknown]:
    """What each serving, Ready replica answers at /version, asked one by one and not through the Service."""
    serving = [pod.name for pod in found if pod.app == pipeline.chart.release and pod.serves and pod.ready]

    def one(pod: str) -> Answer | Unknown:
        try:
            body = json.loads(kubernetes.pod_http(namespace, pod, PORT, "version", pipeline.waits.answer))
            return Answer(str(body["build"]), str(body["revision"]), str(body["environment"]))
        except DeliveryError as error:
            return Unknown(error.message)
        except (ValueError, KeyError, TypeError):
            return Unknown("not the JSON that /version promises")

    return dict(zip(serving, _each(one, serving), strict=True))


def registered(pipeline: Pipeline, cluster: Cluster, wanted: Desired) -> Image | Unknown:
    """What the registry says about the digest and the tag that Git's values name."""
    with connect(cluster) as registry:
        tagged = registry.digest(wanted.tag)
        try:
            built = image.describe(pipeline, registry, wanted.digest)
        except (Falsified, image.Contradictory) as error:
            return Image(tagged, "", "", contradictions=(error.message,))
        if built is None:
            return Unknown(f"{wanted.digest[:19]} is not in the registry")
        return Image(tagged, built.build, built.revision, built.children)


def rolled_out(
    pipeline: Pipeline,
    kubernetes: "Kubernetes",
    environment: Environment,
    wanted: Desired,
    children: Collection[str],
    enough: Callable[[str], bool],
) -> None:
    """Return when all replicas run the digest and are Ready and no other pod of the app serves.

    `children` are the digests that a node may show instead, where the digest is of an index.
    """
    version = ""
    api = argocd.ArgoCD(kubernetes)

    def look() -> Reached[None] | Failed | Pending:
        nonlocal version
        items, version = kubernetes.pods(environment.namespace)
        state = rollout((parse(item) for item in items), pipeline.chart.release, wanted, children)
        if isinstance(state, Reached):
            return state
        application = api.application(environment.application)
        stuck = waiting(items)
        if failed := argocd.failure(application, enough) or hopeless(stuck):
            return failed
        operation = application.message if application.operation not in ("", "Succeeded") else ""
        said = [": ".join(filter(None, [one.where, one.reason, one.last])) for one in stuck]
        return Pending("; ".join(filter(None, [state.seen, *said, operation and f"Argo CD: {operation}"])))

    until(
        f"all replicas in {environment.name} run {wanted.digest[:19]}",
        look,
        pipeline.waits.rollout,
        f"look: kubectl --context {kubernetes.cluster.context} -n {environment.namespace} get pods,events",
        lambda left: kubernetes.pods_changed(environment.namespace, version, min(left, 3.0)),
    )


@dataclass(frozen=True)
class Waiting:
    """A container that does not start, and what the node says about it."""

    where: str
    reason: str
    message: str
    last: str = ""  # what it said itself when it ended before, where its termination message has that


# What no waiting mends, whatever the node says besides.
_NEVER = ("InvalidImageName", "ErrImageNeverPull")
_PULLS = ("ErrImagePull", "ImagePullBackOff")
_USUAL = ("ContainerCreating", "PodInitializing")


def waiting(items: Iterable[Mapping[str, Any]]) -> list[Waiting]:
    """The containers of all pods, the migration's too, that wait for more than their turn."""
    found = []
    for pod in items:
        status = pod.get("status") or {}
        if pod["metadata"].get("deletionTimestamp"):
            continue
        for field in ("initContainerStatuses", "containerStatuses"):
            for one in status.get(field) or []:
                state = (one.get("state") or {}).get("waiting") or {}
                reason = str(state.get("reason") or "")
                if reason and reason not in _USUAL:
                    where = f"pod {pod['metadata']['name']}, container {one['name']}"
                    ended = (one.get("lastState") or {}).get("terminated") or {}
                    message, last = (" ".join(str(by.get("message") or "").split()) for by in (state, ended))
                    found.append(Waiting(where, reason, message, last[-300:]))
    return found


def hopeless(stuck: Iterable[Waiting]) -> Failed | None:
    """The first container that cannot start by waiting: its image is not there, or is no image's name.

    So is one that says itself, after `hint: `, what somebody has to do.
    """
    for one in stuck:
        if one.reason in _NEVER or (one.reason in _PULLS and "not found" in one.message):
            return Failed(f"{one.where}: {one.reason}: {one.message[:300]}")
        said, mends, hint = one.last.partition("hint: ")
        if mends:
            return Failed(f"{one.where}: {said.strip()}", hint)
    return None


def rollout(
    found: Iterable[Pod], release: str, wanted: Desired, children: Collection[str] = ()
) -> Reached[None] | Pending:
    """Whether the new digest has taken over; terminating pods of the old one may still be leaving."""
    serving = [pod for pod in found if pod.app == release and pod.serves]
    new = [pod for pod in serving if all(runs(c.image_id, wanted.image, children) for c in pod.containers)]
    ready = [pod for pod in new if pod.ready and pod.containers]
    if len(ready) >= max(wanted.replicas, 1) and len(ready) == len(serving):
        return Reached(None)
    states = sorted({c.state for pod in serving for c in pod.containers if c.state != "running"})
    seen = (
        f"{len(ready)} of {wanted.replicas} replicas run it and are Ready, {len(serving) - len(new)} others"
    )
    return Pending(f"{seen} ({', '.join(states)})" if states else seen)


def parse(pod: Mapping[str, Any]) -> Pod:
    """A pod object as plain facts. Every container of the spec is there, also one that has not started."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    containers = []
    for kind, field in (
        ("init", "initContainers"),
        ("app", "containers"),
        ("ephemeral", "ephemeralContainers"),
    ):
        prefix = {"init": "initContainerStatuses", "app": "containerStatuses"}.get(
            kind, "ephemeralContainerStatuses"
        )
        said = {one["name"]: one for one in status.get(prefix) or []}
        for one in spec.get(field) or []:
            state = said.get(one["name"], {})
            containers.append(
                Container(one["name"], kind, one["image"], state.get("imageID") or "", _state(state))  # type: ignore[arg-type]
            )
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or []}
    return Pod(
        name=metadata["name"],
        app=(metadata.get("labels") or {}).get("app.kubernetes.io/name", ""),
        phase=status.get("phase") or "Unknown",
        ready=conditions.get("Ready") == "True",
        terminating=bool(metadata.get("deletionTimestamp")),
        job=any(owner.get("kind") == "Job" for owner in metadata.get("ownerReferences") or []),
        containers=tuple(containers),
    )


def _state(status: Mapping[str, Any]) -> str:
    state = status.get("state") or {}
    if "running" in state:
        return "running"
    if "terminated" in state:
        return str(state["terminated"].get("reason") or "terminated")
    return str((state.get("waiting") or {}).get("reason") or "not started")


def _desired(
    pipeline: Pipeline,
    environment: Environment,
    repository: git.Repository | Unknown,
    application: argocd.Application | Unknown,
) -> tuple[Desired | Unknown, bool]:
    """What Git's newest commit asks, and whether Argo CD is at a commit that asks the same.

    An environment that is told exact commits keeps the chart of the commit that it was told.
    """
    if isinstance(repository, Unknown):
        return repository, False
    newest = repository.commit("HEAD")
    at = newest
    current = False
    if not isinstance(application, Unknown):
        at = application.revision if environment.sync == "automatic" else application.told
        known = bool(at) and repository.ok("merge-base", "--is-ancestor", at, newest)
        current = known and desired.same(pipeline, repository, environment, at, newest)
        if environment.sync == "automatic" or not known:
            at = newest
    try:
        tag, digest = desired.image(repository, environment, newest)
        found = desired.at(pipeline, repository, environment, newest if current else at)
    except DeliveryError as error:
        return Unknown(error.message), current
    images = (found.images - {found.image}) | {f"{found.repository}@{digest}"}
    return replace(found, commit=newest, tag=tag, digest=digest, images=images), current


def _try(read: Callable[[], T]) -> T | Unknown:
    try:
        return read()
    except DeliveryError as error:
        return Unknown(error.message)


def _each(work: Callable[[Any], T], items: list[Any]) -> list[T]:
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(work, items))
