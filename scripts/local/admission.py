"""Admission: what guarded environments refuse by themselves, whoever asks and by whatever way.

delivery.desired.policy has the policies; here they get what only `delivery up` knows, the digests of the platform's
images in this cluster, and policy-controller is installed, which decides by them.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pytest_kind import KindCluster
from ruamel.yaml import YAML

from delivery import roles
from delivery.desired import derived, policy
from delivery.desired.derived import Seen
from delivery.desired.policy import Manifest
from delivery.errors import PlatformError
from delivery.pipeline import Environment
from delivery.signed.keys import pem
from delivery.wait import Pending, Reached, until
from local import install as installing
from local import keys
from local.catalog import POLICY_CONTROLLER, Catalog
from local.cluster import Cluster
from local.preload import REPOSITORY

CONTROLLER = "policy-controller"  # its image among those of the node
NAMESPACE = "cosign-system"
READY_LIMIT = 120
_POLICIES_LIMIT = 30
# Registry clients speak plain HTTP with names under .localhost alone; the gateway has this name as well.
_PLAIN_HTTP = ("registry.local:", "registry.localhost:")


def install(kind: KindCluster, catalog: Catalog, cluster: Cluster, digests: Mapping[str, str]) -> None:
    """Apply roles, policies and policy-controller: closed from here on.

    `wait` returns when what is tested is let in.
    """
    _authorities(cluster)  # before anything is applied: a key that is missing is said now
    with controller_folder(catalog, cluster.root, digests) as folder:
        installing.apply(kind, "--force-conflicts", "-k", folder)
    present = [one.namespace for one in cluster.pipeline.environments] + [installing.ARGOCD]
    policies = [
        policy.public_keys(cluster.pipeline.chart.release, _everybody(cluster)),
        *policy.writers(cluster.pipeline, _seen(cluster), present),
        *policy.pinned_images(cluster.pipeline, cluster.image, _platform(digests)),
    ]
    installing.apply(kind, "--force-conflicts", "-f", "-", text=policy.stream(policies))


@contextmanager
def controller_folder(catalog: Catalog, root: Path, digests: Mapping[str, str]) -> Iterator[str]:
    """A folder for `kubectl apply -k` with policy-controller, as it is preloaded in the nodes; gone afterwards."""
    source, folder = catalog.module.source(POLICY_CONTROLLER) / "config", root / "policy"
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary, CONTROLLER)
        shutil.copytree(folder / CONTROLLER, work)
        (work / "upstream").mkdir()
        for file in source.glob("*.yaml"):  # by content: the module cache is read-only
            (work / "upstream" / file.name).write_bytes(file.read_bytes())
        deployment = controller(folder, f"{REPOSITORY}/{CONTROLLER}@{digests[CONTROLLER]}")
        (work / "deployment.yaml").write_text(json.dumps(deployment))
        yield str(work)


def wait(
    kind: KindCluster,
    catalog: Catalog,
    cluster: Cluster,
    digests: Mapping[str, str],
    said: Callable[[str], None],
) -> None:
    """Return when policy-controller decides by this cluster's policies; NotReached, PlatformError if not.

    `said` is told what is still missing.
    """
    said("until Ready: policy-controller")
    installing.kubectl(
        kind,
        *("-n", NAMESPACE, "rollout", "status", "deployment/webhook", f"--timeout={READY_LIMIT}s"),
    )
    policies = policy.evidence(
        cluster.pipeline, _seen(cluster), cluster.image, _platform(digests), _authorities(cluster)
    )
    if not policies:
        return
    names = [f"clusterimagepolicy/{one['metadata']['name']}" for one in policies]

    def accepted() -> Reached[None] | Pending:
        # It is its own judge of policies, and may answer some moments after it is Ready.
        try:
            installing.apply(kind, "--force-conflicts", "-f", "-", text=policy.stream(policies))
        except PlatformError as error:
            return Pending(error.message)
        return Reached(None)

    hint = f"see why: kubectl -n {NAMESPACE} logs deployment/webhook"
    until("policy-controller takes its policies", accepted, _POLICIES_LIMIT, hint, said=said)
    said(f"until Ready: {', '.join(names)}")
    installing.kubectl(kind, "wait", "--for=condition=Ready", f"--timeout={_POLICIES_LIMIT}s", *names)


def seen(kind: KindCluster, cluster: Cluster) -> str:
    """What guarded environments say to a dry run of what they must refuse; PlatformError when one would take it."""
    said = []
    for environment in cluster.pipeline.environments:
        for image, (what, reason) in _refused(cluster.image, environment).items():
            pod = json.dumps(_pod(image, environment.namespace))
            _insist(kind, environment.name, pod, roles.AS_CONTROLLER, image, reason)
            said.append(f"{environment.name} refuses {what}")
    for environment in cluster.pipeline.environments[1:]:
        pod = json.dumps(_pod(f"{cluster.image}@sha256:{'0' * 64}", environment.namespace))
        _insist(kind, environment.name, pod, (), "a pod of an administrator's", "written by Argo CD")
        said.append(f"{environment.name} refuses an administrator's pod")
    return "; ".join(said) or "no environment is guarded"


def _insist(
    kind: KindCluster, environment: str, pod: str, who: tuple[str, ...], what: str, reason: str
) -> None:
    """Return when a dry run of this pod is refused for this reason; PlatformError when it is taken."""
    try:
        installing.kubectl(kind, *who, "create", "--dry-run=server", "-f", "-", text=pod)
    except PlatformError as error:
        if reason not in error.message:
            raise
    else:
        raise PlatformError(f"{environment} would take {what}", "")


def _refused(repository: str, environment: Environment) -> dict[str, tuple[str, str]]:
    # Image -> what is wrong with it, and the word that says who refused it.
    refused = {}
    if environment.admits != "anything":
        refused[f"{repository}:latest"] = ("an image by tag", "pinned-images")
    if environment.admits == "tested":
        refused[f"{repository}@sha256:{'0' * 64}"] = (
            "a digest without evidence",
            "attestation key validation failed",
        )
    return refused


def controller(folder: Path, image: str) -> Manifest:
    """What differs from upstream's Deployment of policy-controller, with the image that this cluster has."""
    (deployment,) = _load(folder / CONTROLLER / "deployment.yaml")
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image
    return deployment


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


