"""What admission promises, as far as it can be known without a cluster."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from delivery import pipeline as pipelines
from delivery.build import provenance
from delivery.context import Context
from delivery.desired import derived, policy
from delivery.desired.derived import Seen
from delivery.errors import BadInput, PlatformError, Refused
from delivery.parts import openpgp, programs
from delivery.parts.admission import refusal
from delivery.signed import keys as signers
from delivery.signed import statements
from delivery.site import ArgoCD, CommitKey, GitServer, ImageRepository, Place, Signer, Site
from delivery.verbs import policy as policies

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "policy"
REPOSITORY = "registry.local:5000/manual-app"
PLATFORM = [f"registry.local:5000/platform/{name}@sha256:{name * 64}" for name in "ab"]
KEY = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"
KEYS = {
    **{"build": "the build's", "dev": "dev's", "stage": KEY},
    **{
        "entry.stage": "stage's gate's",
        "entry.prod": "prod's gate's",
        "approval.prod.approver": "the approver's",
    },
}
SEEN = Seen("https://git.example/team/shop.git")
DIGEST = f"sha256:{'d' * 64}"

# Every resource of Kubernetes that is a pod or has a pod template, and the way of kubectl debug.
PODS = {
    "": {"pods", "pods/ephemeralcontainers", "podtemplates", "replicationcontrollers"},
    "apps": {"daemonsets", "deployments", "replicasets", "statefulsets"},
    "batch": {"cronjobs", "jobs"},
}


def load(file: Path) -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all(file.read_text(encoding="utf-8")))


def site(stage: Path) -> Site:
    """A site that `delivery up` made, with stage's public key in this file."""
    git, image = GitServer(url="http://localhost:3000/manual-app.git"), ImageRepository(name=REPOSITORY)
    signers = {name: Signer(public=stage) for name in ("build", "dev", "stage", "approver")}
    for name in ("gate-stage", "gate-prod"):
        commits = CommitKey(public=stage.with_name("gate.asc"))
        signers[name] = Signer(public=stage, commits=commits)
    return Site(name="local", git=git, image=image, signers=signers, made_here=True)


