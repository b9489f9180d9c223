"""The live Application is the one that `delivery generate` writes: whatever somebody put in between is named."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest

from delivery import pipeline as pipelines
from delivery.desired import derived
from delivery.proof import overrides
from delivery.proof.findings import Findings
from scripts.tests import recordings
from scripts.tests.world import ROOT

Object = dict[str, Any]
PIPELINE = pipelines.load(ROOT)
PROD = PIPELINE.environment("prod")
ASKED = derived.application(PIPELINE, PROD, derived.seen(PIPELINE))
TODAY: Object = {"syncPolicy": ASKED["spec"]["syncPolicy"]}  # whatever the template says of syncing by now
SYNC = ("status", "operationState", "operation", "sync")


def application() -> Object:
    """The Application of prod as a real cluster showed it; yours to change."""
    found = recordings.load("application")
    found["spec"] |= deepcopy(TODAY)
    return found


def changed(path: tuple[str, ...], value: Any) -> Object:
    """The same with one field more, or another."""
    found = application()
    place = found
    for step in path[:-1]:
        place = place.setdefault(step, {})
    place[path[-1]] = value
    return found


def test_the_application_of_a_real_cluster_is_gits() -> None:
    """What Argo CD and the API server made of our file is no override."""
    assert overrides.found(application(), ASKED) == Findings()


HELM = ("spec", "source", "helm")
PARAMETER = [{"name": "replicas", "value": "9"}]
OTHER = {**ASKED["spec"]["source"], "helm": {"parameters": PARAMETER}}
OVERRIDES: list[tuple[tuple[str, ...], Any, str]] = [
    ((*HELM, "parameters"), PARAMETER, "source.helm.parameters is set"),
    ((*HELM, "values"), "replicas: 9", "source.helm.values is set"),
    ((*HELM, "valuesObject"), {"replicas": 9}, "source.helm.valuesObject is set"),
    ((*HELM, "fileParameters"), [{"name": "a", "path": "b"}], "source.helm.fileParameters is set"),
    ((*HELM, "valueFiles"), ["values-dev.yaml"], r"source.helm.valueFiles is \['values-dev.yaml'\], Git has"),
    ((*HELM, "releaseName"), "other", "source.helm.releaseName is other, Git has manual-app"),
    ((*HELM, "skipCrds"), True, "source.helm.skipCrds is set"),
    ((*HELM, "skipSchemaValidation"), True, "source.helm.skipSchemaValidation is set"),
    ((*HELM, "ignoreMissingValueFiles"), True, "source.helm.ignoreMissingValueFiles is set"),
    ((*HELM, "apiVersions"), ["x/v1"], "source.helm.apiVersions is set"),
    ((*HELM, "kubeVersion"), "1.20", "source.helm.kubeVersion is set"),
    ((*HELM, "namespace"), "dev", "source.helm.namespace is set"),
    (("spec", "source", "kustomize"), {"namePrefix": "x"}, "source.kustomize is set"),
    (("spec", "source", "plugin"), {"name": "x"}, "source.plugin is set"),
    (("spec", "source", "directory"), {"recurse": True}, "source.directory is set"),
    (("spec", "source", "repoURL"), "https://evil.example/x.git", "source.repoURL is https://evil.example"),
    (("spec", "source", "path"), "other", "source.path is other"),
    (("spec", "sources"), [OTHER], "sources is set"),
    (("spec", "sourceHydrator"), {"syncSource": {}}, "sourceHydrator is set"),
    (("spec", "ignoreDifferences"), [{"kind": "Deployment"}], "ignoreDifferences is set"),
    (("spec", "project"), "dev", "project is dev, Git has prod"),
    (("spec", "destination", "namespace"), "dev", "destination.namespace is dev"),
    (("spec", "destination", "server"), "https://other", "destination.server is https://other"),
    *(
        (
            ("spec", "syncPolicy", "syncOptions"),
            [*ASKED["spec"]["syncPolicy"]["syncOptions"], option],
            "syncPolicy.syncOptions is",
        )
        for option in ("RespectIgnoreDifferences=true", "Replace=true", "Validate=false")
    ),
    (
        ("metadata", "annotations"),
        {"argocd.argoproj.io/skip-reconcile": "true"},
        "annotation argocd.argoproj.io/skip-reconcile is set: Argo CD looks no more",
    ),
    (("status", "sourceType"), "Plugin", "Argo CD renders it as Plugin, not as Helm does"),
    ((*SYNC, "source"), OTHER, "its last sync's source.helm.parameters is set"),
    ((*SYNC, "sources"), [OTHER], "its last sync's sources is set"),
    ((*SYNC, "manifests"), ["kind: Pod"], "its last sync brought manifests of its own"),
    ((*SYNC, "resources"), [{"kind": "Service"}], "its last sync was about some of the objects only"),
    ((*SYNC, "syncStrategy"), {"apply": {}}, "its last sync brought a strategy of its own"),
    ((*SYNC, "syncOptions"), ["Validate=false"], "its last sync brought the option Validate=false"),
    (
        ("status", "operationState", "syncResult", "source"),
        OTHER,
        "its last sync's source.helm.parameters is set",
    ),
    (("operation",), {"sync": {"manifests": ["kind: Pod"]}}, "the sync that was asked for brought manifests"),
]


@pytest.mark.parametrize(("path", "value", "reason"), OVERRIDES, ids=[one[2][:40] for one in OVERRIDES])
def test_an_override_is_named(path: tuple[str, ...], value: Any, reason: str) -> None:
    """Whatever makes Argo CD render, compare or apply something else than Git's: MISMATCH that names the field."""
    found = overrides.found(changed(path, value), ASKED)
    assert any(re.search(f"^the Application: {reason}", one) for one in found.mismatches), found