def _seen(cluster: Cluster) -> Seen:
    return Seen(cluster.git_seen_as, installing.ARGOCD)


def _authorities(cluster: Cluster) -> dict[str, policy.Authority]:
    """Those whose statements the cluster asks for; PlatformError when a key is missing."""
    hint, there = "make the keys again: delivery up", cluster.image.replace(*_PLAIN_HTTP, 1)
    asked = derived.authorities(cluster.pipeline)
    return {
        name: policy.Authority(pem(keys.public(cluster, by), hint), f"{there}/{by}")
        for name, by in asked.items()
    }


def _everybody(cluster: Cluster) -> dict[str, str]:
    """Every public key, by the names that delivery.signed.keys gives them."""
    hint = "make the keys again: delivery up"
    found = {f"{name}.pub": pem(keys.public(cluster, name), hint) for name in cluster.pipeline.signed_by}
    gates = [one.gate for one in cluster.pipeline.environments if one.guarded]
    return found | {
        f"{gate}.asc": keys.commit_key(cluster, gate)[1].read_text(encoding="ascii") for gate in gates
    }


def _platform(digests: Mapping[str, str]) -> list[str]:
    return [f"{REPOSITORY}/{name}@{digest}" for name, digest in digests.items() if name != CONTROLLER]


def _load(file: Path) -> list[Manifest]:
    return list(YAML(typ="safe").load_all(file.read_text(encoding="utf-8")))
