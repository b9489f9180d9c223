"""What follows from pipeline.yaml is in Git as it must be, and an environment more or less is one line there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from delivery import pipeline as pipelines
from delivery.desired import derived, policy
from delivery.errors import Refused
from delivery.parts import openpgp
from delivery.pipeline import Pipeline

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = pipelines.load(ROOT)
STRATEGIES = ("manual-promotion", "release-branch")
NAMES = [environment.name for environment in PIPELINE.environments]
FILES = derived.files(PIPELINE)
REPOSITORY = derived.seen(PIPELINE).git_url

Manifest = dict[str, Any]
Kustomize = Callable[[Path], dict[str, Manifest]]


def checkout(folder: Path, pipeline: Pipeline = PIPELINE) -> Path:
    """A folder with everything that follows, and what stands beside it by hand."""
    for path in (
        *(f"argocd/{strategy}/kustomization.yaml" for strategy in STRATEGIES),
        "argocd/projects/kinds.yaml",
    ):
        derived.write(folder, {path: derived.read(ROOT, path)})
    derived.write(folder, derived.stale(folder, derived.files(pipeline)))
    return folder


def test_what_is_in_git_is_what_pipeline_says() -> None:
    """`make lint` has nothing to say: no file is stale, none is missing, none is left over."""
    derived.check(ROOT, FILES)


def test_a_stale_file_is_named(tmp_path: Path) -> None:
    """A file that somebody edited, that is missing or that is left over: refused by name, and mended by generate."""
    checkout(tmp_path)
    (tmp_path / "argocd/base/manual-app-prod.yaml").write_text("kind: Application\n")
    (tmp_path / "policy/namespaces.yaml").unlink()
    (tmp_path / "argocd/base/manual-app-qa.yaml").write_text(FILES["argocd/base/manual-app-dev.yaml"])
    (tmp_path / "argocd/base/monitoring.yaml").write_text("# ours\nkind: Application\n")
    with pytest.raises(Refused) as refused:
        derived.check(tmp_path, FILES)
    assert refused.value.message == (
        "not as pipeline.yaml says: argocd/base/manual-app-prod.yaml, argocd/base/manual-app-qa.yaml, "
        "policy/namespaces.yaml"
    )
    assert "delivery generate" in refused.value.hint
    derived.write(tmp_path, derived.stale(tmp_path, FILES))
    derived.check(tmp_path, FILES)
    assert not (tmp_path / "argocd/base/manual-app-qa.yaml").exists()
    assert (tmp_path / "argocd/base/monitoring.yaml").exists(), "a file of somebody's own stays"


def test_another_kind_is_another_right(tmp_path: Path) -> None:
    """A kind more in kinds.yaml, and `make lint` says that Argo CD's rights are stale; generate mends them."""
    pipeline = pipelines.parse((ROOT / "pipeline.yaml").read_text(), tmp_path)
    checkout(tmp_path, pipeline)
    file = tmp_path / "argocd/projects/kinds.yaml"
    file.write_text(f"{file.read_text()}    - {{ group: networking.k8s.io, kind: Ingress }}\n")
    with pytest.raises(Refused, match=r"^not as pipeline.yaml says: policy/roles.yaml$"):
        derived.check(tmp_path, derived.files(pipeline))
    derived.write(tmp_path, derived.stale(tmp_path, derived.files(pipeline)))
    assert "[ingresses, networkpolicies]" in (tmp_path / "policy/roles.yaml").read_text()


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    """When one file cannot be written, those before it are as they were."""
    checkout(tmp_path)
    (tmp_path / "a file").write_text("")
    path = "argocd/base/manual-app-dev.yaml"
    with pytest.raises(OSError, match="a file"):
        derived.write(tmp_path, {path: "changed", "policy/namespaces.yaml": None, "a file/below": "x"})
    derived.check(tmp_path, FILES)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_application_is_what_pipeline_says(kustomize: Kustomize, strategy: str) -> None:
    """Project, namespace and values file of each environment; retries are bounded, nothing takes it down."""
    found = kustomize(ROOT / "argocd" / strategy)
    assert list(found) == sorted(environment.application for environment in PIPELINE.environments)
    for environment in PIPELINE.environments:
        application = found[environment.application]
        metadata = {one: value for one, value in application["metadata"].items() if one != "annotations"}
        assert metadata == {"name": environment.application, "namespace": "argocd"}
        spec, source = application["spec"], application["spec"]["source"]
        assert (spec["project"], spec["destination"]["namespace"]) == (environment.namespace,) * 2
        assert source["repoURL"] == REPOSITORY
        assert source["helm"]["releaseName"] == PIPELINE.chart.release
        assert [f"{source['path']}/{file}" for file in source["helm"]["valueFiles"]] == [environment.values]
        assert 0 < spec["syncPolicy"]["retry"]["limit"] <= 5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_drift_heals_everywhere(kustomize: Kustomize, strategy: str) -> None:
    """Each Application prunes and heals itself; a retry takes a newer commit only where the branch is followed."""
    found = kustomize(ROOT / "argocd" / strategy)
    for environment in PIPELINE.environments:
        policy = found[environment.application]["spec"]["syncPolicy"]
        assert policy["automated"] == {"prune": True, "selfHeal": True}
        assert policy["retry"].get("refresh", False) is not environment.guarded


