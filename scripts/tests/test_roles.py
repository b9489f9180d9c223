"""Who may do what in the cluster, as far as it can be known without one: e2e/test_roles.py tries each of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from delivery import pipeline as pipelines
from delivery import roles
from delivery.desired import derived, kinds, policy
from delivery.desired.derived import Seen
from delivery.errors import BadInput
from delivery.parts import emergency, programs
from delivery.parts import kubernetes as part
from delivery.parts.kubernetes import ClusterMissing, Kubernetes
from delivery.pipeline import Pipeline
from delivery.site import Place
from e2e.suites import target as targets
from e2e.suites.target import Target
from scripts.tests.fake_cluster import CONTEXT, kubeconfig
from scripts.tests.world import ROOT

if TYPE_CHECKING:
    from scripts.tests.world import World

PIPELINE = pipelines.load(ROOT)
EVERYWHERE = [*(one.namespace for one in PIPELINE.environments), "argocd"]
Manifest = dict[str, Any]


HERE = Seen("http://git.example/app.git")


def rendered(pipeline: Pipeline = PIPELINE, argocd: Seen = HERE) -> list[Manifest]:
    """Roles and the locks on writers, for a cluster that has all namespaces."""
    namespaces = [one.namespace for one in pipeline.environments]
    return policy.writers(pipeline, argocd, [*namespaces, argocd.namespace])


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one object of that kind and name."""
    [found] = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def lock(name: str, manifests: list[Manifest] | None = None) -> Manifest:
    """The specification of one of our policies."""
    manifests = manifests or rendered()
    return dict(named(manifests, "ValidatingAdmissionPolicy", f"manual-app-{name}")["spec"])


def variable(spec: Manifest, name: str) -> str:
    """What a variable of a policy is, in one line."""
    [found] = [one["expression"] for one in spec["variables"] if one["name"] == name]
    return " ".join(found.split())


