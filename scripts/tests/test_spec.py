"""Is a pod what Git rendered? What a real API server and its controllers added is nothing; all else is named.

recorded/defaulted.json: manifests that leave much unsaid, and what Kubernetes 1.36 made of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest

from delivery.desired import manifests
from delivery.proof import defaults, owners, spec
from delivery.proof.findings import Findings
from scripts.tests import recordings

Object = dict[str, Any]
RECORDED = recordings.load("defaulted")
RENDERED = {(one["kind"], one["metadata"]["name"]): one for one in RECORDED["rendered"]}
ASKED = {
    "rich": ("Deployment", "rich"),
    "bare": ("Deployment", "bare"),
    "state": ("StatefulSet", "state"),
    "daemon": ("DaemonSet", "daemon"),
    "indexed": ("Job", "indexed"),
    "cron": ("CronJob", "cron"),
}


def live(name: str) -> Object:
    """A pod as the real API server had it; yours to change."""
    found = (one for one in RECORDED["pods"] if one["metadata"]["name"].startswith(f"{name}-"))
    return deepcopy(next(found))


def differences(pod: Object, name: str) -> list[str]:
    owner = RENDERED[ASKED[name]]
    return spec.pod(pod, manifests.pod_template(owner), owner)


def test_what_kubernetes_adds_is_no_difference() -> None:
    """Defaults, the token, tolerations, hostnames, a StatefulSet's claims: what a real API server added is known."""
    found = owners.strays(RECORDED["rendered"], "wild", RECORDED["makers"], RECORDED["pods"])
    assert found == Findings()


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every plain value in a document."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from leaves(one, (*path, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from leaves(one, (*path, number))
    else:
        yield path


# Where a pod may differ and does nothing else: its node, its turn, what nodes it bears, how long its token lives; and
# where the API server lets nothing else in: the old name of the service account, what an index's variable is made of.
HARMLESS = re.compile(
    r"^(nodeName|priority|preemptionPolicy|tolerations/[^/]+/(key|effect|operator|tolerationSeconds)"
    r"|volumes/\d+/projected/sources/0/serviceAccountToken/expirationSeconds|affinity/nodeAffinity/.*"
    r"|.*/matchExpressions/0/(operator|values/0)|serviceAccount|hostname|.*/env/0/valueFrom/fieldRef/apiVersion)$"
)


@pytest.mark.parametrize("name", ASKED)
def test_no_value_can_be_changed_unseen(name: str) -> None:
    """Change any single value in a real pod's spec: the difference is told, but for where and how soon it runs."""
    unseen = []
    for path in leaves(live(name)["spec"]):
        pod = live(name)
        place: Any = pod["spec"]
        for step in path[:-1]:
            place = place[step]
        old = place[path[-1]]
        changed = not old if isinstance(old, bool) else old + 1 if isinstance(old, int) else f"{old}x"
        if path[-1] in ("cpu", "memory", "ephemeral-storage", "storage", "sizeLimit", "divisor"):
            changed = "77"
        place[path[-1]] = changed
        if not differences(pod, name):
            unseen.append("/".join(map(str, path)))
    assert [one for one in unseen if not HARMLESS.match(one)] == []


@pytest.mark.parametrize("name", ASKED)
def test_nothing_can_be_left_out_unseen(name: str) -> None:
    """Leave out anything that Git asks for: the difference is told."""
    owner = RENDERED[ASKED[name]]
    for path in leaves(manifests.pod_template(owner)["spec"]):
        asked = deepcopy(dict(manifests.pod_template(owner)))
        place: Any = asked["spec"]
        for step in path[:-1]:
            place = place[step]
        if place[path[-1]] in (None, "", False, 0, 30, "TCP", "Equal") or path[-1] in (
            "protocol",
            "operator",
        ):
            continue  # which is what it means to say nothing
        place[path[-1]] = "other"
        assert spec.pod(live(name), asked, owner), path


def container(pod: Object) -> Object:
    return pod["spec"]["containers"][0]


