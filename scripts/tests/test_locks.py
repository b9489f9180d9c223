"""The locks are in place, or the proof says which one is off; an emergency is told for ever.

The played cluster has what `delivery policy` and `delivery generate` bring; then an administrator takes it away.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from delivery import roles
from delivery.build import image
from delivery.errors import Refused
from delivery.files import write_private
from delivery.parts import cosign, openpgp
from delivery.parts.emergency import Emergency
from delivery.parts.registry import connect
from delivery.proof import locks, observe
from delivery.proof.decide import Proof, Verdict
from delivery.show import history as showing
from delivery.signed import entry, ledger, trail
from delivery.site import ArgoCD
from delivery.verbs import history as reading
from delivery.verbs import rollback as rolling
from scripts.tests.fake_cluster import FakeCluster
from scripts.tests.steps import bare_promote, deploy, promote, proofs, refused

if TYPE_CHECKING:
    from pathlib import Path

Object = dict[str, Any]
POLICY, BINDING = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"
EVERY = ("writers", "namespaces", "applications", "argocd", "image-policies", "pinned-images")
HOUR = timedelta(hours=1)


@pytest.fixture
def proven(cluster: FakeCluster, built: image.Built) -> FakeCluster:
    """The image runs in dev, stage and prod; every lock is in place, and that is proven."""
    deploy(cluster)
    promote(cluster, "stage")
    promote(cluster, "prod")
    found = proofs(cluster)
    assert [one.reasons for one in found.values()] == [()] * 3
    cluster.asked.clear()
    return cluster


def one(cluster: FakeCluster, kind: str, name: str) -> Object:
    """A live object, to reach in."""
    return cluster.guard()[kind][name]


def off(cluster: FakeCluster, says: str, *environments: str) -> None:
    """It is a lock that is off, in exactly these environments, and the reason names it."""
    found = proofs(cluster)
    told = {
        name: [line for line in proof.mismatches if line.startswith("a lock is off: ")]
        for name, proof in found.items()
    }
    assert {name for name, lines in told.items() if lines} == set(environments), told
    for name in environments:
        assert found[name].verdict is Verdict.MISMATCH
        assert any(re.search(says, line) for line in told[name]), told[name]


@pytest.mark.parametrize("kind", [POLICY, BINDING])
@pytest.mark.parametrize("name", EVERY)
def test_a_policy_that_was_taken_away(cluster: FakeCluster, kind: str, name: str) -> None:
    """An administrator deletes a policy or its binding: MISMATCH that names it, in each guarded environment."""
    del cluster.guard()[kind][f"manual-app-{name}"]
    off(cluster, f"^a lock is off: {kind} manual-app-{name} is not there$", "stage", "prod")


def warns(cluster: FakeCluster) -> None:
    one(cluster, BINDING, "manual-app-writers")["spec"]["validationActions"] = ["Warn", "Audit"]


def leaves_prod_out(cluster: FakeCluster) -> None:
    matches = one(cluster, BINDING, "manual-app-writers")["spec"]["matchResources"]
    matches["namespaceSelector"]["matchExpressions"][0]["values"] = ["stage", "manual-app-delivery"]


def by_label(cluster: FakeCluster) -> None:
    matches = one(cluster, BINDING, "manual-app-namespaces")["spec"].setdefault("matchResources", {})
    matches["objectSelector"] = {"matchLabels": {"locked": "yes"}}


def fails_open(cluster: FakeCluster) -> None:
    one(cluster, POLICY, "manual-app-argocd")["spec"]["failurePolicy"] = "Ignore"


def fewer_operations(cluster: FakeCluster) -> None:
    [rule] = one(cluster, POLICY, "manual-app-writers")["spec"]["matchConstraints"]["resourceRules"]
    rule["operations"] = ["DELETE"]


def one_condition_more(cluster: FakeCluster) -> None:
    conditions = one(cluster, POLICY, "manual-app-writers")["spec"]["matchConditions"]
    conditions.append({"name": "not-mallory", "expression": "request.userInfo.username != 'mallory'"})


def another_writer(cluster: FakeCluster) -> None:
    for variable in one(cluster, POLICY, "manual-app-writers")["spec"]["variables"]:
        if variable["name"] == "controller":
            variable["expression"] = "variables.who in ['mallory']"


def always_true(cluster: FakeCluster) -> None:
    [validation] = one(cluster, POLICY, "manual-app-argocd")["spec"]["validations"]
    validation["expression"] = "true"


def any_image(cluster: FakeCluster) -> None:
    for variable in one(cluster, POLICY, "manual-app-pinned-images")["spec"]["variables"]:
        if variable["name"] == "platform":
            variable["expression"] = '["docker.io/library/alpine:latest"]'


def images_by_a_rule(cluster: FakeCluster) -> None:
    for variable in one(cluster, POLICY, "manual-app-pinned-images")["spec"]["variables"]:
        if variable["name"] == "platform":
            variable["expression"] = "variables.images[0]"


def loose_namespace(cluster: FakeCluster) -> None:
    labels = one(cluster, "Namespace", "stage")["metadata"]["labels"]
    labels["pod-security.kubernetes.io/enforce"] = "privileged"


def unsigned_is_fine(cluster: FakeCluster) -> None:
    del one(cluster, "AppProject", "stage")["spec"]["sourceIntegrity"]


def another_gates_key(cluster: FakeCluster) -> None:
    other = one(cluster, "AppProject", "prod")["spec"]["sourceIntegrity"]
    [policy] = one(cluster, "AppProject", "stage")["spec"]["sourceIntegrity"]["git"]["policies"]
    policy["gpg"]["keys"] = other["git"]["policies"][0]["gpg"]["keys"]


def every_kind(cluster: FakeCluster) -> None:
    one(cluster, "AppProject", "stage")["spec"]["namespaceResourceWhitelist"] = [{"group": "*", "kind": "*"}]


def no_project(cluster: FakeCluster) -> None:
    del cluster.guard()["AppProject"]["stage"]


def verifies_nothing(cluster: FakeCluster) -> None:
    """One pod of several is enough: what it renders counts as much."""
    second = deepcopy(cluster.argocd[0])
    second["metadata"]["name"] = "argocd-repo-server-1"
    second["spec"]["containers"][0]["env"] = [{"name": "ARGOCD_GPG_ENABLED", "value": "False"}]
    cluster.argocd.append(second)


def switched_off_further_down(cluster: FakeCluster) -> None:
    cluster.argocd[1]["spec"]["containers"][0]["env"].append({"name": "ARGOCD_GPG_ENABLED", "value": "no"})


IN_ALL: dict[Callable[[FakeCluster], None], str] = {
    verifies_nothing: "pod argocd-repo-server-1, container argocd-repo-server: ARGOCD_GPG_ENABLED is False, so Argo CD",
    switched_off_further_down: "pod argocd-application-controller-0, .*: ARGOCD_GPG_ENABLED is no, so Argo CD",
    warns: f"{BINDING} manual-app-writers: validationActions is ",
    leaves_prod_out: f"{BINDING} manual-app-writers: matchResources.namespaceSelector.matchExpressions",
    by_label: f"{BINDING} manual-app-namespaces: matchResources is there",
    fails_open: f"{POLICY} manual-app-argocd: failurePolicy is Ignore, Git asks for Fail$",
    fewer_operations: r"manual-app-writers: matchConstraints\.resourceRules\[0\]\.operations",
    one_condition_more: r"manual-app-writers: matchConditions\[not-mallory\] is there",
    another_writer: r"manual-app-writers: variables\[controller\]\.expression is variables.who in \['mallory",
    always_true: r"manual-app-argocd: validations\[0\]\.expression is true",
    any_image: "manual-app-pinned-images: it lets in docker.io/library/alpine:latest$",
    images_by_a_rule: r"manual-app-pinned-images: variables\[platform\]\.expression is variables\.images",
}
IN_STAGE: dict[Callable[[FakeCluster], None], str] = {
    loose_namespace: "Namespace stage: label pod-security.kubernetes.io/enforce is privileged",
    unsigned_is_fine: "AppProject stage: sourceIntegrity is missing, and Git asks for it$",
    another_gates_key: r"AppProject stage: sourceIntegrity\.git\.policies\[0\]\.gpg\.keys",
    every_kind: "AppProject stage: namespaceResourceWhitelist",
    no_project: "AppProject stage is not there$",
}


@pytest.mark.parametrize("change", IN_ALL, ids=lambda change: change.__name__)
def test_a_policy_that_was_weakened(cluster: FakeCluster, change: Callable[[FakeCluster], None]) -> None:
    """A policy or its binding is there and says something else than was generated: MISMATCH that names the field."""
    change(cluster)
    off(cluster, IN_ALL[change], "stage", "prod")


@pytest.mark.parametrize("change", IN_STAGE, ids=lambda change: change.__name__)
def test_what_guards_one_environment(cluster: FakeCluster, change: Callable[[FakeCluster], None]) -> None:
    """What is an environment's own, its namespace's labels and its project, is held against it alone."""
    change(cluster)
    off(cluster, IN_STAGE[change], "stage")


def test_the_list_of_the_platforms_images_may_be_longer(proven: FakeCluster) -> None:
    """`delivery up` and `delivery policy --image` name more images than the chart: fine, if each has its digest."""
    more = [f"registry.example/platform/python@sha256:{'a' * 64}"]
    for variable in one(proven, POLICY, "manual-app-pinned-images")["spec"]["variables"]:
        if variable["name"] == "platform":
            variable["expression"] = json.dumps(more)
    globs = [{"glob": name} for name in more]
    others = {"metadata": {"name": "manual-app-platform"}, "spec": {"mode": "enforce", "images": globs}}
    proven.guard()["ClusterImagePolicy"]["manual-app-platform"] = others
    assert [proof.reasons for proof in proofs(proven).values()] == [()] * 3
    globs.append({"glob": "registry.example/**"})
    off(proven, "ClusterImagePolicy manual-app-platform lets in registry.example/", "stage", "prod")


def no_policy(cluster: FakeCluster) -> None:
    cluster.guard()["ClusterImagePolicy"].clear()


def only_warns(cluster: FakeCluster) -> None:
    one(cluster, "ClusterImagePolicy", "manual-app-tested")["spec"]["mode"] = "warn"


def another_key(cluster: FakeCluster) -> None:
    authorities = one(cluster, "ClusterImagePolicy", "manual-app-tested")["spec"]["authorities"]
    authorities[0]["key"]["data"] = authorities[1]["key"]["data"]


def any_build(cluster: FakeCluster) -> None:
    asked = one(cluster, "ClusterImagePolicy", "manual-app-tested")["spec"]["policy"]
    asked["data"] = asked["data"].replace('not signed("build")', "false")


def another_repository(cluster: FakeCluster) -> None:
    authorities = one(cluster, "ClusterImagePolicy", "manual-app-tested")["spec"]["authorities"]
    [asked] = next(by for by in authorities if by["name"] == "build")["attestations"]
    asked["policy"]["data"] = asked["policy"]["data"].replace("git+https://", "git+https://evil.")


def passes_all(cluster: FakeCluster) -> None:
    authorities = one(cluster, "ClusterImagePolicy", "manual-app-tested")["spec"]["authorities"]
    authorities.append({"name": "easy", "static": {"action": "pass"}})


def no_question(cluster: FakeCluster) -> None:
    del one(cluster, "ClusterImagePolicy", "manual-app-tested")["spec"]["policy"]


def not_included(cluster: FakeCluster) -> None:
    del one(cluster, "Namespace", "prod")["metadata"]["labels"]["policy.sigstore.dev/include"]


def excluded(cluster: FakeCluster) -> None:
    one(cluster, "Namespace", "prod")["metadata"]["labels"]["webhooks.knative.dev/exclude"] = "true"


def webhook(cluster: FakeCluster) -> Object:
    [hook] = one(cluster, "ValidatingWebhookConfiguration", "policy.sigstore.dev")["webhooks"]
    return dict(hook)


def changed(cluster: FakeCluster, **fields: Any) -> None:
    name = "policy.sigstore.dev"
    one(cluster, "ValidatingWebhookConfiguration", name)["webhooks"] = [webhook(cluster) | fields]


def no_webhook(cluster: FakeCluster) -> None:
    cluster.guard()["ValidatingWebhookConfiguration"].clear()


def lets_through(cluster: FakeCluster) -> None:
    changed(cluster, failurePolicy="Ignore")


def asks_nothing(cluster: FakeCluster) -> None:
    changed(cluster, rules=[])


def never_matches(cluster: FakeCluster) -> None:
    changed(cluster, matchConditions=[{"name": "never", "expression": "false"}])


def looks_elsewhere(cluster: FakeCluster) -> None:
    expression = {"key": "policy.sigstore.dev/include", "operator": "NotIn", "values": ["true"]}
    changed(cluster, namespaceSelector={"matchExpressions": [expression]})


def set_to(cluster: FakeCluster, **settings: str) -> None:
    one(cluster, "ConfigMap", "config-policy-controller")["data"] = {
        name.replace("_", "-"): value for name, value in settings.items()
    }


def unmatched_pass(cluster: FakeCluster) -> None:
    set_to(cluster, no_match_policy="allow")


def unmatched_warn(cluster: FakeCluster) -> None:
    set_to(cluster, no_match_policy="warn")


def empty_policies_pass(cluster: FakeCluster) -> None:
    set_to(cluster, no_match_policy="deny", fail_on_empty_authorities="F")


def no_settings(cluster: FakeCluster) -> None:
    del cluster.guard()["ConfigMap"]["config-policy-controller"]


EVIDENCE: dict[Callable[[FakeCluster], None], str] = {
    no_policy: "ClusterImagePolicy manual-app-tested is not there$",
    only_warns: "ClusterImagePolicy manual-app-tested: mode is warn, Git asks for enforce$",
    another_key: "ClusterImagePolicy manual-app-tested: authority build has another key than this site's$",
    any_build: "ClusterImagePolicy manual-app-tested: policy.data",
    another_repository: r"manual-app-tested: authorities\[build\]\.attestations\[0\]\.policy\.data",
    passes_all: r"ClusterImagePolicy manual-app-tested: authorities\[easy\] is there",
    no_question: "ClusterImagePolicy manual-app-tested: policy is missing",
    no_webhook: "ValidatingWebhookConfiguration policy.sigstore.dev is not there$",
    lets_through: "ValidatingWebhookConfiguration policy.sigstore.dev: failurePolicy is Ignore",
    asks_nothing: "ValidatingWebhookConfiguration policy.sigstore.dev is not asked about new pods$",
    never_matches: "policy.sigstore.dev: matchConditions are others than those of policy/policy-controller$",
    unmatched_pass: "ConfigMap config-policy-controller: no-match-policy is allow, it should be deny$",
    unmatched_warn: "ConfigMap config-policy-controller: no-match-policy is warn, it should be deny$",
    empty_policies_pass: "config-policy-controller: fail-on-empty-authorities is F, it should be true$",
    no_settings: "ConfigMap config-policy-controller is not there$",
    looks_elsewhere: "policy.sigstore.dev: namespaceSelector leaves (stage|prod) out$",
}
IN_PROD: dict[Callable[[FakeCluster], None], str] = {
    not_included: "Namespace prod: label policy.sigstore.dev/include is missing, it should be true$",
    excluded: "Namespace prod: label webhooks.knative.dev/exclude is true, it should not be there$",
}


@pytest.mark.parametrize("change", EVIDENCE, ids=lambda change: change.__name__)
def test_what_asks_for_evidence(cluster: FakeCluster, change: Callable[[FakeCluster], None]) -> None:
    """Where only what is tested may run: policy-controller's policy, its keys and its webhook are as they must be."""
    change(cluster)
    off(cluster, EVIDENCE[change], "stage", "prod")


