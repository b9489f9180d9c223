"""What stands beside the pods: what a real API server had (recorded/objects.json), and what somebody does to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest

from delivery.desired.kinds import Kind
from delivery.proof import objects
from delivery.proof.findings import Findings
from scripts.tests import recordings

Object = dict[str, Any]


class Namespace:
    """What Git rendered for it and what is there: yours to change."""

    def __init__(self) -> None:
        recorded = recordings.load("objects")
        self.rendered: list[Object] = recorded["rendered"]
        self.live: dict[Kind, list[Object]] = {
            Kind(group=group, kind=kind): some
            for (group, _, kind), some in (
                (name.partition("/"), some) for name, some in recorded["live"].items()
            )
        }

    def found(self) -> Findings:
        return objects.found(self.rendered, "wild", self.live)

    def some(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return next(some for of, some in self.live.items() if of.kind == kind)

    def one(self, kind: str, name: str) -> Object:
        """A live object."""
        return next(one for one in self.some(kind) if one["metadata"]["name"] == name)

    def gone(self, kind: str, name: str) -> None:
        """Somebody deletes it."""
        self.some(kind).remove(self.one(kind, name))

    def more(self, kind: str, like: str, **metadata: Any) -> Object:
        """Somebody makes one more, called `stranger`."""
        one = deepcopy(self.one(kind, like))
        one["metadata"] = {"name": "stranger", "uid": "uid-stranger"} | metadata
        self.some(kind).append(one)
        return one

    def asked(self, kind: str, name: str) -> Object:
        """What Git has for it."""
        return next(one for one in self.rendered if (one["kind"], one["metadata"]["name"]) == (kind, name))

    def owner(self, kind: str, name: str) -> Object:
        """A reference to an object, as a controller or a liar makes it."""
        return {
            "kind": kind,
            "name": name,
            "uid": self.one(kind, name)["metadata"]["uid"],
            "controller": True,
        }


def test_what_kubernetes_adds_is_no_difference() -> None:
    """Defaults, addresses, ports of nodes, claims, what controllers make, what is in every namespace: all is known."""
    assert Namespace().found() == Findings()


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every plain value in a document, and to every empty object in it."""
    if isinstance(value, dict) and value:
        for key, one in value.items():
            yield from leaves(one, (*path, key))
    elif isinstance(value, list) and value:
        for number, one in enumerate(value):
            yield from leaves(one, (*path, number))
    else:
        yield path


RENDERED = [(one["kind"], one["metadata"]["name"]) for one in Namespace().rendered]
# The cluster's to choose where Git leaves it open; and what owners.py compares: templates and numbers of pods.
CHOSEN = re.compile(
    r"^(Service/\w+/spec/(clusterIP|clusterIPs/0|ipFamilies/0|ipFamilyPolicy|healthCheckNodePort|ports/\d/nodePort)"
    r"|Job/once/spec/selector/.*|\w+/\w+/spec/(replicas|template/.*|jobTemplate/spec/template/.*)"
    r"|StatefulSet/state/spec/volumeClaimTemplates/0/status/phase)$"
)


@pytest.mark.parametrize(("kind", "name"), RENDERED)
def test_no_value_can_be_changed_unseen(kind: str, name: str) -> None:
    """Change any single value in what a real object says: the difference is told, but for what Git leaves open."""
    unseen = []
    body = [
        field
        for field in Namespace().one(kind, name)
        if field not in ("apiVersion", "kind", "metadata", "status")
    ]
    for field in body:
        for path in leaves(Namespace().one(kind, name)[field], (field,)):
            here = Namespace()
            place: Any = here.one(kind, name)
            for step in path[:-1]:
                place = place[step]
            old = place[path[-1]]
            changed = not old if isinstance(old, bool) else old + 1 if isinstance(old, int) else f"{old}x"
            place[path[-1]] = (
                {"matchLabels": {"a": "x"}} if old == {} else "77" if path[-1] == "storage" else changed
            )
            if not here.found().mismatches:
                unseen.append("/".join(map(str, (kind, name, *path))))
    assert [one for one in unseen if not CHOSEN.match(one)] == []


def leads_elsewhere(here: Namespace) -> None:
    here.one("Service", "plain")["spec"]["selector"] = {"a": "other"}


def selects_more(here: Namespace) -> None:
    here.one("Service", "plain")["spec"]["selector"].pop("a")


def another_port(here: Namespace) -> None:
    here.one("Service", "plain")["spec"]["ports"][0]["targetPort"] = 9090


def one_port_more(here: Namespace) -> None:
    here.one("Service", "plain")["spec"]["ports"].append({"port": 22, "protocol": "TCP", "targetPort": 22})


def to_the_world(here: Namespace) -> None:
    here.one("Service", "plain")["spec"]["type"] = "LoadBalancer"


def foreign_address(here: Namespace) -> None:
    here.one("Service", "plain")["spec"]["externalIPs"] = ["10.0.0.1"]