def test_strategies_differ_in_their_name_only(kustomize: Kustomize) -> None:
    """Applying the other strategy renames it in each Application, and changes no pin: nothing restarts."""
    one, other = (kustomize(ROOT / "argocd" / strategy) for strategy in STRATEGIES)
    named = [
        tuple(found[e.application]["metadata"].pop("annotations") for found in (one, other))
        for e in PIPELINE.environments
    ]
    assert one == other
    assert named == [tuple({"delivery/strategy": strategy} for strategy in STRATEGIES)] * len(named)
    told = [one[e.application]["spec"]["source"].get("targetRevision") for e in PIPELINE.environments]
    assert told == ["main", None, None], "the pins are Argo CD's to keep"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_line_says_which_strategy(tmp_path: Path, kustomize: Kustomize, strategy: str) -> None:
    """`strategy:` in pipeline.yaml, `delivery generate`, and `kubectl apply -k argocd` brings its Applications."""
    text = (ROOT / "pipeline.yaml").read_text().replace("strategy: manual-promotion", f"strategy: {strategy}")
    checkout(tmp_path, pipelines.parse(text, tmp_path))
    found = kustomize(tmp_path / "argocd")
    assert {one["metadata"]["annotations"]["delivery/strategy"] for one in found.values()} == {strategy}


def test_each_project_allows_our_repository_into_its_namespace(kustomize: Kustomize) -> None:
    """One project for each environment: one repository, one namespace, no kind of the whole cluster, no password."""
    found = kustomize(ROOT / "argocd" / "projects")
    assert list(found) == sorted(NAMES)
    for environment in PIPELINE.environments:
        spec = found[environment.namespace]["spec"]
        assert spec["sourceRepos"] == [REPOSITORY]
        assert [one["namespace"] for one in spec["destinations"]] == [environment.namespace]
        assert spec["clusterResourceWhitelist"] == []
        kinds = {kind["kind"] for kind in spec["namespaceResourceWhitelist"]}
        assert "Deployment" in kinds
        assert not kinds & {"Secret", "Role", "RoleBinding"}


def test_a_project_takes_what_its_gate_signed(tmp_path: Path) -> None:
    """Each guarded environment's project names the key of its own gate; without a key no commit is good enough."""
    _, certificate = openpgp.generate("gate-prod <gate-prod@example.test>")
    key = openpgp.signing_key_id(certificate)
    made = derived.files(PIPELINE, derived.Seen(REPOSITORY, commit_keys={"prod": key}))
    asked = {}
    for environment in PIPELINE.environments:
        spec = YAML(typ="safe").load(made[f"argocd/projects/{environment.name}.yaml"])["spec"]
        if environment.guarded:
            [policy] = spec["sourceIntegrity"]["git"]["policies"]
            assert policy["repos"] == [{"url": "*"}]
            asked[environment.name] = policy["gpg"]
        else:
            assert "sourceIntegrity" not in spec
    assert asked == {
        "stage": {"mode": "head", "keys": [derived.UNSET]},
        "prod": {"mode": "head", "keys": [key]},
    }


def test_a_freeze_is_a_sync_window() -> None:
    """Each freeze of pipeline.yaml stands in its project: Argo CD denies every sync then, by hand too."""
    text = (ROOT / "pipeline.yaml").read_text()
    freeze = (
        '[{ from: "0  16 * * FRI", zone: Europe/Berlin, hours: 64, reason: "the weekend: nobody is here" }]'
    )
    frozen = pipelines.parse(text.replace("freeze: []", f"freeze: {freeze}"), ROOT)
    made = derived.files(frozen)
    windows = {
        one.name: YAML(typ="safe").load(made[f"argocd/projects/{one.name}.yaml"])["spec"].get("syncWindows")
        for one in frozen.environments
    }
    assert windows == {
        "dev": None,
        "stage": [],
        "prod": [
            {
                "kind": "deny",
                "schedule": "0 16 * * FRI",
                "timeZone": "Europe/Berlin",
                "duration": "64h",
                "applications": ["manual-app-prod"],
                "manualSync": False,
                "description": "the weekend: nobody is here",
            }
        ],
    }