def bound(name: str, manifests: list[Manifest]) -> list[str]:
    """The namespaces in which a policy holds, by their names."""
    spec = named(manifests, "ValidatingAdmissionPolicyBinding", f"manual-app-{name}")["spec"]
    [by_name] = spec["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert (by_name["key"], by_name["operator"]) == ("kubernetes.io/metadata.name", "In")
    return list(by_name["values"])


def test_what_cannot_be_decided_is_refused() -> None:
    """Each lock fails closed, and each is bound to refuse."""
    manifests = rendered()
    policies = [one for one in manifests if one["kind"] == "ValidatingAdmissionPolicy"]
    bindings = [one["spec"] for one in manifests if one["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert [one["metadata"]["name"] for one in policies] == [one["policyName"] for one in bindings]
    assert len(policies) == 5
    assert {one["spec"]["failurePolicy"] for one in policies} == {"Fail"}
    assert all(one["validationActions"] == ["Deny"] for one in bindings)


def test_every_kind_and_every_subresource_is_locked_by_the_namespaces_name() -> None:
    """Whatever I bring into stage or prod, by whatever subresource, meets the lock; no label is a way out."""
    [rule] = lock("writers")["matchConstraints"]["resourceRules"]
    assert rule == {
        "apiGroups": ["*"],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE", "DELETE", "CONNECT"],
        "resources": ["*/*"],
        "scope": "Namespaced",
    }
    assert bound("writers", rendered()) == ["stage", "prod", "manual-app-delivery"]
    [_, exempt] = lock("writers")["matchConditions"]
    found = exempt["expression"]
    for harmless in ("/events", "events.k8s.io/events", "leases", "localsubjectaccessreviews", "eviction"):
        assert harmless in found
    assert found.count("'") == 16, "and nothing more is let past"


def test_argo_cd_brings_what_git_asks_and_no_pods() -> None:
    """Argo CD's controller writes what charts have; pods, rights, passwords and subresources are not its to bring."""
    argocd = variable(lock("writers"), "argocd")
    assert "'prod': 'system:serviceaccount:argocd:argocd-application-controller'" in argocd
    assert "variables.subresource == ''" in argocd
    for kind in ("pods", "replicasets", "secrets", "roles", "rolebindings"):
        assert f"'{kind}'" in argocd
    assert "'deployments'" not in argocd


def test_where_argo_cd_is_somebody_else() -> None:
    """Argo CD is in another cluster or namespace, or has an account of our own there: that one writes, and no other."""
    there = {"live": "system:serviceaccount:kube-system:argocd-manager"}
    text = (ROOT / "pipeline.yaml").read_text()
    adopted = text + (
        "  - name: acme\n"
        "    git: { url: https://git.example/acme/app }\n"
        "    image: { name: registry.example/acme/app }\n"
        "    argocd: { namespace: gitops }\n"
        "    controllers: ['system:serviceaccount:external-secrets:external-secrets']\n"
        "    environments:\n"
        "      stage: { context: live, destination: live }\n"
        "      prod: { context: live, destination: live, writer: argo@example.org }\n"
    )
    pipeline = pipelines.parse(adopted, ROOT)
    manifests = rendered(pipeline, derived.seen(pipeline))
    spec = lock("writers", manifests)
    assert f"'stage': '{there['live']}'" in variable(spec, "argocd")
    assert "'prod': 'argo@example.org'" in variable(spec, "argocd")
    assert variable(spec, "controller").endswith(
        "['system:serviceaccount:external-secrets:external-secrets']"
    )
    writes = {
        one["metadata"]["namespace"]: one["subjects"]
        for one in manifests
        if one["kind"] == "RoleBinding" and one["metadata"]["name"] == "manual-app-argocd"
    }
    users = {
        "dev": "system:serviceaccount:gitops:argocd-application-controller",
        "stage": there["live"],
        "prod": "argo@example.org",
    }
    group = "rbac.authorization.k8s.io"
    assert writes == {
        name: [{"apiGroup": group, "kind": "User", "name": user}] for name, user in users.items()
    }
    assert bound("applications", manifests) == bound("argocd", manifests) == ["gitops"]
    assert "system:serviceaccount:gitops:argocd-application-controller" in variable(
        lock("applications", manifests), "controller"
    )


@pytest.mark.parametrize("user", ["a'b", "a b", 'a"b', "", "a\nb"])
def test_a_user_that_would_be_read_as_something_else(user: str) -> None:
    """A name in pipeline.yaml ends no text of a policy."""
    with pytest.raises(ValueError, match=r"should match pattern"):
        Place(context="c", destination="live", writer=user)


def test_the_tester_never_comes_into_the_last_environment() -> None:
    """Neither the lock nor RBAC lets the suites into prod: no exec, no restart, no Secret."""
    manifests = rendered()
    assert "request.namespace in ['stage']" in variable(lock("writers", manifests), "tester")
    given = {
        one["metadata"]["namespace"] for one in manifests if one["metadata"]["name"] == "manual-app-tester"
    }
    assert given == {"dev", "stage"}


WRITE = {"create", "update", "patch", "delete"}


def test_argo_cd_writes_the_kinds_that_the_chart_may_bring() -> None:
    """In each environment Argo CD writes what kinds.yaml names; no Secret, no right, no pod, no subresource."""
    [allowed] = YAML(typ="safe").load((ROOT / "argocd/projects/kinds.yaml").read_text())
    rules = named(rendered(), "ClusterRole", "manual-app-argocd")["rules"]
    given = {(group, name) for one in rules for group in one["apiGroups"] for name in one["resources"]}
    assert given == {(one["group"], PLURALS[one["kind"]]) for one in allowed["value"]}
    assert {frozenset(one["verbs"]) for one in rules} == {frozenset(WRITE | {"get", "list", "watch"})}


# As the API server calls them (`kubectl api-resources`).
PLURALS = {
    "ConfigMap": "configmaps",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "Job": "jobs",
    "NetworkPolicy": "networkpolicies",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "Ingress": "ingresses",
    "Endpoints": "endpoints",
}


@pytest.mark.parametrize("kind", PLURALS)
def test_a_kind_is_called_as_the_api_server_calls_it(kind: str) -> None:
    """I write a kind, as in a manifest, and RBAC is told the resource."""
    assert kinds.Kind(group="", kind=kind).resource == PLURALS[kind]


def test_argo_cd_writes_in_the_environments_and_nowhere_else() -> None:
    """Its rights to write are bound in each environment's namespace, never in the whole cluster."""
    bindings = [one for one in rendered() if one.get("roleRef", {}).get("name") == "manual-app-argocd"]
    assert {one["kind"] for one in bindings} == {"RoleBinding"}
    assert [one["metadata"]["namespace"] for one in bindings] == [
        one.namespace for one in PIPELINE.environments
    ]
    users = {who["name"] for one in bindings for who in one["subjects"]}
    assert users == {"system:serviceaccount:argocd:argocd-application-controller"}


KINDS = "- op: add\n  path: /spec/namespaceResourceWhitelist\n  value: "


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read"),
        ("", "valid tuple"),
        ("{", "flow node"),
        ("- op: remove\n", "0.op"),
        (KINDS + "[]", "0.value"),
        (KINDS + "[{ group: '*', kind: Job }]", "0.value.0.group"),
        (KINDS + "[{ group: apps, kind: '*' }]", "0.value.0.kind"),
        (KINDS + "[{ group: apps, kind: 'Job, secrets' }]", "0.value.0.kind"),
    ],
)
def test_kinds_that_are_none_are_refused(tmp_path: Path, text: str | None, says: str) -> None:
    """A file of kinds that is missing, malformed or says `*`: exit 2, and Argo CD is given nothing by guess."""
    file = tmp_path / kinds.FILE
    file.parent.mkdir(parents=True)
    if text is not None:
        file.write_text(text)
    pipeline = pipelines.parse((ROOT / "pipeline.yaml").read_text(), tmp_path)
    with pytest.raises(BadInput, match=says) as refused:
        derived.files(pipeline)
    assert refused.value.message.startswith("argocd/projects/kinds.yaml ")
    assert refused.value.hint


def granted(manifests: list[Manifest], namespace: str, subject: str) -> set[str]:
    """The roles that somebody has in a namespace."""
    return {
        one["roleRef"]["name"]
        for one in manifests
        if one["kind"] == "RoleBinding" and one["metadata"]["namespace"] == namespace
        if subject in [who["name"] for who in one["subjects"]]
    }


@pytest.mark.parametrize(
    ("who", "dev", "stage", "prod", "argocd"),
    [
        (roles.DEVELOPERS, {"view", "admin"}, {"view"}, {"view"}, {"manual-app-developer"}),
        (roles.TESTER, {"view", "manual-app-tester"}, {"view", "manual-app-tester"}, {"view"}, set()),
        (roles.DEPLOYER, *[{"view", "manual-app-deployer"}] * 3, {"manual-app-deployer"}),
        (roles.EMERGENCY, set(), {"admin"}, {"admin"}, set()),
    ],
)
def test_what_each_role_is_given(
    who: str, dev: set[str], stage: set[str], prod: set[str], argocd: set[str]
) -> None:
    """A role has these rights in each namespace, and no others."""
    found = [granted(rendered(), namespace, who) for namespace in EVERYWHERE]
    assert found == [dev, stage, prod, argocd]


def test_the_deployer_only_asks_and_moves_applications() -> None:
    """The verbs' own login reads, asks a replica by GET, patches our Applications and guarded projects, no more."""
    writes = []
    for one in rendered():
        if one["kind"] in ("Role", "ClusterRole") and one["metadata"]["name"] == "manual-app-deployer":
            for rule in one["rules"]:
                if set(rule["verbs"]) - {"get", "list", "watch"}:
                    writes.append((rule["resources"], rule["resourceNames"], rule["verbs"]))
    names = [one.application for one in PIPELINE.environments]
    guarded = [one.namespace for one in PIPELINE.environments if one.guarded]
    assert writes == [(["applications"], names, ["patch"]), (["appprojects"], guarded, ["patch"])]


def test_one_environment_guards_nothing_and_gives_nobody_too_much() -> None:
    """With dev alone there is nothing to guard: no rule without names that would mean every namespace."""
    text = (ROOT / "pipeline.yaml").read_text()
    alone = text[: text.index("  - name: stage")] + text[text.index("approvers: #") :]
    for port in (8082, 18082):
        alone = alone.replace(f", stage: {port}, prod: {port + 1}", "")
    manifests = rendered(pipelines.parse(alone, ROOT))
    assert bound("writers", manifests) == ["manual-app-delivery"]
    assert not [one for one in manifests if "emergency" in one["metadata"]["name"]]
    assert all(rule.get("resourceNames", ["some"]) for one in manifests for rule in one.get("rules", []))


def told(**annotations: str) -> Manifest:
    """A namespace with these annotations of delivery/."""
    return {"metadata": {"annotations": {f"delivery/{key}": text for key, text in annotations.items()}}}


def test_what_a_namespace_tells_of_emergencies() -> None:
    """Who opened prod, when, why and until when; the one that is on comes last and has no end."""
    over = (
        "eve@example.org 2026-11-28T12:00:00Z the disk is full until 2026-11-28T13:00:00Z\n"
        "bob 2026-11-29T12:00:00Z waited until noon until 2026-11-29T13:00:00Z"
    )
    first, second, now = emergency.of(
        told(emergencies=over, emergency="eve@example.org 2026-11-30T01:02:03Z again")
    )
    assert (first.person, first.reason) == ("eve@example.org", "the disk is full")
    assert first.until == datetime(2026, 11, 28, 13, tzinfo=UTC)
    assert second.reason == "waited until noon"
    assert (now.since, now.until) == (datetime(2026, 11, 30, 1, 2, 3, tzinfo=UTC), None)
    assert "\n".join(map(str, (first, second))) == over
    assert emergency.of({"metadata": {}}) == ()


@pytest.mark.parametrize(
    "text", ["", "yes", "eve 2026-11-30 x", "eve 2026-13-41T01:02:03Z x", "eve 2026-11-30T01:02:03Z  "]
)
def test_an_emergency_that_says_nothing_is_not_read_over(text: str) -> None:
    """An annotation that is there and cannot be read is no sign that all is well."""
    with pytest.raises(ValueError, match=r"emergency|time data"):
        emergency.of(told(emergency=text))


def test_the_suites_look_inside_as_the_tester(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite's kubectl has the tester's context where the site names one, else the environment's own."""
    asked = []

    def run(command: list[str], **_: Any) -> Any:
        asked.append(next(one for one in command if str(one).startswith("--context=")))
        return type("Done", (), {"returncode": 0, "stdout": ""})

    monkeypatch.setattr(targets.subprocess, "run", run)
    monkeypatch.setattr(programs, "path", Path)
    url = "http://dev.example"
    for place in (Place(context="c", tester="t", url=url), Place(context="c", url=url)):
        there = world.on(environments={"dev": place}).context
        Target(there, there.environment("dev")).kubectl("get", "pods")
    assert asked == ["--context=t", "--context=c"]


def token(end: datetime) -> str:
    """A ServiceAccount's token that ends then; nobody signed it."""
    body = base64.urlsafe_b64encode(json.dumps({"exp": end.timestamp()}).encode()).decode().rstrip("=")
    return f"e30.{body}.c2ln"


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (token(datetime(2020, 1, 2, 3, tzinfo=UTC)), "whose token was over on 2020-01-02"),
        (token(datetime(2120, 1, 2, 3, tzinfo=UTC)), "whose token is no longer good"),
        ("nonsense", "whose token is no longer good"),
    ],
)
def test_a_token_that_is_not_taken_is_named(
    world: World, refusing: Callable[[str], None], token: str, says: str
) -> None:
    """The deployer's token is over, or of another cluster: exit 4, and I read whose it is and since when."""
    refusing(token)
    kubernetes = Kubernetes(world.context.site, "dev")
    with pytest.raises(ClusterMissing) as refused:
        kubernetes.pods("dev")
    kubernetes.close()
    assert f"does not take the login of context {CONTEXT}, {says}" in refused.value.message
    assert refused.value.hint == "see environments of team in pipeline.yaml"