def made_headless(here: Namespace) -> None:
    here.one("Service", "plain")["spec"] |= {"clusterIP": "None", "clusterIPs": ["None"]}


def annotated(here: Namespace) -> None:
    here.one("Service", "plain")["metadata"]["annotations"] = {"example.com/mirror": "evil"}


def another_setting(here: Namespace) -> None:
    here.one("ConfigMap", "settings")["data"]["app.yaml"] = "password: hunter2"


def an_empty_setting(here: Namespace) -> None:
    here.one("ConfigMap", "settings")["data"]["debug"] = ""


def a_setting_less(here: Namespace) -> None:
    del here.one("ConfigMap", "settings")["data"]["empty"]


def gets_a_token(here: Namespace) -> None:
    del here.one("ServiceAccount", "app")["automountServiceAccountToken"]


def opened(here: Namespace) -> None:
    here.one("NetworkPolicy", "deny")["spec"]["ingress"] = [{}]


def egress_only(here: Namespace) -> None:
    here.one("NetworkPolicy", "deny")["spec"]["policyTypes"] = ["Egress"]


def from_every_namespace(here: Namespace) -> None:
    [peer, _] = here.one("NetworkPolicy", "both")["spec"]["ingress"][0]["from"]
    peer["namespaceSelector"] = peer.pop("podSelector")


def closed_for_nobody(here: Namespace) -> None:
    here.one("NetworkPolicy", "deny")["spec"]["podSelector"] = {"matchLabels": {"a": "nobody"}}


def network_policy_gone(here: Namespace) -> None:
    here.gone("NetworkPolicy", "deny")


def network_policy_more(here: Namespace) -> None:
    here.more("NetworkPolicy", "both")


def service_more(here: Namespace) -> None:
    here.more("Service", "plain")


def door_more(here: Namespace) -> None:
    here.more("Ingress", "door")


def settings_more(here: Namespace) -> None:
    here.more("ConfigMap", "settings")


def owned_by_a_lie(here: Namespace) -> None:
    """Nobody's controller makes Services for a Deployment: who says so made it by hand."""
    here.more("Service", "plain", ownerReferences=[here.owner("Deployment", "plain")])


def owned_by_nobody(here: Namespace) -> None:
    here.more("Job", "once", ownerReferences=[{"kind": "CronJob", "name": "nightly", "uid": "invented"}])


def suspended_job(here: Namespace) -> None:
    here.more("Job", "once")["spec"]["suspend"] = True


def bare_replicas(here: Namespace) -> None:
    here.more("ReplicaSet", here.some("ReplicaSet")[0]["metadata"]["name"])


def paused(here: Namespace) -> None:
    here.one("Deployment", "plain")["spec"]["paused"] = True


def another_schedule(here: Namespace) -> None:
    here.one("CronJob", "nightly")["spec"]["suspend"] = True


def given_an_owner(here: Namespace) -> None:
    here.one("ConfigMap", "settings")["metadata"]["ownerReferences"] = [here.owner("Deployment", "plain")]


def going(here: Namespace) -> None:
    here.one("NetworkPolicy", "deny")["metadata"]["deletionTimestamp"] = "2026-11-28T12:00:00Z"


def of_another_namespace(here: Namespace) -> None:
    here.asked("ConfigMap", "settings")["metadata"]["namespace"] = "other"


MISMATCHES: dict[Callable[[Namespace], None], str] = {
    leads_elsewhere: r"^Service plain: selector\.a is other, Git asks for plain$",
    selects_more: r"^Service plain: selector is missing, and Git asks for it$",
    another_port: r"^Service plain: ports\[80/TCP\]\.targetPort is 9090, Git asks for 80$",
    one_port_more: r"^Service plain: ports\[22/TCP\] is there, and Git does not ask for it$",
    to_the_world: "^Service plain: type is LoadBalancer, Git asks for ClusterIP$",
    foreign_address: "^Service plain: externalIPs is there, and Git does not ask for it$",
    made_headless: "^Service plain: clusterIP is there, and Git does not ask for it$",
    annotated: "^Service plain: has annotation example.com/mirror that Git does not ask for$",
    another_setting: "^ConfigMap settings: data.app.yaml is not what Git asks for$",
    an_empty_setting: "^ConfigMap settings: data.debug is there, and Git does not ask for it$",
    a_setting_less: "^ConfigMap settings: data.empty is missing, and Git asks for it$",
    gets_a_token: "^ServiceAccount app: automountServiceAccountToken is missing, and Git asks for it$",
    opened: "^NetworkPolicy deny: ingress is there, and Git does not ask for it$",
    egress_only: r"^NetworkPolicy deny: policyTypes\[0\] is Egress, Git asks for Ingress$",
    from_every_namespace: r"^NetworkPolicy both: ingress\[0\]\.from\[0\]\.podSelector is missing",
    closed_for_nobody: "^NetworkPolicy deny: podSelector is there, and Git does not ask for it$",
    network_policy_gone: "^NetworkPolicy deny is not there, and Git asks for it$",
    network_policy_more: "^NetworkPolicy stranger is there, and Git does not ask for it$",
    service_more: "^Service stranger is there, and Git does not ask for it$",
    door_more: "^Ingress stranger is there, and Git does not ask for it$",
    settings_more: "^ConfigMap stranger is there, and Git does not ask for it$",
    owned_by_a_lie: "^Service stranger is there, and Git does not ask for it$",
    owned_by_nobody: "^Job stranger is there, and Git does not ask for it$",
    suspended_job: "^Job stranger is there, and Git does not ask for it$",
    bare_replicas: "^ReplicaSet stranger is there, and Git does not ask for it$",
    paused: "^Deployment plain: paused is True, Git asks for False$",
    another_schedule: "^CronJob nightly: suspend is True, Git asks for False$",
    given_an_owner: "^ConfigMap settings: has an owner that Git does not ask for$",
    going: "^NetworkPolicy deny: is being deleted$",
    of_another_namespace: "^ConfigMap settings is there, and Git does not ask for it$",
}