def test_two_apps_live_in_one_cluster() -> None:
    """Another team's app came from the same template: no project, no policy and no namespace of ours has its name."""
    text, name = (ROOT / "pipeline.yaml").read_text(), PIPELINE.chart.release
    for environment in PIPELINE.environments:
        text = text.replace(f"namespace: {environment.namespace}\n", f"namespace: two-{environment.name}\n")
    theirs = pipelines.parse(text.replace(name, f"{name}-two"), ROOT)
    ours, other = (_called(pipeline) for pipeline in (PIPELINE, theirs))
    assert len(ours) == len(other)
    assert ours & other == {("Namespace", "", "argocd")}


def _called(pipeline: Pipeline) -> set[tuple[str, str, str]]:
    """Kind, namespace and name of every object that follows."""
    yaml = YAML(typ="safe", pure=True)
    texts = [
        text
        for path, text in derived.files(pipeline).items()
        if "kustomization" not in path and path not in (derived.DELIVER, derived.JENKINS)
    ]
    objects = [one for text in texts for one in yaml.load_all(text)]
    objects += policy.pinned_images(pipeline, "registry.example/app", [])
    return {(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in objects}


def test_one_environment_more(tmp_path: Path, kustomize: Kustomize) -> None:
    """One more environment in pipeline.yaml, and there is an Application, a project, a namespace for it, guarded."""
    text = (ROOT / "pipeline.yaml").read_text()
    block = text[text.index("  - name: stage") : text.index("  - name: prod")]
    ports = text.replace("prod: 8083", "prod: 8083, live: 8084").replace(
        "prod: 18083", "prod: 18083, live: 18084"
    )
    ports = ports.replace("approvers: #", block.replace("stage", "live") + "approvers: #")
    checkout(tmp_path, pipelines.parse(ports, tmp_path))
    for strategy in STRATEGIES:
        found = kustomize(tmp_path / "argocd" / strategy)
        assert list(found) == [f"manual-app-{name}" for name in ("dev", "live", "prod", "stage")]
        assert found["manual-app-live"]["spec"]["source"].get("targetRevision") is None
    assert list(kustomize(tmp_path / "argocd/projects")) == ["dev", "live", "prod", "stage"]
    text = (tmp_path / "policy/namespaces.yaml").read_text()
    labels = {
        one["metadata"]["name"]: one["metadata"].get("labels", {}) for one in YAML(typ="safe").load_all(text)
    }
    asked = [name for name, own in labels.items() if own.get("policy.sigstore.dev/include") == "true"]
    assert asked == ["stage", "prod", "live"]
    roles = list(YAML(typ="safe").load_all((tmp_path / "policy/roles.yaml").read_text()))
    written = [
        one["metadata"]["namespace"]
        for one in roles
        if one.get("roleRef", {}).get("name") == "manual-app-argocd"
    ]
    assert written == ["dev", "stage", "prod", "live"], "Argo CD may write there"
    assert '"live": "prod",' in (tmp_path / "policy/evidence.yaml").read_text()


@pytest.mark.parametrize("name", ["no", "on", "null", "1e3", "0"])
def test_a_name_that_yaml_reads_as_something_else(tmp_path: Path, name: str) -> None:
    """An environment cannot be called `no`: the manifests would hold false, or a number, in its place."""
    text = (ROOT / "pipeline.yaml").read_text().replace("name: stage", f"name: '{name}'")
    with pytest.raises(pipelines.BadInput, match="is no name"):
        pipelines.parse(text, tmp_path)


@pytest.mark.parametrize("namespace", ["argocd", "cosign-system", "kube-system", "default"])
def test_a_namespace_that_is_taken(tmp_path: Path, namespace: str) -> None:
    """An environment cannot live in a namespace of Kubernetes or of the platform."""
    text = (ROOT / "pipeline.yaml").read_text().replace("namespace: stage", f"namespace: {namespace}")
    with pytest.raises(pipelines.BadInput, match="belongs to"):
        pipelines.parse(text, tmp_path)
