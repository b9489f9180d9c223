"""Did the pods stay the same while they were tested? Seen before and after, compared by a pure rule.

A pod that was restarted, replaced or added makes the result one about something else, unless a test said that
it would restart that very pod; even then the images must be the same.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from delivery.parts.kubernetes import Kubernetes
from delivery.proof import observe
from delivery.proof.decide import runs
from delivery.signed.evidence import Running
from delivery.wait import Pending, Reached, until

if TYPE_CHECKING:
    from delivery.proof.decide import Pod


@dataclass(frozen=True)
class Seen:
    """One pod at one moment."""

    name: str
    uid: str
    app: str
    images: tuple[tuple[str, str, str], ...]  # container, image as asked for, imageID
    restarts: int

    def running(self) -> list[Running]:
        """Its containers, as evidence names them."""
        return [
            Running(pod=self.name, uid=self.uid, container=name, imageID=image_id)
            for name, _, image_id in self.images
        ]


def settled(kubernetes: Kubernetes, namespace: str, limit: float) -> tuple[Seen, ...]:
    """The pods that live on, as soon as none is leaving and all are Ready; else NotReached."""
    version = ""

    def look() -> Reached[tuple[Seen, ...]] | Pending:
        nonlocal version
        items, version = kubernetes.pods(namespace)
        pods = [(observe.parse(item), item) for item in items]
        moving = [pod.name for pod, _ in pods if _moving(pod)]
        if moving:
            return Pending(f"{', '.join(moving)} {'is' if len(moving) == 1 else 'are'} coming or going")
        return Reached(tuple(_seen(pod, item) for pod, item in pods if pod.serves))

    return until(
        f"the pods in {namespace} are settled",
        look,
        limit,
        f"look: kubectl --context {kubernetes.cluster.context} -n {namespace} get pods",
        lambda left: kubernetes.pods_changed(namespace, version, min(left, 2.0)),
    )


def changes(
    before: Iterable[Seen],
    after: Iterable[Seen],
    restarted: Iterable[str],
    app: str,
    image: str,
    children: Collection[str] = (),
) -> list[str]:
    """How the pods did not stay the same; `restarted` names those that tests said they would restart.

    `children` are the digests that a node may show for the image, where its digest is of an index.
    """
    first, last, declared = tuple(before), tuple(after), set(restarted)
    reasons = [
        f"pod {pod.name}, container {name} ran {image_id or 'nothing'}, not {image}"
        for pod in (*first, *last)
        if pod.app == app
        for name, _, image_id in pod.images
        if not runs(image_id, image, children)
    ]
    kept = {(pod.name, pod.uid): pod for pod in last}
    gone: Counter[str] = Counter()
    for pod in first:
        same = kept.pop((pod.name, pod.uid), None)
        if same is None and pod.name in declared:
            gone[pod.app] += 1
        elif same is None:
            reasons.append(f"pod {pod.name} was replaced during the tests")
        elif same.images != pod.images:
            reasons.append(f"pod {pod.name} changed its containers during the tests")
        elif same.restarts != pod.restarts and pod.name not in declared:
            reasons.append(f"pod {pod.name} restarted during the tests")
    known: Mapping[str, set[Any]] = {one.app: set() for one in first}
    for pod in first:
        known[pod.app].add(pod.images)
    for pod in kept.values():
        gone[pod.app] -= 1
        if gone[pod.app] < 0:
            reasons.append(f"pod {pod.name} came during the tests")
        elif pod.images not in known.get(pod.app, set()):
            reasons.append(f"pod {pod.name} came back with other containers")
    reasons += [f"a pod of {name} did not come back" for name, count in gone.items() if count > 0]
    return reasons


def _moving(pod: "Pod") -> bool:
    return pod.terminating or (pod.serves and not pod.ready)


def _seen(pod: "Pod", item: Mapping[str, Any]) -> Seen:
    status = item.get("status") or {}
    statuses = [
        one
        for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
        for one in status.get(field) or []
    ]
    return Seen(
        name=pod.name,
        uid=str(item["metadata"].get("uid") or ""),
        app=pod.app,
        images=tuple(sorted((c.name, c.image, c.image_id) for c in pod.containers)),
        restarts=sum(int(one.get("restartCount") or 0) for one in statuses),
    )
