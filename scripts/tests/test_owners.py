"""Who made the pods of a namespace: what a real API server had (recorded/defaulted.json), and strangers among it."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from delivery.proof import owners
from delivery.proof.findings import Findings
from scripts.tests import recordings

Object = dict[str, Any]


class Namespace:
    """What Git rendered for it and what is there: yours to change."""

    def __init__(self) -> None:
        recorded = deepcopy(recordings.load("defaulted"))
        self.rendered: list[Object] = recorded["rendered"]
        self.makers: dict[str, list[Object]] = recorded["makers"]
        self.pods: list[Object] = recorded["pods"]

    def found(self) -> Findings:
        return owners.strays(self.rendered, "wild", self.makers, self.pods)

    def pod(self, name: str) -> Object:
        """The pod whose name begins so."""
        return next(one for one in self.pods if one["metadata"]["name"].startswith(name))

    def maker(self, kind: str, name: str) -> Object:
        """The object of that kind whose name begins so."""
        return next(one for one in self.makers[kind] if one["metadata"]["name"].startswith(name))

    def asked(self, kind: str, name: str) -> Object:
        """What Git has for it."""
        return next(one for one in self.rendered if (one["kind"], one["metadata"]["name"]) == (kind, name))

    def owner(self, name: str) -> Object:
        """The reference of a pod to who made it."""
        return dict(self.pod(name)["metadata"])["ownerReferences"][0]


def bare_pod(here: Namespace) -> None:
    here.pod("rich")["metadata"].pop("ownerReferences")


def not_controlled(here: Namespace) -> None:
    here.owner("rich")["controller"] = False


def invented(here: Namespace) -> None:
    here.owner("rich")["uid"] = "somebody-else"


def renamed(here: Namespace) -> None:
    here.owner("rich")["name"] = "bare-db4fffcc4"


def another_kind(here: Namespace) -> None:
    here.owner("rich").update(kind="Foo", apiVersion="example.com/v1")


def bare_replica_set(here: Namespace) -> None:
    here.maker("ReplicaSet", "rich")["metadata"].pop("ownerReferences")


def in_a_circle(here: Namespace) -> None:
    one = here.maker("ReplicaSet", "rich")["metadata"]
    one["ownerReferences"] = [
        {"kind": "ReplicaSet", "name": one["name"], "uid": one["uid"], "controller": True}
    ]


def adopted(here: Namespace) -> None:
    """The ReplicaSet took a stranger that has its labels."""
    stranger = deepcopy(here.pod("rich"))
    stranger["metadata"]["name"] = "stranger"
    stranger["spec"]["containers"][0]["command"] = ["sleep", "600"]
    here.pods.append(stranger)


def not_in_git(here: Namespace) -> None:
    here.rendered.remove(here.asked("Deployment", "rich"))


def in_another_namespace(here: Namespace) -> None:
    here.asked("Deployment", "rich")["metadata"]["namespace"] = "other"


def own_job(here: Namespace) -> None:
    here.maker("Job", "manual")["metadata"].pop("ownerReferences")


def scaled(here: Namespace) -> None:
    here.maker("Deployment", "rich")["spec"]["replicas"] = 3


def set_env(here: Namespace) -> None:
    [one] = here.maker("Deployment", "rich")["spec"]["template"]["spec"]["containers"]
    one["env"].append({"name": "LEAK", "value": "1"})


def another_schedule_of_pods(here: Namespace) -> None:
    spec = here.maker("CronJob", "cron")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    spec["containers"][0]["command"] = ["evil"]


MISMATCHES: dict[Callable[[Namespace], None], str] = {
    bare_pod: "pod rich-.* has no owner",
    not_controlled: "pod rich-.* has no owner",
    invented: "pod rich-.* belongs to missing ReplicaSet rich-",
    renamed: "pod rich-.* belongs to missing ReplicaSet bare-",
    another_kind: "pod rich-.* belongs to missing Foo rich-",
    bare_replica_set: "pod rich-.* belongs to ReplicaSet rich-.*, and Git does not ask for that",
    in_a_circle: "pod rich-.* belongs to ReplicaSet rich-.*, and Git does not ask for that",
    adopted: r"^pod stranger: containers\[c\]\.command is there, and Git does not ask for it$",
    not_in_git: "^Deployment rich is there, and Git does not ask for it$",
    in_another_namespace: "^Deployment rich is there, and Git does not ask for it$",
    own_job: "pod manual-.* belongs to Job manual, and Git does not ask for that",
    scaled: "^Deployment rich is for 3 replicas, Git asks for 1$",
    set_env: r"^Deployment rich: containers\[c\]\.env\[LEAK\] is there",
    another_schedule_of_pods: r"^CronJob cron: containers\[c\]\.command is there",
}


@pytest.mark.parametrize("change", MISMATCHES, ids=lambda one: one.__name__)
def test_what_git_did_not_ask_for(change: Callable[[Namespace], None]) -> None:
    """A pod that nobody in Git made, or an object that is not as Git has it: MISMATCH that names it."""
    here = Namespace()
    change(here)
    found = here.found()
    assert any(re.search(MISMATCHES[change], one) for one in found.mismatches), found


@pytest.mark.parametrize("gone", ["terminating", "failed"])
def test_a_pod_that_leaves_is_asked_nothing(gone: str) -> None:
    """A pod on its way out, or a migration that failed for good, is an earlier state: it is no stranger."""
    here = Namespace()
    pod = here.pod("rich")
    bare_pod(here)
    if gone == "failed":
        pod["status"]["phase"] = "Failed"
    else:
        pod["metadata"]["deletionTimestamp"] = "2026-11-25T12:00:00Z"
    assert here.found() == Findings()


def test_a_pod_that_takes_its_time_to_leave() -> None:
    """A stranger that somebody deleted with years of grace still runs: it is no pod on its way out, MISMATCH."""
    here = Namespace()
    bare_pod(here)
    metadata = here.pod("rich")["metadata"]
    metadata |= {"deletionTimestamp": "2036-11-25T12:00:00Z", "deletionGracePeriodSeconds": 30}
    assert here.found() == Findings()
    metadata["deletionGracePeriodSeconds"] = 300000000
    [line] = here.found().mismatches
    assert line == f"pod {metadata['name']} was given 300000000 s to leave, Git gives 30"


def test_pods_and_jobs_of_the_charts_own() -> None:
    """A chart may have a pod, or a hook whose name the cluster completes: they are asked for like the rest."""
    here = Namespace()
    job = here.asked("Job", "indexed")
    job["metadata"] = {"generateName": "index"}
    assert here.found() == Findings()
    here.owner("indexed-0")["uid"] = "somebody-else"
    assert [line.rpartition(" belongs to ")[2] for line in here.found().mismatches] == [
        "missing Job indexed, and Git does not ask for that"
    ]
    here.owner("indexed-0")["uid"] = here.owner("indexed-1")["uid"]
    pod = here.pod("bare")
    pod["metadata"].pop("ownerReferences")
    asked = here.asked("Deployment", "bare")["spec"]["template"]
    here.rendered.append(
        {"kind": "Pod", **asked, "metadata": {**asked["metadata"], "name": pod["metadata"]["name"]}}
    )
    assert here.found() == Findings()
    pod["spec"]["containers"][0]["command"] = ["evil"]
    assert len(here.found().mismatches) == 1


def test_what_is_not_there_is_unknown() -> None:
    """Git asks for a StatefulSet that the cluster does not show (yet): UNKNOWN, and it is named."""
    here = Namespace()
    here.makers["StatefulSet"], here.pods = [], [one for one in here.pods if one is not here.pod("state")]
    assert here.found() == Findings(unknowns=("StatefulSet state is not there",))


def test_an_autoscaler_of_the_chart_may_choose() -> None:
    """Where the chart has an autoscaler, any number between its two is as Git asks; beyond them it is not."""
    here = Namespace()
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "rich"}
    scaler = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3}
    named = {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "rich"}, "spec": scaler}
    here.rendered.append(named)
    scaled(here)
    assert here.found() == Findings()
    scaler["maxReplicas"] = 2
    assert here.found().mismatches == ("Deployment rich is for 3 replicas, Git asks for 2",)
    scaler["minReplicas"] = 1
    assert here.found().mismatches == ("Deployment rich is for 3 replicas, Git asks for 1 to 2",)


def test_many_differences_are_counted() -> None:
    """A stranger that differs everywhere does not fill the screen."""
    here = Namespace()
    [one] = here.pod("rich")["spec"]["containers"]
    one["env"] += [{"name": f"V{number}", "value": "1"} for number in range(20)]
    said = here.found().mismatches
    assert len(said) == 5
    assert said[-1].endswith(": 16 more fields differ from Git")
