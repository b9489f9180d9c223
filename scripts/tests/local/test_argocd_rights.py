"""What Argo CD may do in the cluster as `up` installs it, read from the manifests that would be applied."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from local import paths
from local.catalog import ARGOCD, Catalog
from scripts.tests.world import ROOT

Manifest = dict[str, Any]
Key = tuple[str, str]
CONTROLLER = "argocd-application-controller"


def read(text: str) -> dict[Key, Manifest]:
    """The objects of a YAML stream by kind and name, without the large definitions of kinds."""
    documents = text.split("\n---\n")
    small = (one for one in documents if "\nkind: CustomResourceDefinition\n" not in f"\n{one}")
    found = [YAML(typ="safe").load(one) for one in small]
    return {(one["kind"], one["metadata"]["name"]): one for one in found if one}


@pytest.fixture(scope="module")
def upstream() -> Path:
    """The pinned version's own manifest."""
    version = Catalog(ROOT).module.version(ARGOCD)
    file = paths.cache("go", "mod", f"{ARGOCD}@{version}", "manifests", "core-install.yaml")
    if not file.exists():
        pytest.skip("Argo CD's own manifest comes with the first `delivery up`")
    return file


@pytest.fixture(scope="module")
def installed(
    upstream: Path, program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[Key, Manifest]:
    """What `up` applies, by kind and name."""
    work = tmp_path_factory.mktemp("argocd") / "install"
    shutil.copytree(ROOT / "argocd" / "install", work)
    (work / "core-install.yaml").write_bytes(upstream.read_bytes())
    command = [str(program("kubectl")), "kustomize", str(work)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return read(done.stdout)


def test_nothing_of_argo_cd_writes_in_the_whole_cluster(installed: dict[Key, Manifest]) -> None:
    """Whoever takes Argo CD over sees what `view` shows, no Secret of mine among it, and is nobody's administrator."""
    [own] = [name for kind, name in installed if kind == "ClusterRole" and name != CONTROLLER]
    [definitions] = installed["ClusterRole", own]["rules"]
    assert (definitions["resources"], definitions["verbs"]) == (
        ["customresourcedefinitions"],
        ["get", "list", "watch"],
    )
    role = installed["ClusterRole", CONTROLLER]
    shown: list[Manifest] = [{"rbac.authorization.k8s.io/aggregate-to-view": "true"}]
    shown.append(installed["ClusterRole", own]["metadata"]["labels"])
    assert role["aggregationRule"] == {"clusterRoleSelectors": [{"matchLabels": one} for one in shown]}
    assert "rules" not in role, "what upstream had is not applied"
    bound = [one["roleRef"] for (kind, _), one in installed.items() if kind == "ClusterRoleBinding"]
    assert [(one["kind"], one["name"]) for one in bound] == [("ClusterRole", CONTROLLER)]


def test_what_it_may_not_list_does_not_stop_it(installed: dict[Key, Manifest]) -> None:
    """A controller that lists every kind of the cluster gives up at the first it may not: ours goes on."""
    settings = installed["ConfigMap", "argocd-cm"]["data"]
    assert settings["resource.respectRBAC"] == "normal"


def test_in_its_own_namespace_it_has_upstreams_role_and_no_other(
    installed: dict[Key, Manifest], upstream: Path
) -> None:
    """There the controller keeps Applications, by the rights that upstream gives it; nobody else has any."""
    roles = {name: one["rules"] for (kind, name), one in installed.items() if kind == "Role"}
    assert roles == {CONTROLLER: read(upstream.read_text())["Role", CONTROLLER]["rules"]}
    assert [name for kind, name in installed if kind == "RoleBinding"] == [CONTROLLER]


def test_whoever_asks_the_api_server_nothing_has_no_token(installed: dict[Key, Manifest]) -> None:
    """The repository server, which renders what others wrote, and Redis hold nothing to ask the API server with."""
    mounted = {
        name: one["spec"]["template"]["spec"].get("automountServiceAccountToken", True)
        for (kind, name), one in installed.items()
        if kind in ("Deployment", "StatefulSet")
    }
    assert mounted == {"argocd-redis": False, "argocd-repo-server": False, CONTROLLER: True}
