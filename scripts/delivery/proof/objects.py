"""Every object that Git renders, held against the one in the cluster; and what else is there, that nobody asked for.

Argo CD's word for it would be Synced. This is the same question, put to the cluster itself. What pods are made from,
how many there are and who made them, owners.py asks.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from delivery.desired import manifests
from delivery.desired.kinds import Kind
from delivery.proof import defaults, owners, spec
from delivery.proof.findings import Findings, told

if TYPE_CHECKING:
    from delivery.parts.kubernetes import Kubernetes

Object = Mapping[str, Any]
# The kinds that were read, each with all objects of it in the namespace.
Live = Mapping[Kind, Sequence[Object]]

SECRET, _POD = (Kind(group="", kind=name) for name in ("Secret", "Pod"))
# What the proof reads anyway, to know who made the pods.
MAKERS = {
    **{one: Kind(group="apps", kind=one) for one in ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet")},
    **{one: Kind(group="batch", kind=one) for one in ("Job", "CronJob")},
}
_ELSEWHERE = (SECRET, _POD, *MAKERS.values())
_HOOKS = ("argocd.argoproj.io/hook", "helm.sh/hook")
# Of every object: what it is, and what the cluster says about it.
_ASIDE = ("apiVersion", "kind", "metadata", "status")
# What owners.py compares.
_OF_OWNERS = ("template", "replicas")


def kind(one: Object) -> Kind:
    """The kind of a rendered object."""
    group, slash, _ = str(one["apiVersion"]).partition("/")
    return Kind(group=group if slash else "", kind=one["kind"])


def read(
    kubernetes: "Kubernetes", namespace: str, rendered: Collection[Object], may_bring: Collection[Kind]
) -> Live:
    """All objects of the kinds that the chart may bring, and of those that it does bring; a list for each, at once.

    Not of those that makers() reads already. Each in the version that Git names, so that its fields are Git's.
    """
    versions = {kind(one): str(one["apiVersion"]).rpartition("/")[2] for one in rendered}
    wanted = [one for one in dict.fromkeys((*versions, *may_bring)) if one not in _ELSEWHERE]
    with ThreadPoolExecutor(max_workers=max(len(wanted), 1)) as pool:
        lists = pool.map(
            lambda one: kubernetes.objects(namespace, one.group, versions.get(one, ""), one.resource), wanted
        )
        return dict(zip(wanted, lists, strict=True))


def found(rendered: Collection[Object], namespace: str, live: Live) -> Findings:
    """Hold the objects of a namespace against those that the chart rendered for it."""
    asked = {
        (kind(one), _name(one)): one
        for one in rendered
        if one["metadata"].get("namespace", namespace) == namespace and one["metadata"].get("name")
    }
    there = {(of, _name(one)): one for of, some in live.items() for one in some}
    lines: list[str] = []
    for (of, name), one in asked.items():
        if (of, name) in there:
            lines += told(f"{of.kind} {name}", differences(there[of, name], one), "Git")
        elif of != SECRET and not _of_owners(of) and not _hook(one):
            lines.append(f"{of.kind} {name} is not there, and Git asks for it")
    ours = {_uid(one): of for (of, name), one in there.items() if (of, name) in asked}
    for (of, name), one in there.items():
        known = (of, name) in asked or _of_owners(of) or _begun(one, of, rendered)
        if not known and not _of_the_cluster(of, one, ours, asked):
            lines.append(f"{of.kind} {name} is there, and Git does not ask for it")
    unread = [f"Secret {name} is in the chart, and no Secret is read" for of, name in asked if of == SECRET]
    return Findings(tuple(lines), tuple(unread))


def differences(live: Object, asked: Object) -> list[str]:
    """How a live object differs from the rendered one, one line a field."""
    of, metadata = kind(asked), live["metadata"]
    added = [name for name in metadata.get("annotations") or {} if defaults.ANNOTATIONS.match(name)]
    lines = [*_labels(of, live, asked), *spec.named(live, asked, "annotations", added)]
    if metadata.get("ownerReferences") and not asked["metadata"].get("ownerReferences"):
        lines.append("has an owner that Git does not ask for")
    if metadata.get("deletionTimestamp") and not _hook(asked):
        lines.append("is being deleted")
    has, wants = _body(live), _body(asked)
    if of.kind not in defaults.COMPLETED or not _of_kubernetes(of):
        return lines + spec.exact(has, wants)
    has, wants = (side.get("spec") or {} for side in (has, wants))
    _level(of.kind, has, wants)
    return lines + spec.fields(has, wants, of.kind)


def _labels(of: Kind, live: Object, asked: Object) -> Iterator[str]:
    added: list[str] = []
    if of.kind == "Job" and _of_kubernetes(of):
        added = [name for name in live["metadata"].get("labels") or {} if defaults.LABELS.match(name)]
        if not asked["metadata"].get("labels"):  # then it has those of its pods
            asked = {"metadata": manifests.pod_template(asked).get("metadata") or {}}
    yield from spec.named(live, asked, "labels", added)


def _body(one: Object) -> dict[str, Any]:
    return {name: value for name, value in deepcopy(dict(one)).items() if name not in _ASIDE}


def _level(of: str, has: dict[str, Any], wants: dict[str, Any]) -> None:
    """Put into what was rendered what the API server makes of it, and take away what is not Git's to say here."""
    for field in defaults.CHOSEN.get(of, ()):
        headless = field == "clusterIP" and has.get(field) == "None"
        if not wants.get(field) and not headless:
            has.pop(field, None)
    if of in owners.MAKERS:
        for side in (has, wants):
            pods = side.get("jobTemplate", {}).get("spec", {}) if of == "CronJob" else side
            for field in _OF_OWNERS:
                pods.pop(field, None)
    if of == "Service":
        _ports(has, wants)
    elif of == "NetworkPolicy" and not wants.get("policyTypes"):
        wants["policyTypes"] = ["Ingress", *(["Egress"] if wants.get("egress") else [])]
    for claim in has.get("volumeClaimTemplates") or []:
        claim.pop("status", None)


