"""How `up` installs policy-controller and the policies, as far as it can be known without a cluster."""

import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from delivery.errors import PlatformError
from local import admission, paths
from local import cluster as clusters
from local.catalog import POLICY_CONTROLLER, Catalog
from local.closed import golang
from scripts.tests.world import ROOT

FOLDER = ROOT / "policy"
DIGEST = f"sha256:{'d' * 64}"


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n", b"\xff"])
def test_up_installs_nothing_without_stages_public_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    """Nor does `delivery up`: it finds out before it applies anything."""
    monkeypatch.setenv("DELIVERY_STATE", str(tmp_path))
    cluster = clusters.chosen("local", ROOT)
    (cluster.state / "keys").mkdir(parents=True)
    for name in ("build", "dev"):  # what is asked for before it
        (cluster.state / "keys" / f"{name}.pub").write_text("-----BEGIN PUBLIC KEY-----\n")
    if content is not None:
        (cluster.state / "keys" / "stage.pub").write_bytes(content)
    monkeypatch.setattr(admission, "controller_folder", lambda *_: pytest.fail("it went on"))
    with pytest.raises(PlatformError, match=r"stage\.pub") as caught:
        admission.install(None, Catalog(ROOT), cluster, {})
    assert caught.value.hint == "make the keys again: delivery up"


def test_the_controller_is_restricted_and_pinned() -> None:
    """policy-controller runs by digest, as a numbered user, in a namespace that allows nothing more."""
    image = f"registry.local:5000/platform/policy-controller@{DIGEST}"
    pod = admission.controller(FOLDER, image)["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == image
    assert pod["securityContext"]["runAsUser"] == 65532
    assert "--disable-tuf" in pod["containers"][0]["args"]
    text = (FOLDER / "policy-controller" / "namespace.yaml").read_text()
    (namespace,) = YAML(typ="safe").load_all(text)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_upstreams_manifests_take_our_differences(tmp_path: Path) -> None:
    """The pinned version's own manifests, with our differences: every webhook fails closed."""
    catalog = Catalog(ROOT)
    upstream = paths.cache(
        "go", "mod", f"{POLICY_CONTROLLER}@{catalog.module.version(POLICY_CONTROLLER)}", "config"
    )
    kubectl = catalog.module.bin / "kubectl"
    if not (upstream.is_dir() and kubectl.exists()):
        pytest.skip("kubectl and policy-controller's source come with the first `delivery up`")
    work = tmp_path / "policy-controller"
    shutil.copytree(FOLDER / "policy-controller", work)
    (work / "upstream").mkdir()
    for file in upstream.glob("*.yaml"):
        (work / "upstream" / file.name).write_bytes(file.read_bytes())
    built = subprocess.run(
        [kubectl, "kustomize", work], check=True, capture_output=True, text=True, timeout=60
    )
    manifests = list(YAML(typ="safe").load_all(built.stdout))
    webhooks = [hook for manifest in manifests for hook in manifest.get("webhooks", ())]
    assert {hook["name"] for hook in webhooks} == {
        "policy.sigstore.dev",
        "validating.clusterimagepolicy.sigstore.dev",
        "defaulting.clusterimagepolicy.sigstore.dev",
    }
    assert all(hook["failurePolicy"] == "Fail" for hook in webhooks)
    (deployment,) = (m for m in manifests if m["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "set-by-up", "the image is ours to name"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert golang.PACKAGES["policy-controller"].startswith(POLICY_CONTROLLER)