STRANGER = {"name": "stranger", "image": "x:1"}
TOKEN = {"name": "kube-api-access-abcde", "projected": {"sources": [{"secret": {"name": "prod-database"}}]}}
ADDED: dict[str, tuple[Callable[[Object], Any], str]] = {
    "a command": (
        lambda p: container(p).update(command=["sh", "-c", "evil"]),
        r"containers\[c\]\.command is there",
    ),
    "arguments": (lambda p: container(p).update(args=["--debug"]), r"\.args is there"),
    "a variable": (
        lambda p: container(p)["env"].append({"name": "LEAK", "value": "1"}),
        r"containers\[c\]\.env\[LEAK\] is there, and Git does not ask for it",
    ),
    "another value": (lambda p: container(p)["env"][0].update(value="pass"), r"env\[E\]\.value is there"),
    "variables of a Secret": (
        lambda p: container(p).update(envFrom=[{"secretRef": {"name": "root"}}]),
        r"\.envFrom is there",
    ),
    "a port": (lambda p: container(p)["ports"].append({"containerPort": 22}), r"ports\[22/TCP\] is there"),
    "a mount": (
        lambda p: container(p)["volumeMounts"].append({"name": "h", "mountPath": "/h"}),
        r"volumeMounts\[/h\] is there",
    ),
    "privileges": (
        lambda p: container(p)["securityContext"].update(privileged=True),
        r"securityContext is there",
    ),
    "a working folder": (lambda p: container(p).update(workingDir="/x"), r"\.workingDir is there"),
    "a probe": (
        lambda p: container(p).update(livenessProbe={"exec": {"command": ["evil"]}}),
        r"\.livenessProbe is there",
    ),
    "a hook": (
        lambda p: container(p).update(lifecycle={"postStart": {"exec": {"command": ["evil"]}}}),
        r"\.lifecycle is there",
    ),
    "resources": (lambda p: container(p).update(resources={"limits": {"cpu": "1m"}}), r"resources is there"),
    "another image": (lambda p: container(p).update(image="x:2"), r"\.image is x:2, Git asks for docker\.io"),
    "a side car": (lambda p: p["spec"]["containers"].append(STRANGER), r"containers\[stranger\] is there"),
    "an init container": (
        lambda p: p["spec"].update(initContainers=[STRANGER]),
        r"initContainers\[stranger\] is there",
    ),
    "an ephemeral container": (
        lambda p: p["spec"].update(ephemeralContainers=[STRANGER]),
        r"ephemeralContainers\[stranger\] is there",
    ),
    "a container that is gone": (
        lambda p: p["spec"].update(containers=[STRANGER]),
        r"containers\[c\] is missing, and Git asks for it",
    ),
    "another identity": (
        lambda p: p["spec"].update(serviceAccountName="admin", serviceAccount="admin"),
        "serviceAccountName is admin, Git asks for default",
    ),
    "a volume": (
        lambda p: p["spec"]["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
        r"volumes\[h\] is there",
    ),
    "a volume that passes for the token": (
        lambda p: p["spec"]["volumes"].append(TOKEN),
        r"volumes\[kube-api-access-abcde\] is there",
    ),
    "the host's network": (lambda p: p["spec"].update(hostNetwork=True), "hostNetwork is True"),
    "the host's processes": (lambda p: p["spec"].update(hostPID=True), "hostPID is True"),
    "the host's memory": (lambda p: p["spec"].update(hostIPC=True), "hostIPC is True"),
    "other hosts": (
        lambda p: p["spec"].update(hostAliases=[{"ip": "10.0.0.1", "hostnames": ["postgresql"]}]),
        r"hostAliases\[10\.0\.0\.1\] is there",
    ),
    "other name servers": (
        lambda p: p["spec"].update(dnsConfig={"nameservers": ["10.0.0.1"]}),
        "dnsConfig is there",
    ),
    "another user": (
        lambda p: p["spec"].update(securityContext={"runAsUser": 0}),
        "securityContext is there, and Git does not ask for it",
    ),
    "another runtime": (lambda p: p["spec"].update(runtimeClassName="x"), "runtimeClassName is there"),
    "a label": (
        lambda p: p["metadata"]["labels"].update(app="other"),
        "has label app that Git does not ask for",
    ),
    "another label": (
        lambda p: p["metadata"]["labels"].update(a="other"),
        "label a is other, Git asks for bare",
    ),
}


@pytest.mark.parametrize("what", ADDED)
def test_what_somebody_adds_is_named(what: str) -> None:
    """Whatever is added to a pod beyond what Git and the cluster put there: one line names the field."""
    change, reason = ADDED[what]
    pod = live("bare")
    change(pod)
    said = differences(pod, "bare")
    assert any(re.search(reason, one) for one in said), said


def test_a_token_that_git_forbids() -> None:
    """Where the chart wants no token of the service account, one that is mounted is a difference."""
    owner = deepcopy(RENDERED["Deployment", "bare"])
    owner["spec"]["template"]["spec"]["automountServiceAccountToken"] = False
    said = spec.pod(live("bare"), owner["spec"]["template"], owner)
    assert any("kube-api-access" in one for one in said), said


def test_the_order_of_variables_counts() -> None:
    """A variable may be made of those before it: the same ones in another order are a difference."""
    pod = live("rich")
    container(pod)["env"].reverse()
    assert differences(pod, "rich") == ["containers[c].env has another order than Git asks for"]


def test_no_value_of_a_variable_is_shown() -> None:
    """A variable that was set by hand may be a password: its name is told, never its value."""
    owner = deepcopy(RENDERED["Deployment", "bare"])
    owner["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = "asked"
    pod = live("bare")
    container(pod)["env"][0]["value"] = "hunter2"
    said = spec.pod(pod, owner["spec"]["template"], owner)
    assert said == ["containers[c].env[E].value is not what Git asks for"]


def test_a_restart_is_no_difference() -> None:
    """`kubectl rollout restart` notes its time in the template: the pods are the same, begun anew."""
    [one] = [one for one in RECORDED["makers"]["Deployment"] if one["metadata"]["name"] == "rich"]
    template, asked = deepcopy(one["spec"]["template"]), RENDERED["Deployment", "rich"]["spec"]["template"]
    template["metadata"]["annotations"][defaults.RESTARTED] = "2026-11-25T12:00:00Z"
    assert spec.template(template, asked) == []
    template["metadata"]["annotations"]["inject"] = "evil"
    assert spec.template(template, asked) == ["has annotation inject that Git does not ask for"]
