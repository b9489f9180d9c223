"""The proof cannot be fooled: each way that was ever found to get PROVEN for something else, played and refused.

A real Git server, registry and Helm, a played cluster; how single fields are compared: test_spec, test_owners,
test_overrides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from delivery.build import image
from delivery.errors import Refused
from delivery.parts import git
from delivery.proof import observe
from delivery.proof.decide import Proof, Verdict
from delivery.verbs import test as testing
from scripts.tests.fake_cluster import FakeCluster
from scripts.tests.steps import deploy, promote, proofs, refused

if TYPE_CHECKING:
    pass

Object = dict[str, Any]


@pytest.fixture
def proven(cluster: FakeCluster, built: image.Built) -> FakeCluster:
    """dev and stage run what Git asks for, two replicas in stage; and that is proven."""
    deploy(cluster)
    promote(cluster, "stage")
    assert stage(cluster).reasons == ()
    return cluster


def stage(cluster: FakeCluster) -> Proof:
    return proofs(cluster)["stage"]


def application(cluster: FakeCluster) -> Object:
    return cluster.applications["manual-app-stage"]


def deployment(cluster: FakeCluster) -> Object:
    return cluster.makers["stage"]["Deployment"][0]


def beside(cluster: FakeCluster, **metadata: Any) -> Object:
    """One more pod, which has everything that a replica has: the image, the labels, an answer."""
    stranger = deepcopy(cluster.pods["stage"][0])
    stranger["metadata"] |= {"name": "stranger", "uid": "uid-stranger"} | metadata
    cluster.pods["stage"].append(stranger)
    return stranger


def helm_parameter(cluster: FakeCluster) -> None:
    parameters = [{"name": "exchangeRates.url", "value": "http://evil.example"}]
    application(cluster)["spec"]["source"]["helm"]["parameters"] = parameters


def nobody_looks(cluster: FakeCluster) -> None:
    application(cluster)["metadata"]["annotations"]["argocd.argoproj.io/skip-reconcile"] = "true"


def sync_of_its_own(cluster: FakeCluster) -> None:
    sync = application(cluster)["status"]["operationState"]["operation"]["sync"]
    sync["manifests"] = ["kind: Deployment"]


def bare_pod(cluster: FakeCluster) -> None:
    """One instead of a replica: the number is right."""
    beside(cluster, ownerReferences=[])["spec"]["containers"][0]["command"] = ["sleep", "600"]
    del cluster.pods["stage"][0]


def adopted_pod(cluster: FakeCluster) -> None:
    """The ReplicaSet took it for its own, and another one away."""
    beside(cluster)["spec"]["containers"][0]["command"] = ["sleep", "600"]
    del cluster.pods["stage"][0]


def debugger(cluster: FakeCluster) -> None:
    [container] = cluster.pods["stage"][0]["spec"]["containers"]
    ephemeral = {"name": "debugger", "image": container["image"], "command": ["sh"]}
    cluster.pods["stage"][0]["spec"]["ephemeralContainers"] = [ephemeral]
    [status] = cluster.pods["stage"][0]["status"]["containerStatuses"]
    cluster.pods["stage"][0]["status"]["ephemeralContainerStatuses"] = [status | {"name": "debugger"}]


def set_env(cluster: FakeCluster) -> None:
    """`kubectl set env`: the Deployment has it, and so have the pods; Argo CD has not noticed."""
    variable = {"name": "LEAK", "value": "1"}
    template = deployment(cluster)["spec"]["template"]
    for spec in (template["spec"], *(pod["spec"] for pod in cluster.pods["stage"])):
        spec["containers"][0].setdefault("env", []).append(variable)


def scaled(cluster: FakeCluster) -> None:
    deployment(cluster)["spec"]["replicas"] = 3


def one_replica_more(cluster: FakeCluster) -> None:
    beside(cluster)


def strange_commit(cluster: FakeCluster) -> None:
    """Argo CD was told a commit that nobody ever pushed to main."""
    clone = cluster.world.clone("evil")
    commit = cluster.world.commit(clone, "manual-app-helm/values-stage.yaml", "replicas: 9\n", "evil")
    cluster.world.git(clone, "push", "--quiet", "origin", "HEAD:refs/heads/evil")
    status = application(cluster)["status"]
    status["sync"]["revision"] = status["history"][-1]["revision"] = commit


def live(cluster: FakeCluster, kind: str, name: str) -> Object:
    """One of the objects beside the pods."""
    return next(one for one in cluster.beside_pods["stage"][kind] if one["metadata"]["name"] == name)


def service_that_leads_elsewhere(cluster: FakeCluster) -> None:
    live(cluster, "Service", "manual-app")["spec"]["selector"]["app.kubernetes.io/name"] = "mallory"


def other_settings(cluster: FakeCluster) -> None:
    live(cluster, "ConfigMap", "rates")["data"]["rates.yaml"] = "EUR: 2"


def open_network(cluster: FakeCluster) -> None:
    live(cluster, "NetworkPolicy", "default-deny")["spec"] |= {"ingress": [{}], "egress": [{}]}


def no_network_policy(cluster: FakeCluster) -> None:
    cluster.beside_pods["stage"]["NetworkPolicy"].clear()


def service_of_ones_own(cluster: FakeCluster) -> None:
    stranger = deepcopy(live(cluster, "Service", "manual-app"))
    stranger["metadata"] = {"name": "backdoor", "uid": "uid-backdoor"}
    cluster.beside_pods["stage"]["Service"].append(stranger)


def paused(cluster: FakeCluster) -> None:
    deployment(cluster)["spec"]["paused"] = True


ATTACKS: dict[Callable[[FakeCluster], None], str] = {
    helm_parameter: "^the Application: source.helm.parameters is set, and Git does not set it$",
    nobody_looks: "^the Application: annotation argocd.argoproj.io/skip-reconcile is set",
    sync_of_its_own: "^the Application: its last sync brought manifests of its own$",
    bare_pod: "^pod stranger has no owner",
    adopted_pod: r"^pod stranger: containers\[manual-app\]\.command is there",
    debugger: r"^pod manual-app-15-0: ephemeralContainers\[debugger\] is there",
    set_env: r"^Deployment manual-app: containers\[manual-app\]\.env\[LEAK\] is there",
    scaled: "^Deployment manual-app is for 3 replicas, Git asks for 2$",
    one_replica_more: "^3 replicas, Git asks for 2$",
    service_that_leads_elsewhere: r"^Service manual-app: selector\.app\.kubernetes\.io/name is mallory",
    other_settings: r"^ConfigMap rates: data\.rates\.yaml is not what Git asks for$",
    open_network: "^NetworkPolicy default-deny: ingress is there, and Git does not ask for it$",
    no_network_policy: "^NetworkPolicy default-deny is not there, and Git asks for it$",
    service_of_ones_own: "^Service backdoor is there, and Git does not ask for it$",
    paused: "^Deployment manual-app: paused is True, Git asks for False$",
    strange_commit: "^Argo CD is at [0-9a-f]{12}, which the branch in Git never had$",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.__name__)
def test_an_attack_is_a_mismatch(proven: FakeCluster, attack: Callable[[FakeCluster], None]) -> None:
    """Digest, labels, Ready, answers and Argo CD's Synced are all right, and it is MISMATCH that names the attack."""
    attack(proven)
    found = stage(proven)
    assert found.verdict is Verdict.MISMATCH
    assert any(re.search(ATTACKS[attack], one) for one in found.mismatches), found.reasons


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.__name__)
def test_nothing_is_tested_there_and_nothing_goes_on(
    proven: FakeCluster, attack: Callable[[FakeCluster], None]
) -> None:
    """Neither does a test run there, which would sign Git's hashes for it, nor does the gate let prod take from it."""
    attack(proven)
    world = proven.world
    world.git(world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    refused(
        proven,
        Refused,
        "stage does not run what Git asks for",
        lambda: testing.run(world.context, world.context.environment("stage"), ("smoke",)),
    )
    refused(proven, Refused, "stage: ", lambda: promote(proven, "prod"))


def test_a_replica_more_while_a_rollout_is_under_way(proven: FakeCluster) -> None:
    """While Argo CD sees it progressing, one replica more is a rollout: not known yet, and no reproach."""
    beside(proven)
    application(proven)["status"]["health"]["status"] = "Progressing"
    found = stage(proven)
    assert (found.verdict, found.mismatches) == (Verdict.UNKNOWN, ())
    assert "3 replicas, Git asks for 2" in found.unknowns


@pytest.mark.parametrize("moves", ["syncing", "behind"])
def test_what_is_still_on_its_way(proven: FakeCluster, moves: str) -> None:
    """While Argo CD brings the objects, some are of before and some of after: not known yet, and no reproach."""
    other_settings(proven)
    no_network_policy(proven)
    status = application(proven)["status"]
    if moves == "syncing":
        status["operationState"]["phase"] = "Running"
    else:
        status["sync"]["revision"] = proven.world.git(proven.world.server, "rev-parse", "main~1")
    found = stage(proven)
    assert (found.verdict, found.mismatches) == (Verdict.UNKNOWN, ())
    assert "NetworkPolicy default-deny is not there, and Git asks for it" in found.unknowns


def test_each_kind_is_read_once(proven: FakeCluster) -> None:
    """The objects of an environment are a list for each kind that the chart may bring, and no Secret."""
    proven.asked.clear()
    context = proven.world.context
    observe.proofs(context, [context.environment("dev")])
    listed = [
        path.rpartition("/")[2] for path in proven.asked if "/namespaces/dev/" in path and "proxy" not in path
    ]
    beside = {"services", "configmaps", "serviceaccounts", "networkpolicies", "poddisruptionbudgets"}
    assert len(listed) == len(set(listed))
    assert beside <= set(listed)
    assert "secrets" not in listed


@pytest.mark.parametrize(
    "kind",
    [
        *("deployments", "replicasets", "statefulsets", "daemonsets", "jobs", "cronjobs", "applications"),
        *("services", "configmaps", "serviceaccounts", "networkpolicies", "poddisruptionbudgets"),
    ],
)
def test_what_may_not_be_read_is_unknown(proven: FakeCluster, kind: str) -> None:
    """Who may not read a kind of objects learns that: UNKNOWN with the API server's reason, never PROVEN."""
    proven.denied = {kind}
    found = stage(proven)
    assert (found.verdict, found.mismatches) == (Verdict.UNKNOWN, ())
    assert any(f"403 {kind} is forbidden" in one for one in found.unknowns), found.unknowns


def test_a_commit_that_came_meanwhile_is_no_stranger(proven: FakeCluster) -> None:
    """Somebody pushed after the clone was made, and Argo CD is there already: the branch is asked once more."""
    context = proven.world.context
    with git.clone(context.site.git, "main", bare=True) as before:
        clone = proven.world.clone("somebody")
        proven.world.commit(clone, "README.md", "later\n", "later")
        proven.world.git(clone, "push", "--quiet", "origin", "main")
        environment = context.environment("stage")
        proven.deploy(environment, proven.world.head())
        [found] = observe.proofs(context, [environment], before)
        assert found.facts.foreign == ()
        assert found.mismatches == ()


def test_a_change_of_the_configuration_is_rolled_out(proven: FakeCluster) -> None:
    """The same digest with other settings enters: new pods with them, and PROVEN again; the old ones would not be."""
    world = proven.world
    clone = world.clone("somebody")
    chart = "manual-app-helm/templates/app.yaml"
    world.commit(clone, chart, world.file(chart).rstrip() + "\n          args: [--quiet]\n", "quieter")
    world.git(clone, "push", "--quiet", "origin", "main")
    old = deepcopy(proven.pods["stage"])
    proven.deploy(world.context.environment("dev"), world.head())
    assert promote(proven, "stage").new
    assert stage(proven).reasons == ()
    proven.pods["stage"][:] = old
    found = stage(proven)
    assert (
        "pod manual-app-15-0: containers[manual-app].args is missing, and Git asks for it" in found.mismatches
    )