@pytest.mark.parametrize("change", IN_PROD, ids=lambda change: change.__name__)
def test_where_evidence_is_asked(cluster: FakeCluster, change: Callable[[FakeCluster], None]) -> None:
    """The labels by which policy-controller is asked about a namespace are that environment's own."""
    change(cluster)
    off(cluster, IN_PROD[change], "prod")


def test_the_keys_that_argo_cd_takes_commits_by(cluster: FakeCluster, tmp_path: Path) -> None:
    """Another certificate under the gate's id, the key gone, the whole ConfigMap gone: each is a lock that is off."""
    keyring = one(cluster, "ConfigMap", "argocd-gpg-keys-cm")
    certificates = dict(keyring["data"])
    site = cluster.world.context.site
    own = site.signer("gate-prod").commits
    assert own
    key = openpgp.key_id(own.public.read_text())
    keyring["data"] = certificates | {key: openpgp.generate("Mallory <mallory@example.test>")[1]}
    off(cluster, f"ConfigMap argocd-gpg-keys-cm has another certificate under {key}$", "prod")
    keyring["data"] = {name: text for name, text in certificates.items() if name != key}
    off(cluster, f"ConfigMap argocd-gpg-keys-cm has no key {key}", "prod")
    del cluster.guard()["ConfigMap"]["argocd-gpg-keys-cm"]
    off(cluster, "ConfigMap argocd-gpg-keys-cm is not there$", "stage", "prod")