@pytest.mark.parametrize("change", MISMATCHES, ids=lambda one: one.__name__)
def test_what_git_did_not_ask_for(change: Callable[[Namespace], None]) -> None:
    """An object that is not as Git has it, that is gone, or that nobody asked for: MISMATCH that names it."""
    here = Namespace()
    change(here)
    found = here.found().mismatches
    assert any(re.search(MISMATCHES[change], one) for one in found), found


def test_no_setting_is_shown() -> None:
    """What somebody put into a ConfigMap by hand may be a password: its name is told, never its value."""
    here = Namespace()
    another_setting(here)
    assert not any("hunter2" in one for one in here.found().mismatches)


def test_a_job_that_is_over_is_no_stranger() -> None:
    """A migration of a version before, kept to be read, runs nothing any more; one that could still run is told."""
    here = Namespace()
    job = here.more("Job", "once")
    assert len(here.found().mismatches) == 1
    for how in ("Complete", "Failed"):
        job["status"] = {"conditions": [{"type": how, "status": "True"}]}
        assert here.found() == Findings()


def test_a_hook_comes_and_goes() -> None:
    """What Argo CD makes for a sync and takes away again is not missed; while it is there, it is as Git has it."""
    here = Namespace()
    here.asked("Job", "once")["metadata"]["annotations"] = {"argocd.argoproj.io/hook": "Sync"}
    here.one("Job", "once")["metadata"]["annotations"] = {"argocd.argoproj.io/hook": "Sync"}
    here.one("Job", "once")["metadata"]["deletionTimestamp"] = "2026-11-28T12:00:00Z"
    assert here.found() == Findings()
    here.one("Job", "once")["spec"]["backoffLimit"] = 99
    assert here.found().mismatches == ("Job once: backoffLimit is 99, Git asks for 6",)
    here.gone("Job", "once")
    assert here.found() == Findings()


def test_a_team_has_kinds_of_its_own() -> None:
    """What a definition brings is compared exactly; what its controller makes for it is asked for as well."""
    here, gateway = Namespace(), Kind(group="example.com", kind="Service")
    spec = {"ports": [{"port": 80}], "template": {}}
    asked = {"apiVersion": "example.com/v1", "kind": "Service", "metadata": {"name": "door"}, "spec": spec}
    live = deepcopy(asked) | {"status": {"ready": True}}
    live["metadata"]["uid"] = "uid-door"
    here.rendered.append(asked)
    here.live[gateway] = [live]
    owner = {"apiVersion": "example.com/v1", "kind": "Service", "name": "door", "uid": "uid-door"}
    here.more("ConfigMap", "settings", ownerReferences=[owner])
    assert here.found() == Findings()
    live["spec"]["ports"][0]["protocol"] = "TCP"
    assert len(here.found().mismatches) == 1
    live["spec"] = {"ports": [{"port": 80}]}
    assert here.found().mismatches == ("Service door: spec.template is missing, and Git asks for it",)


def test_a_secret_of_the_chart_is_unknown() -> None:
    """No right to read Secrets is asked for: where the chart brings one, it cannot be known whether it is Git's."""
    here = Namespace()
    here.rendered.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}})
    assert here.found() == Findings((), ("Secret token is in the chart, and no Secret is read",))


def test_a_kind_is_read_as_git_names_it() -> None:
    """One list for each kind that the chart may bring or brings, in Git's version; no Secret, and no list twice."""
    asked: list[tuple[str, ...]] = []

    class Played:
        def objects(self, *what: str) -> list[Object]:
            asked.append(what)
            return []

    brings = [
        Kind(group="", kind="Secret"),
        Kind(group="apps", kind="Deployment"),
        Kind(group="policy", kind="PodDisruptionBudget"),
    ]
    scaler = {"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "x"}}
    objects.read(Played(), "wild", [scaler], brings)  # type: ignore[arg-type]
    assert sorted(asked) == [
        ("wild", "autoscaling", "v1", "horizontalpodautoscalers"),
        ("wild", "policy", "", "poddisruptionbudgets"),
    ]