def resources(rules: list[dict[str, Any]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for rule in rules:
        for group in rule["apiGroups"]:
            found.setdefault(group, set()).update(rule["resources"])
    return found


def authorities(keys: dict[str, str]) -> dict[str, policy.Authority]:
    """Each with a place of its own."""
    return {name: policy.Authority(key, f"registry.localhost:5000/of-{name}") for name, key in keys.items()}


@pytest.fixture
def pinned() -> list[dict[str, Any]]:
    return policy.pinned_images(pipelines.load(ROOT), REPOSITORY, PLATFORM)


@pytest.fixture
def evidence() -> list[dict[str, Any]]:
    return policy.evidence(pipelines.load(ROOT), SEEN, REPOSITORY, PLATFORM, authorities(KEYS))


def test_the_lists_are_exactly_those_of_this_cluster(pinned: list[dict[str, Any]]) -> None:
    """The app's repository and the platform's images of this cluster pass: these, and nothing else."""
    expressions = {v["name"]: v["expression"] for v in pinned[0]["spec"]["variables"]}
    assert expressions["repository"] == f'"{REPOSITORY}"'
    assert expressions["platform"] == '["' + '", "'.join(PLATFORM) + '"]'


def test_no_kind_is_a_way_around(pinned: list[dict[str, Any]]) -> None:
    """Pods and all that makes pods are asked, when made and when changed, in whatever version of the API."""
    rules = pinned[0]["spec"]["matchConstraints"]["resourceRules"]
    assert resources(rules) == PODS
    assert all(set(rule["operations"]) == {"CREATE", "UPDATE"} for rule in rules)
    assert all(rule["apiVersions"] == ["*"] for rule in rules)


def test_every_list_of_containers_is_read(pinned: list[dict[str, Any]]) -> None:
    """Nobody hides an image among init or ephemeral containers, or in a volume."""
    spec = pinned[0]["spec"]
    images = next(v["expression"] for v in spec["variables"] if v["name"] == "images")
    assert all(f"?{field}" in images for field in ("containers", "initContainers", "ephemeralContainers"))
    assert any("volume.image" in validation["expression"] for validation in spec["validations"])


def test_absence_refuses(pinned: list[dict[str, Any]]) -> None:
    """A policy that cannot decide, and a policy-controller that does not answer, refuse."""
    policies = [m for m in pinned if m["kind"] == "ValidatingAdmissionPolicy"]
    bindings = {m["spec"]["policyName"]: m["spec"] for m in pinned if m["kind"].endswith("Binding")}
    assert all(policy["spec"]["failurePolicy"] == "Fail" for policy in policies)
    assert set(bindings) == {policy["metadata"]["name"] for policy in policies}
    assert all(binding["validationActions"] == ["Deny"] for binding in bindings.values())
    (webhook,) = load(FOLDER / "policy-controller" / "validating-webhook.yaml")[0]["webhooks"]
    assert webhook["failurePolicy"] == "Fail"
    wanted = {group: names - {"podtemplates", "replicationcontrollers"} for group, names in PODS.items()}
    assert resources(webhook["rules"]) == wanted, "the rules hold before the controller has written its own"
    assert load(FOLDER / "policy-controller" / "config.yaml")[0]["data"] == {"no-match-policy": "deny"}


def test_a_tag_is_never_turned_into_a_digest() -> None:
    """A tag is refused; nothing replaces it by a digest before the policies look."""
    (webhook,) = load(FOLDER / "policy-controller" / "mutating-webhook.yaml")[0]["webhooks"]
    assert [condition["expression"] for condition in webhook["matchConditions"]] == ["false"]


def test_stage_and_prod_are_guarded(pinned: list[dict[str, Any]]) -> None:
    """stage and prod are bound by their names, dev is not; only policy-controller goes by a label."""
    labels = {
        m["metadata"]["name"]: m["metadata"].get("labels", {}) for m in load(ROOT / "policy/namespaces.yaml")
    }
    asked = [name for name, own in labels.items() if own.get("policy.sigstore.dev/include") == "true"]
    assert asked == ["stage", "prod"]
    [by_name] = pinned[1]["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert by_name == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["stage", "prod"]}


def test_each_statement_counts_by_its_own_key_alone(evidence: list[dict[str, Any]]) -> None:
    """The app needs provenance, test-result, entry and approval, each by its key; the platform passes by reference."""
    app, platform = (policy["spec"] for policy in evidence)
    assert app["images"] == [{"glob": f"{REPOSITORY}@sha256:*"}]
    assert {one["name"]: one["key"]["data"] for one in app["authorities"]} == KEYS
    kinds = [one["predicateType"] for by in app["authorities"] for one in by["attestations"]]
    assert kinds == [
        statements.PROVENANCE,
        *(statements.TEST_RESULT, statements.TEST_RESULT),
        *(statements.ENTRY, statements.ENTRY, statements.APPROVAL),
    ]
    by_name = {one["name"]: one for one in app["authorities"]}
    for name in ("dev", "stage"):
        (attestation,) = by_name[name]["attestations"]
        assert attestation["predicateType"] == statements.TEST_RESULT
        assert f'["PASSED", "{name}"]' in attestation["policy"]["data"]
    places = {one["name"]: one["source"] for one in app["authorities"]}
    assert places == {name: [{"oci": f"registry.localhost:5000/of-{name}"}] for name in KEYS}
    assert platform["images"] == [{"glob": reference} for reference in PLATFORM]
    assert [policy["spec"]["mode"] for policy in evidence] == ["enforce", "enforce"]


@pytest.mark.parametrize(
    ("stage", "asked", "sources"),
    [
        ("tested", set(KEYS), '"stage": "dev",\n    "prod": "stage",'),
        ("pinned", set(KEYS) - {"dev", "entry.stage"}, 'sources := {\n    "prod": "stage",\n}'),
    ],
)
def test_every_namespace_asks_for_its_own_source(stage: str, asked: set[str], sources: str) -> None:
    """Where two environments ask for evidence, each believes the one before it: not both, and not any. One that takes
    whatever is pinned asks for none.
    """
    text = (ROOT / "pipeline.yaml").read_text().replace("admits: tested", f"admits: {stage}", 1)
    pipeline = pipelines.parse(text, ROOT)
    app, *others = policy.evidence(pipeline, SEEN, REPOSITORY, (), authorities(KEYS))
    assert not others, "nothing but the app runs there"
    keys = {one["name"]: one["key"]["data"] for one in app["spec"]["authorities"]}
    assert keys == {name: KEYS[name] for name in asked}
    assert set(derived.authorities(pipeline)) == asked
    whole = app["spec"]["policy"]
    assert whole["includeObjectMeta"] is True
    assert sources in whole["data"]
    assert 'not signed("build")' in whole["data"], "whatever the namespace"


@pytest.mark.parametrize("url", [SEEN.git_url, 'ssh://git@git.example/a%20b"c\\.git'])
def test_the_provenance_is_that_of_our_own_build(tmp_path: Path, url: str) -> None:
    """What the build states is what the cluster asks for: the same builder, and this site's own Git repository."""
    pipeline, ours = pipelines.load(ROOT), site(tmp_path / "stage.pub")
    context = Context(pipeline, ours.model_copy(update={"git": GitServer(url=url)}))
    made = provenance.provenance(context, "c" * 40, {}, {}, "", "")
    app, *_ = policy.evidence(pipeline, derived.of(pipeline, context.site), REPOSITORY, (), authorities(KEYS))
    (asked,) = (one["attestations"] for one in app["spec"]["authorities"] if one["name"] == "build")
    rego = asked[0]["policy"]["data"]
    (expected,) = re.findall(r"ours := (.*)", rego)
    assert made["buildDefinition"]["externalParameters"]["source"] == f"{json.loads(expected)}@{'c' * 40}"
    assert f'== ["{made["runDetails"]["builder"]["id"]}", true]' in rego


def test_a_statement_that_lacks_a_field_is_not_believed(evidence: list[dict[str, Any]]) -> None:
    """Evidence that does not say its result is refused: CUE would take the missing field for a good one."""
    asked = [one["attestations"][0]["policy"] for one in evidence[0]["spec"]["authorities"]]
    for rule in (*asked, evidence[0]["spec"]["policy"]):
        assert rule["type"] == "rego"
        assert "input." not in rule["data"], "only by object.get, which says what stands for a missing field"


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n", b"\xff"])
def test_without_stages_public_key_nothing_is_installed(tmp_path: Path, content: bytes | None) -> None:
    """A key file that is missing, empty or no public key is an error; a private key stays where it is."""
    file = tmp_path / "stage.pub"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(PlatformError, match=r"stage\.pub") as caught:
        signers.authorities(Context(pipelines.load(ROOT), site(file)))
    assert caught.value.hint == "make it again: delivery up"


def test_what_was_not_filled_in_is_not_applied(tmp_path: Path) -> None:
    """A manifest that still says set-by-policy is an error, never a policy that refuses or admits by accident."""
    shutil.copytree(FOLDER, tmp_path / "policy")
    file = tmp_path / policy.PINNED
    file.write_text(file.read_text().replace("name: platform\n", "name: others\n"))
    text = (ROOT / "pipeline.yaml").read_text()
    with pytest.raises(BadInput, match="set-by-policy"):
        policy.pinned_images(pipelines.parse(text, tmp_path), REPOSITORY, PLATFORM)


def test_a_stale_policy_is_not_applied(tmp_path: Path) -> None:
    """I change whose evidence counts and forget to generate: nothing is applied, and I am told what is stale."""
    shutil.copytree(FOLDER, tmp_path / "policy")
    text = (ROOT / "pipeline.yaml").read_text()
    policy.check(pipelines.parse(text, ROOT), tmp_path)
    pipeline = pipelines.parse(text.replace("admits: tested", "admits: pinned", 1), ROOT)
    with pytest.raises(Refused, match=r"evidence\.yaml.*namespaces\.yaml") as caught:
        policy.check(pipeline, tmp_path)
    assert "delivery generate" in caught.value.hint


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Callable[[str], Path]) -> Context:
    """A checkout whose chart names pinned images beside the app, and a site with keys."""
    monkeypatch.setattr(programs, "path", program)
    for folder in ("argocd", "policy", "manual-app-helm"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    file = tmp_path / "manual-app-helm/values.yaml"
    file.write_text(re.sub(r"set-by-up|sha256:[0-9a-f]{64}", DIGEST, file.read_text()))  # `up` writes others
    (tmp_path / "stage.pub").write_text(KEY)
    (tmp_path / "gate.asc").write_text(openpgp.generate("gate <gate@example.test>")[1])
    return Context(
        pipelines.parse((ROOT / "pipeline.yaml").read_text(), tmp_path), site(tmp_path / "stage.pub")
    )


def test_policies_for_a_cluster_of_our_own(ours: Context) -> None:
    """`delivery policy | kubectl apply -f -`: namespaces and policies, for our keys and for what our chart runs."""
    side_car = f"ghcr.io/acme/proxy@{DIGEST}"
    found = list(YAML(typ="safe").load_all(policies.run(ours, [side_car])))
    assert [one["kind"] for one in found].count("Namespace") == 5
    (pinned,) = (
        one
        for one in found
        if one["metadata"]["name"] == "manual-app-pinned-images" and "variables" in one["spec"]
    )
    (allowed,) = (one["expression"] for one in pinned["spec"]["variables"] if one["name"] == "platform")
    beside = [f"registry.local:5000/platform/{name}@{DIGEST}" for name in ("postgresql", "python")]
    assert json.loads(allowed) == sorted([*beside, side_car])
    app, others = (one["spec"] for one in found if one["kind"] == "ClusterImagePolicy")
    assert all(one["key"]["data"] == KEY for one in app["authorities"])
    places = {one["name"]: one["source"][0]["oci"] for one in app["authorities"]}
    assert places == {
        "build": f"{REPOSITORY}/build",
        "dev": f"{REPOSITORY}/dev",
        "stage": f"{REPOSITORY}/stage",
        "entry.stage": f"{REPOSITORY}/gate-stage",
        "entry.prod": f"{REPOSITORY}/gate-prod",
        "approval.prod.approver": f"{REPOSITORY}/approver",
    }
    assert [one["glob"] for one in others["images"]] == sorted([*beside, side_car])


def test_each_cluster_gets_its_own_namespaces(ours: Context) -> None:
    """prod is in a cluster of its own: `delivery policy --context` prints for each what is there, and what all need."""
    places = {one.name: Place(context="live" if one.name == "prod" else "test") for one in ours.environments}
    site = ours.site.model_copy(update={"environments": places, "argocd": ArgoCD(context="test")})
    apart = Context(ours.pipeline, site)
    home = "manual-app-delivery"
    for cluster, namespaces in (("test", {"dev", "stage", "argocd", home}), ("live", {"prod", home})):
        found = list(YAML(typ="safe").load_all(policies.run(apart, cluster=cluster)))
        assert {one["metadata"]["name"] for one in found if one["kind"] == "Namespace"} == namespaces
        assert [one["kind"] for one in found].count("ClusterImagePolicy") == 2
        rights = {one["metadata"]["namespace"] for one in found if one["kind"] in ("Role", "RoleBinding")}
        assert rights == namespaces
    with pytest.raises(BadInput, match="has no environment in context nowhere") as caught:
        policies.run(apart, cluster="nowhere")
    assert "test, live" in caught.value.hint


def test_an_image_that_is_not_pinned_is_never_allowed(ours: Context) -> None:
    """A chart that runs an image by its tag in a guarded environment: an error, and no policy that lets it in."""
    template = ours.checkout / "manual-app-helm/templates/deployment.yaml"
    loose = "containers:\n        - { name: x, image: busybox }"
    template.write_text(template.read_text().replace("containers:", loose, 1))
    with pytest.raises(BadInput, match="the chart runs busybox in a guarded environment"):
        policies.run(ours)


HEAD = (
    'admission webhook "policy.sigstore.dev" denied the request: validation failed: failed policy: tested: '
)
IMAGE = f"spec.template.spec.containers[0].image\n{REPOSITORY}@{DIGEST} "
ASKED = "policy is not compliant for query 'x' with errors: namespace stage asks for evidence of "
KEYED = f"{HEAD}{IMAGE}attestation key validation failed for authority stage for {REPOSITORY}@{DIGEST}: "


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (f"{KEYED}no matching attestations: ", "there is no evidence about it"),
        (
            f"{KEYED}no matching attestations:\naccepted signatures do not match threshold, Found: 0",
            "there is no evidence about it that stage's key signed",
        ),
        (
            f"{KEYED}no matching attestations:\nno matching subject digest found",
            "the evidence that hangs on it is about another digest",
        ),
        (
            f"{HEAD}{IMAGE}failed evaluating rego policy for type test-result: policy is not compliant for "
            "query 'isCompliant = data.sigstore.isCompliant' with errors: "
            "the evidence says FAILED in stage, not PASSED in stage",
            "its evidence says FAILED in stage, not PASSED in stage",
        ),
        (
            f"{KEYED}no matching attestations:  {KEYED.replace('stage', 'dev')}no matching attestations:\n"
            "accepted signatures do not match threshold, Found: 0",
            "there is no evidence about it that stage's or dev's key signed",
        ),
        (
            f"{KEYED}no matching attestations: failed evaluating rego policy for type ClusterImagePolicy: "
            "policy is not compliant for query 'isCompliant = data.sigstore.isCompliant' with errors: "
            "namespace qa-1 asks for evidence of stage",
            "there is no evidence about it",
        ),
        (
            f"{HEAD}{IMAGE}failed evaluating rego policy for type ClusterImagePolicy: policy is not compliant "
            "for query 'isCompliant = data.sigstore.isCompliant' with errors: "
            "namespace qa asks for evidence of no environment",
            "no evidence counts in namespace qa: pipeline.yaml has no environment there",
        ),
        (
            f"{HEAD}{IMAGE}failed evaluating rego policy for type ClusterImagePolicy: policy is not compliant "
            "for query 'isCompliant = data.sigstore.isCompliant' with errors: "
            "namespace prod asks for evidence of stage; missing there: approval, entry",
            "in prod it has no approval and no entry, only evidence of stage",
        ),
        (
            f"{HEAD}{KEYED}no matching attestations:\naccepted signatures do not match threshold, Found: 0\n"
            f"{IMAGE}failed evaluating rego policy for type ClusterImagePolicy: {ASKED}dev; "
            "missing there: entry, evidence",
            "there is no evidence about it that dev's key signed",
        ),
        (
            f"{HEAD}{KEYED.replace('stage', 'build')}no matching attestations: \n{IMAGE}failed evaluating rego policy "
            f"for type ClusterImagePolicy: {ASKED}dev; missing there: provenance",
            "in stage it has no provenance, only evidence of dev",
        ),
        (
            f"{HEAD}{IMAGE}failed evaluating rego policy for type ClusterImagePolicy: {ASKED}dev; "
            "missing there: evidence, provenance",
            "in stage it has no evidence and no provenance",
        ),
        (
            f"{HEAD}{IMAGE}failed evaluating rego policy for type provenance: policy is not compliant for query x with "
            "errors: the provenance says that nobody built git+https://evil@abc, not that delivery built "
            f"git+https://ours\nfailed evaluating rego policy for type ClusterImagePolicy: {ASKED}dev; "
            "missing there: provenance",
            "its provenance says that nobody built git+https://evil@abc, not that delivery built git+https://ours",
        ),
        (f"{KEYED}the registry is away", f"the cluster refused {DIGEST}: the registry is away"),
        (
            "pods is forbidden: ValidatingAdmissionPolicy 'pinned-images' with binding 'pinned-images' "
            'denied request: image "nginx:1.27" is refused in prod: only this and that may run here',
            'image "nginx:1.27" is refused in prod: only this and that may run here',
        ),
        (
            'Internal error occurred: failed calling webhook "policy.sigstore.dev": failed to call webhook',
            "policy-controller does not answer",
        ),
    ],
)
def test_a_refusal_is_one_line_and_a_hint(message: str, said: str) -> None:
    """Whatever kubectl or Argo CD reports of a refusal, I read which image, why, and what to do."""
    found = refusal(f"one or more objects failed to apply, reason: {message}")
    assert found
    line, hint = found
    assert said in line
    assert "\n" not in line
    assert hint


@pytest.mark.parametrize(
    ("missing", "hint"),
    [
        ("provenance", "delivery build"),
        ("evidence, provenance", "delivery build"),
        ("evidence", "delivery test dev"),
        ("entry", "delivery test dev"),
    ],
)
def test_the_hint_is_the_way_in(missing: str, hint: str) -> None:
    """What was not built by delivery is to be built, and what was not tested is to be tested where it comes from."""
    found = refusal(f"{KEYED.replace('stage', 'build')}: {ASKED}dev; missing there: {missing}")
    assert found
    assert found[1].endswith(hint)


def test_other_errors_are_left_alone() -> None:
    """An error that is not admission's keeps its own words."""
    assert refusal('deployments.apps "manual-app" not found') is None
