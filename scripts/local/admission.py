"""Admission: what stage and prod refuse by themselves, whoever asks and by whatever way.

The manifests are in policy/; here they get what only `delivery up` knows: the app's
repository, the digests of the platform's images in this cluster, the public key of stage's signer.
"""

import io
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delivery.errors import PlatformError
from delivery.wait import Pending, Reached, until
from pytest_kind import KindCluster
from ruamel.yaml import YAML

from local import install as installing
from local.catalog import Catalog
from local.cluster import Cluster
from local.preload import REPOSITORY

Manifest = dict[str, Any]

MODULE = "github.com/sigstore/policy-controller"
CONTROLLER = "policy-controller"  # its image among those of the node
NAMESPACE = "cosign-system"
READY_LIMIT = 120
_POLICIES_LIMIT = 30
_UNSET = "set-by-up"
# Registry clients speak plain HTTP with names under .localhost alone; the gateway has this name as well.
_PLAIN_HTTP = ("registry.local:", "registry.localhost:")


def install(
    kind: KindCluster, catalog: Catalog, cluster: Cluster, digests: Mapping[str, str], stage_public_key: Path
) -> None:
    """Apply the policies and policy-controller: closed from here on, `wait` returns when prod is open."""
    _key(stage_public_key)  # before anything is applied
    source, folder = catalog.module.source(MODULE) / "config", _policy(cluster)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary, CONTROLLER)
        shutil.copytree(folder / CONTROLLER, work)
        (work / "upstream").mkdir()
        for file in source.glob("*.yaml"):  # by content: the module cache is read-only
            (work / "upstream" / file.name).write_bytes(file.read_bytes())
        deployment = controller(folder, f"{REPOSITORY}/{CONTROLLER}@{digests[CONTROLLER]}")
        (work / "deployment.yaml").write_text(json.dumps(deployment))
        installing.apply(kind, "--force-conflicts", "-k", str(work))
    policies = pinned_images(folder, _repository(cluster), _platform(digests))
    installing.apply(kind, "--force-conflicts", "-f", "-", text=_stream(policies))


def wait(
    kind: KindCluster, catalog: Catalog, cluster: Cluster, digests: Mapping[str, str], stage_public_key: Path
) -> None:
    """Return when policy-controller decides by this cluster's policies; NotReached, PlatformError if not."""
    installing.kubectl(
        kind,
        *("-n", NAMESPACE, "rollout", "status", "deployment/webhook", f"--timeout={READY_LIMIT}s"),
    )
    policies = evidence(_policy(cluster), _repository(cluster), _platform(digests), _key(stage_public_key))
    names = [f"clusterimagepolicy/{policy['metadata']['name']}" for policy in policies]

    def accepted() -> Reached[None] | Pending:
        # It is its own judge of policies, and may answer some moments after it is Ready.
        try:
            installing.apply(kind, "--force-conflicts", "-f", "-", text=_stream(policies))
        except PlatformError as error:
            return Pending(error.message)
        return Reached(None)

    hint = f"see why: kubectl -n {NAMESPACE} logs deployment/webhook"
    until("policy-controller takes its policies", accepted, _POLICIES_LIMIT, hint)
    installing.kubectl(kind, "wait", "--for=condition=Ready", f"--timeout={_POLICIES_LIMIT}s", *names)


def seen(kind: KindCluster, cluster: Cluster) -> str:
    """What the last environment says to a dry run of what it must refuse; PlatformError when it would take it."""
    repository, last = cluster.image, cluster.pipeline.environments[-1]
    reasons = {
        f"{repository}:latest": "pinned-images",
        f"{repository}@sha256:{'0' * 64}": "no matching attestations",
    }
    for image, reason in reasons.items():
        pod = json.dumps(_pod(image, last.namespace))
        try:
            installing.kubectl(kind, "create", "--dry-run=server", "-f", "-", text=pod)
        except PlatformError as error:
            if reason not in error.message:
                raise
        else:
            raise PlatformError(f"{last.name} would take {image}", "")
    return f"{last.name} refuses an image by tag, and a digest without evidence"


def pinned_images(folder: Path, repository: str, platform: list[str]) -> list[Manifest]:
    """The API server's own policies: `repository` by any digest, of the platform these references."""
    manifests = _load(folder / "pinned-images.yaml")
    values = {"repository": json.dumps(repository), "platform": json.dumps(sorted(platform))}
    for variable in manifests[0]["spec"]["variables"]:
        if variable["name"] in values:
            variable["expression"] = values.pop(variable["name"])
    return _filled(manifests)


def evidence(folder: Path, repository: str, platform: list[str], key: str) -> list[Manifest]:
    """policy-controller's policies: `repository` with evidence signed by `key`, the platform as it is."""
    manifests = _load(folder / "evidence.yaml")
    app, pinned = (manifest["spec"] for manifest in manifests)
    app["images"] = [{"glob": f"{repository}@sha256:*"}]
    (stage,) = app["authorities"]
    stage["key"]["data"] = key
    stage["source"] = [{"oci": repository.replace(*_PLAIN_HTTP, 1)}]
    pinned["images"] = [{"glob": reference} for reference in sorted(platform)]
    return _filled(manifests)


def controller(folder: Path, image: str) -> Manifest:
    """What differs from upstream's Deployment of policy-controller, with the image that this cluster has."""
    (deployment,) = _load(folder / CONTROLLER / "deployment.yaml")
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image
    return _filled([deployment])[0]


def _pod(image: str, namespace: str) -> Manifest:
    # As strict as Pod Security wants it, so that only the image can be the reason against it.
    context = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "doctor", "image": image, "securityContext": context}
    metadata = {"name": "doctor", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}


def _policy(cluster: Cluster) -> Path:
    return cluster.root / "policy"


def _repository(cluster: Cluster) -> str:
    return cluster.image


def _platform(digests: Mapping[str, str]) -> list[str]:
    return [f"{REPOSITORY}/{name}@{digest}" for name, digest in digests.items() if name != CONTROLLER]


def _key(file: Path) -> str:
    try:
        text = file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise PlatformError(f"{file}: {error}", "make the keys again: delivery up") from None
    if "BEGIN PUBLIC KEY" not in text:
        raise PlatformError(f"{file} holds no public key", "make the keys again: delivery up")
    return text


def _load(file: Path) -> list[Manifest]:
    return list(YAML(typ="safe").load_all(file.read_text(encoding="utf-8")))


def _filled(manifests: list[Manifest]) -> list[Manifest]:
    if _UNSET in json.dumps(manifests):
        raise PlatformError(
            f"a manifest of policy still says {_UNSET}",
            "restore it: git checkout policy",
        )
    return manifests


def _stream(manifests: list[Manifest]) -> str:
    stream = io.StringIO()
    for manifest in manifests:
        stream.write(json.dumps(manifest) + "\n---\n")
    return stream.getvalue()