@pytest.mark.parametrize("field", ["releaseName", "valueFiles"])
def test_what_git_has_and_is_missing(field: str) -> None:
    """The values file of the environment taken away from the Application: the chart's defaults would run."""
    found = application()
    del found["spec"]["source"]["helm"][field]
    [line] = overrides.found(found, ASKED).mismatches
    assert f"source.helm.{field} is missing, Git has" in line


HARMLESS: list[tuple[tuple[str, ...], Any]] = [
    (("metadata", "annotations"), {"argocd.argoproj.io/manifest-generate-paths": "."}),
    (("metadata", "annotations"), {"argocd.argoproj.io/refresh": "normal"}),
    (("metadata", "annotations"), {"argocd.argoproj.io/skip-reconcile": "false"}),
    (("spec", "source", "targetRevision"), "e" * 40),
    ((*SYNC, "source"), ASKED["spec"]["source"] | {"targetRevision": "e" * 40}),
    ((*SYNC, "syncStrategy"), {"hook": {}}),
    (
        ("status", "operationState", "operation"),
        {"initiatedBy": {"automated": True}, "sync": {"resources": [{"kind": "Deployment"}]}},
    ),
]


@pytest.mark.parametrize(("path", "value"), HARMLESS)
def test_what_argo_cd_does_by_itself_is_no_override(path: tuple[str, ...], value: Any) -> None:
    """To look again, which commit it looks at, and healing what drifted change nothing of what is rendered."""
    assert overrides.found(changed(path, value), ASKED) == Findings()


def test_a_comparison_of_before_is_unknown() -> None:
    """Somebody put the Application right just now: its Synced is still about what was before, UNKNOWN."""
    found = overrides.found(changed(("status", "sync", "comparedTo", "source"), OTHER), ASKED)
    assert found.mismatches == ()
    assert found.unknowns == (
        "Argo CD has not compared with what the Application asks for: source.helm.releaseName is missing, "
        "Git has manual-app",
    )
