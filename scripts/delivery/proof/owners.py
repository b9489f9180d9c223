"""Who made the pods: each belongs to an object that Git asked for, and is what that object's template says.

The label of the app alone says nothing: anybody's pod may carry it, and a ReplicaSet adopts a stranger that does.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from delivery.desired import manifests
from delivery.proof import defaults, spec
from delivery.proof.findings import Findings, told

Object = Mapping[str, Any]
# kind -> all objects of that kind in the namespace, as the API gives them.
Objects = Mapping[str, Sequence[Object]]
# (kind, name) -> what the chart rendered; the name ends with * where the cluster is to complete it.
Asked = Mapping[tuple[str, str], Object]

# What a chart may have that makes pods, and a pod of its own.
MAKERS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod")
# Those that are always there: a Job comes and goes, and a failed one is kept to read.
STAY = ("Deployment", "StatefulSet", "DaemonSet", "CronJob")
_SCALED = ("Deployment", "StatefulSet")
_BETWEEN = ("ReplicaSet", "Job")  # made by a Deployment or a CronJob, and makes pods itself


def strays(
    rendered: Collection[Object], namespace: str, objects: Objects, pods: Iterable[Object]
) -> Findings:
    """Hold the objects and the pods of a namespace against what the chart rendered for it."""
    asked = {
        (one["kind"], one["metadata"].get("name") or f"{one['metadata'].get('generateName')}*"): one
        for one in rendered
        if one.get("kind") in MAKERS and one["metadata"].get("namespace", namespace) == namespace
    }
    live = [(kind, one) for kind in STAY for one in objects.get(kind, ())]
    there = {(kind, one["metadata"]["name"]) for kind, one in live}
    found = [line for kind, one in live for line in _object(kind, one, asked, rendered)]
    makers = {_uid(one): (kind, one) for kind, some in objects.items() for one in some}
    graces = [_grace(manifests.pod_template(one).get("spec") or {}) for one in asked.values()]
    for pod in pods:
        found += _leaving(pod, max(graces, default=0)) if _leaves(pod) else _pod(pod, asked, makers)
    missing = [key for key in asked if key[0] in STAY and key not in there]
    return Findings(tuple(found), tuple(f"{kind} {name} is not there" for kind, name in missing))


def _object(kind: str, live: Object, asked: Asked, rendered: Iterable[Object]) -> Iterator[str]:
    name = live["metadata"]["name"]
    wanted = asked.get((kind, name))
    if wanted is None:
        yield f"{kind} {name} is there, and Git does not ask for it"
        return
    if kind in _SCALED:
        least, most = manifests.replicas(wanted, rendered)
        says = int(live["spec"].get("replicas", 1))
        if not least <= says <= most:
            span = str(least) if least == most else f"{least} to {most}"
            yield f"{kind} {name} is for {says} replicas, Git asks for {span}"
    has = manifests.pod_template({**live, "kind": kind})  # in a list, the API leaves the kind out
    yield from told(f"{kind} {name}", spec.template(has, manifests.pod_template(wanted)), "Git")


def _pod(pod: Object, asked: Asked, makers: Mapping[str, tuple[str, Object]]) -> Iterator[str]:
    where = f"pod {pod['metadata']['name']}"
    chain = list(_makers(pod, makers))
    kind, owner = chain[-1] if chain else ("Pod", pod)
    wanted = _wanted(asked, kind, owner["metadata"]["name"])
    if wanted is None and not chain:
        yield f"{where} has no owner, and Git does not ask for such a pod"
        return
    if wanted is None:
        yield f"{where} belongs to {kind} {owner['metadata']['name']}, and Git does not ask for that"
        return
    yield from told(where, spec.pod(pod, manifests.pod_template(wanted), wanted), "Git")


def _makers(pod: Object, makers: Mapping[str, tuple[str, Object]]) -> Iterator[tuple[str, Object]]:
    """Who controls the pod, and who controls that: by uid, and with the name and kind that the reference says."""
    one = pod
    for _ in range(2):  # Deployment, ReplicaSet, pod; or CronJob, Job, pod
        named = next(
            (by for by in one["metadata"].get("ownerReferences") or [] if by.get("controller")), None
        )
        if named is None:
            return
        kind, above = makers.get(str(named.get("uid") or ""), ("", None))
        if above is None or (kind, above["metadata"]["name"]) != (named.get("kind"), named.get("name")):
            yield f"missing {named.get('kind')}", {"metadata": {"name": named.get("name")}}
            return
        yield kind, above
        if kind not in _BETWEEN:
            return
        one = above


def _uid(one: Object) -> str:
    return str(one["metadata"].get("uid") or "")


def _wanted(asked: Asked, kind: str, name: str) -> Object | None:
    if (kind, name) in asked:
        return asked[kind, name]
    begun = (one for (of, start), one in asked.items() if of == kind and start.endswith("*"))
    return next((one for one in begun if name.startswith(one["metadata"]["generateName"])), None)


def _leaves(pod: Object) -> bool:
    """Whether it is on its way out, or failed for good: it may be of a state before; decide.py asks for its image."""
    phase = (pod.get("status") or {}).get("phase")
    return bool(pod["metadata"].get("deletionTimestamp")) or phase == "Failed"


def _leaving(pod: Object, grace: int) -> Iterator[str]:
    """One that was deleted runs on until its grace is over: nobody may stretch that."""
    given = int(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
    if given > grace:
        yield f"pod {pod['metadata']['name']} was given {given} s to leave, Git gives {grace}"


def _grace(of: Object) -> int:
    return int(
        of.get("terminationGracePeriodSeconds", defaults.DEFAULTS["pod", "terminationGracePeriodSeconds"])
    )