def from_a_config_map(container: Object) -> None:
    container["env"] = [
        {"name": "ARGOCD_GPG_ENABLED", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y"}}}
    ]


def from_another_variable(container: Object) -> None:
    container["env"] = [{"name": "ARGOCD_GPG_ENABLED", "value": "$(OTHER)"}]


def from_many(container: Object) -> None:
    container |= {"env": [], "envFrom": [{"secretRef": {"name": "x"}}]}


@pytest.mark.parametrize(
    "change", [from_a_config_map, from_another_variable, from_many], ids=lambda one: one.__name__
)
def test_a_switch_that_cannot_be_seen(proven: FakeCluster, change: Callable[[Object], None]) -> None:
    """Whether Argo CD verifies commits is said elsewhere than in its pods: UNKNOWN, and what to do about it."""
    change(proven.argocd[0]["spec"]["containers"][0])
    found = proofs(proven)
    assert {name for name, one in found.items() if one.verdict is Verdict.UNKNOWN} == {"stage", "prod"}
    assert all("comes from elsewhere, say it in place: true" in one for one in found["prod"].unknowns)


def test_argo_cd_as_it_comes(proven: FakeCluster) -> None:
    """Where nobody says anything, Argo CD verifies; a pod that ended, or of something else, has no say."""
    for pod in proven.argocd:
        pod["spec"]["containers"][0]["env"] = []
    for labels, phase in (({}, "Running"), (proven.argocd[0]["metadata"]["labels"], "Failed")):
        other = deepcopy(proven.argocd[0])
        other["metadata"]["labels"], other["status"]["phase"] = labels, phase
        other["spec"]["containers"][0]["env"] = [{"name": "ARGOCD_GPG_ENABLED", "value": "false"}]
        proven.argocd.append(other)
    assert [one.reasons for one in proofs(proven).values()] == [()] * 3


def test_argo_cd_that_is_not_found(proven: FakeCluster) -> None:
    """No pod that verifies is there, or nobody may look: UNKNOWN, with the label, or with who gives the right."""
    proven.argocd.pop(0)
    asleep, said = proofs(proven)["stage"].unknowns
    assert asleep == "Argo CD's repo-server does not run: it sees and changes nothing"
    assert said.endswith(
        "no pod with the label app.kubernetes.io/name=argocd-repo-server, which verifies commits"
    )
    proven.denied = {"argocd-gpg-keys-cm"}
    assert any("(policy/roles.yaml gives the deployer that right)" in one for one in stage(proven).unknowns)


@pytest.mark.parametrize(
    ("resource", "environments"),
    [
        ("validatingadmissionpolicies", {"stage", "prod"}),
        ("validatingadmissionpolicybindings", {"stage", "prod"}),
        ("appprojects", {"stage", "prod"}),
        ("argocd-gpg-keys-cm", {"stage", "prod"}),
        ("config-policy-controller", {"stage", "prod"}),
        ("clusterimagepolicies", {"stage", "prod"}),
        ("validatingwebhookconfigurations", {"stage", "prod"}),
    ],
)
def test_a_lock_that_may_not_be_looked_at(proven: FakeCluster, resource: str, environments: set[str]) -> None:
    """Who may not read a lock learns that: UNKNOWN with the API server's reason, never PROVEN, never MISMATCH."""
    proven.denied = {resource}
    found = proofs(proven)
    assert {name for name, one in found.items() if one.verdict is Verdict.UNKNOWN} == environments
    assert not any(one.mismatches for one in found.values())
    assert all(f"403 {resource} is forbidden" in " ".join(found[name].unknowns) for name in environments)


def test_few_reads(proven: FakeCluster) -> None:
    """What holds in the whole cluster is read once for all environments; of the first one only whether Argo CD runs."""
    proofs(proven)
    whole = [path for path in proven.asked if "admission" in path or "imagepol" in path or "appproj" in path]
    assert len(whole) == len(set(whole)) == 5
    of_argocd = [path for path in proven.asked if "/argocd/pods" in path or "-cm" in path]
    assert len(of_argocd) == len(set(of_argocd)) == 2
    proven.asked.clear()
    context = proven.world.context
    observe.proofs(context, [context.environment("dev")])
    assert not any("admission" in path or "-cm" in path for path in proven.asked)


def test_argo_cd_in_another_cluster(cluster: FakeCluster) -> None:
    """Where one Argo CD serves several clusters, what guards it is looked for where it is, too."""
    site = cluster.world.context.site
    file = site.kubeconfig
    assert file
    told = YAML(typ="safe", pure=True).load(file.read_text())
    told["contexts"].append({"name": "hub", "context": {"cluster": "c", "user": "u"}})
    write_private(file, json.dumps(told))
    context = cluster.world.on(argocd=ArgoCD(context="hub")).context
    del cluster.guard()[POLICY]["manual-app-argocd"]
    del cluster.guard()[POLICY]["manual-app-writers"]
    [_, *guarded] = observe.proofs(context, context.environments)
    for proof in guarded:
        gone = [line for line in proof.mismatches if line.endswith("is not there")]
        assert gone == [
            f"a lock is off: {POLICY} manual-app-writers is not there",
            f"a lock is off: {POLICY} manual-app-argocd is not there",
            f"a lock is off: Argo CD's {POLICY} manual-app-argocd is not there",
        ]


# --- emergencies


def annotate(cluster: FakeCluster, environment: str, **annotations: str) -> None:
    names = {"now": roles.IN_EMERGENCY, "over": roles.EMERGENCIES}
    metadata = one(cluster, "Namespace", environment)["metadata"]
    metadata["annotations"] = {names[name]: text for name, text in annotations.items()}


def at(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def now() -> datetime:
    return datetime.now(UTC)


def stage(cluster: FakeCluster) -> Proof:
    return proofs(cluster)["stage"]


def test_an_emergency_that_is_on(proven: FakeCluster) -> None:
    """While somebody may write in stage past Argo CD: MISMATCH that says who, since when and why; prod says nothing."""
    annotate(proven, "stage", now=f"eve@example.org {at(now())} the database is full")
    found = proofs(proven)
    [said] = found["stage"].mismatches
    assert said.startswith("an emergency is on in stage since ")
    assert said.endswith(" by eve@example.org: the database is full")
    assert found["prod"].verdict is Verdict.PROVEN


def ended(cluster: FakeCluster, environment: str = "stage") -> None:
    """An emergency was on for a while and has just ended, a moment after the newest entry."""
    until = now() + timedelta(seconds=1)
    annotate(cluster, environment, over=f"eve@example.org {at(until - HOUR)} it burns until {at(until)}")


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds later, for whoever signs."""

    class Clock(datetime):
        @classmethod
        def now(cls, zone: Any = None) -> datetime:
            return datetime.now(zone) + timedelta(seconds=3)

    monkeypatch.setattr(sys.modules["delivery.verbs.carry"], "datetime", Clock)


@pytest.mark.parametrize("way", ["rollback", "promotion"])
def test_an_emergency_that_is_over(
    proven: FakeCluster, built: image.Built, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Until something enters stage again it is MISMATCH; going back to what runs is enough, and then it is a note."""
    context = proven.world.context
    ended(proven)
    [said] = stage(proven).mismatches
    assert re.match(
        "an emergency ended in stage at .* and nothing entered since .*eve@example.org: it burns", said
    )
    later(monkeypatch)
    head = proven.world.head()
    if way == "rollback":
        done = rolling.rollback(context, context.environment("stage"), built.digest)
    else:
        done = promote(proven, "stage")
    assert (done.new, proven.world.head()) == (False, head)
    found = stage(proven)
    assert (found.verdict, found.mismatches) == (Verdict.PROVEN, ())
    assert any(re.match("an emergency ended in stage at .*it burns", note) for note in found.notes)
    entries = entered(proven, built.digest)
    assert [one.release.form for one in entries] == ["promotion", way]
    bare_promote(proven, "stage")
    assert entered(proven, built.digest) == entries, "once is enough"
    [line] = trail.read(context, [context.environment("stage")]).lines
    assert (line.state, line.held.entry, line.at) == ("VERIFIED", entries[0].hash, entries[0].at), (
        "as it came in"
    )
    with ledger.opened(context) as book:
        [kept] = book.statements([("stage", line.record.commit)]).values()
    hashes = {cosign.envelope(one).hash for one in kept}
    assert hashes >= {one.hash for one in entries}, "the first one, and what was signed anew"


def entered(cluster: FakeCluster, digest: str) -> tuple[entry.Entry, ...]:
    context = cluster.world.context
    with connect(context.site.image) as registry:
        return entry.fetch(context, registry, digest, context.environment("stage")).entries


def test_without_an_emergency_nothing_is_signed_again(proven: FakeCluster, built: image.Built) -> None:
    """Going back to what runs signs nothing while nobody went around the locks."""
    before = entered(proven, built.digest)
    context = proven.world.context
    rolling.rollback(context, context.environment("stage"), built.digest)
    assert entered(proven, built.digest) == before


def test_after_an_emergency_nothing_goes_on(proven: FakeCluster) -> None:
    """What was in stage during an emergency is no source for prod: the gate refuses until stage is entered again."""
    ended(proven)
    refused(proven, Refused, "an emergency ended in stage", lambda: promote(proven, "prod"))


def test_an_emergency_that_nobody_understands(proven: FakeCluster) -> None:
    """An annotation that says something else is UNKNOWN, with what it says."""
    annotate(proven, "stage", over="somebody was here")
    found = stage(proven)
    assert (found.verdict, found.mismatches) == (Verdict.UNKNOWN, ())
    assert any("somebody was here" in one for one in found.unknowns)


def test_an_emergency_cannot_end_before_it_began() -> None:
    """An end that is told as earlier than the beginning does not move the emergency before the newest entry."""
    entered = now()
    told = Emergency("eve", entered + HOUR, "it burns", entered - HOUR)
    assert not locks.over(told, entered)
    assert locks.over(told, entered + 2 * HOUR)
    assert not locks.over(told, None)


def test_history_tells_of_emergencies(proven: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """`delivery history` shows every emergency beside the changes, as table and JSON, and what it cannot know."""
    annotate(proven, "stage", now="eve@example.org 2026-11-28T12:00:00Z the database is full")
    annotate(proven, "prod", over="bob 2026-11-27T12:00:00Z a leak until 2026-11-27T12:30:00Z")
    context = proven.world.context
    document = showing.document(reading.history(context, 20))
    assert (document["schema"], len(document["changes"])) == ("delivery/history/v2", 3)
    assert document["emergencies"] == [
        {
            "environment": "stage",
            "person": "eve@example.org",
            "since": "2026-11-28T12:00:00+00:00",
            "until": None,
            "reason": "the database is full",
            "error": None,
        },
        {
            "environment": "prod",
            "person": "bob",
            "since": "2026-11-27T12:00:00+00:00",
            "until": "2026-11-27T12:30:00+00:00",
            "reason": "a leak",
            "error": None,
        },
    ]
    annotate(proven, "prod", over="nonsense")
    showing.print_history(reading.history(context, 20))
    out = capsys.readouterr().out
    assert "2026-11-28 12:00  stage  EMERGENCY of eve@example.org, is on: the database is full" in out
    assert "prod: emergencies are not known: an emergency that cannot be read: 'nonsense'" in out