@pytest.fixture
def refusing(world: World) -> Any:
    """An API server that takes no token; called with the one that the kubeconfig has."""
    from delivery.files import write_private
    from scripts.tests.fake_cluster import Answering, serving

    class Closed(Answering):
        def do_GET(self) -> None:
            self.write(401, b'{"kind": "Status", "message": "Unauthorized", "code": 401}')

    with serving(Closed) as port:

        def give(token: str) -> None:
            file = world.context.site.kubeconfig
            assert file
            text = kubeconfig(CONTEXT, f"http://127.0.0.1:{port}")
            write_private(file, text.replace("token: t", f"token: {token}"))

        yield give


def test_a_kubeconfig_that_others_read_is_not_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The roles' tokens of a local site are for their owner alone: else exit 4, and nobody is asked anything."""
    monkeypatch.setattr(part, "ApiClient", lambda *arguments: pytest.fail("somebody was asked"))
    file = world.context.site.kubeconfig
    assert file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(kubeconfig(CONTEXT, "https://127.0.0.1:1"))
    file.chmod(0o644)
    with pytest.raises(ClusterMissing, match=f"the login of {CONTEXT}, can be read by others") as refused:
        Kubernetes(world.on(made_here=True).context.site, "dev")
    assert refused.value.hint == f"make it yours alone: chmod 600 {file}"