def _ports(has: dict[str, Any], wants: dict[str, Any]) -> None:
    free = set()
    for port in wants.get("ports") or []:
        port.setdefault("targetPort", port["port"])
        if "nodePort" not in port:
            free.add((port["port"], port.get("protocol", "TCP")))
    for port in has.get("ports") or []:
        if (port["port"], port.get("protocol", "TCP")) in free:
            port.pop("nodePort", None)


def _of_owners(of: Kind) -> bool:
    """Whether owners.py says what is there and what is missing."""
    return of == _POD or (of.kind in owners.STAY and _of_kubernetes(of))


def _of_kubernetes(of: Kind) -> bool:
    return bool(defaults.OF_KUBERNETES.match(of.group))


def _of_the_cluster(
    of: Kind, one: Object, ours: Mapping[str, Kind], asked: Mapping[tuple[Kind, str], Object]
) -> bool:
    """Whether it is there by itself, is over, or was made by a controller for an object that Git asked for."""
    name = _name(one)
    if _of_kubernetes(of):
        if (of.kind, name) in defaults.EVERYWHERE:
            return True
        if of.kind == "Job" and _over(one):
            return True  # it runs nothing any more: of a state before, kept to be read
        if of.kind == "Endpoints":
            return (Kind(group="", kind="Service"), name) in asked
        if of.kind == "PersistentVolumeClaim" and any(_claims(maker, name) for maker in asked.values()):
            return True
    makers = [ours.get(str(by.get("uid"))) for by in one["metadata"].get("ownerReferences") or []]
    return any(maker and _makes(maker, of) for maker in makers)


def _makes(maker: Kind, of: Kind) -> bool:
    """Whether there is a controller that makes such objects for the maker's: of Kubernetes, or a team's own."""
    return of.kind in defaults.MADE_BY.get(maker.kind, ()) if _of_kubernetes(maker) else True


def _claims(maker: Object, name: str) -> bool:
    """Whether a StatefulSet claims a volume by that name: it names no owner."""
    templates = (maker.get("spec") or {}).get("volumeClaimTemplates") or []
    starts = [f"{one['metadata']['name']}-{_name(maker)}-" for one in templates]
    return any(name.startswith(start) and name.removeprefix(start).isdecimal() for start in starts)


def _over(job: Object) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)


def _begun(one: Object, of: Kind, rendered: Collection[Object]) -> bool:
    """Whether Git leaves the end of its name to the cluster."""
    return any(
        kind(asked) == of and _name(one).startswith(asked["metadata"]["generateName"])
        for asked in rendered
        if asked["metadata"].get("generateName")
    )


def _hook(one: Object) -> bool:
    """Whether it comes and goes with a sync."""
    annotations = one["metadata"].get("annotations") or {}
    return any(name in annotations for name in _HOOKS)


def _name(one: Object) -> str:
    return str(one["metadata"].get("name") or "")


def _uid(one: Object) -> str:
    return str(one["metadata"].get("uid") or "")
