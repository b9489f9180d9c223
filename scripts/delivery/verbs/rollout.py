"""Waiting for pods: that all replicas run a digest, and that none is coming or going."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from delivery.context import Context
from delivery.desired.manifests import Desired
from delivery.parts import argocd
from delivery.parts.kubernetes import Kubernetes
from delivery.pipeline import Environment
from delivery.proof import observe
from delivery.proof.decide import Pod, runs
from delivery.wait import Failed, Pending, Reached, until


def rolled_out(
    context: Context,
    kubernetes: Kubernetes,
    environment: Environment,
    wanted: Desired,
    children: Collection[str],
    enough: Callable[[str], bool],
    said: Callable[[str], None] = lambda seen: None,
) -> None:
    """Return when all replicas run the digest and are Ready and no other pod of the app serves.

    `children` are the digests that a node may show instead, where the digest is of an index. `said` is told what is
    seen meanwhile.
    """
    version = ""
    api = argocd.ArgoCD(kubernetes, environment.name)

    def look() -> Reached[None] | Failed | Pending:
        nonlocal version
        items, version = kubernetes.pods(environment.namespace)
        state = rollout(
            (observe.parse(item) for item in items), context.pipeline.chart.release, wanted, children
        )
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
        context.pipeline.waits.rollout,
        f"look: {kubernetes.look} -n {environment.namespace} get pods,events",
        lambda left: kubernetes.pods_changed(environment.namespace, version, min(left, 3.0)),
        said,
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


def settled(
    kubernetes: Kubernetes, namespace: str, limit: float, said: Callable[[str], None] = lambda seen: None
) -> tuple[Pod, ...]:
    """The pods that live on, as soon as none is leaving and all are Ready; else NotReached.

    `said` is told which are, meanwhile.
    """
    version = ""

    def look() -> Reached[tuple[Pod, ...]] | Pending:
        nonlocal version
        items, version = kubernetes.pods(namespace)
        pods = [observe.parse(item) for item in items]
        moving = [pod.name for pod in pods if _moving(pod)]
        if moving:
            return Pending(f"{', '.join(moving)} {'is' if len(moving) == 1 else 'are'} coming or going")
        return Reached(tuple(pod for pod in pods if pod.serves))

    return until(
        f"the pods in {namespace} are settled",
        look,
        limit,
        f"look: {kubernetes.look} -n {namespace} get pods",
        lambda left: kubernetes.pods_changed(namespace, version, min(left, 2.0)),
        said,
    )


def _moving(pod: Pod) -> bool:
    return pod.terminating or (pod.serves and not pod.ready)
