"""What the cluster refuses by itself: policy/ with what Git does not know put into it.

That is the repository of the image, the digests of what else may run, and the public keys of those whose evidence
counts. What comes out is for `kubectl apply`; nothing of it is written to Git.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delivery import roles
from delivery.desired import derived
from delivery.desired.derived import Seen
from delivery.errors import BadInput
from delivery.parts import openpgp
from delivery.pipeline import Pipeline

PINNED = "policy/pinned-images.yaml"
BY_DIGEST = "pinned-images"  # what the names of that policy and of its binding end with
_WEBHOOK = "policy/policy-controller/validating-webhook.yaml"
Manifest = dict[str, Any]


def pinned_images(pipeline: Pipeline, repository: str, platform: Collection[str]) -> list[Manifest]:
    """The API server's own policy: `repository` by any digest, of everything else these references.

    It holds in the guarded namespaces of this app alone, by their names, and has its name: the cluster may have other
    apps.
    """
    manifests, app = _load(pipeline.root, PINNED), pipeline.chart.release
    policy, binding = manifests
    policy["metadata"]["name"] = binding["metadata"]["name"] = f"{app}-{policy['metadata']['name']}"
    binding["spec"]["policyName"] = policy["metadata"]["name"]
    guarded = [one.namespace for one in pipeline.environments if one.admits != "anything"]
    [by_name] = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    by_name["values"] = guarded
    values = {"repository": json.dumps(repository), "platform": json.dumps(sorted(platform))}
    for variable in policy["spec"]["variables"]:
        if variable["name"] in values:
            variable["expression"] = values.pop(variable["name"])
    return _filled(manifests, PINNED) if guarded else []


def writers(pipeline: Pipeline, argocd: Seen, present: Collection[str]) -> list[Manifest]:
    """Roles, and who writes where, as this site's Argo CD makes them; of namespaced objects those of `present`."""
    made = derived.files(pipeline, argocd)
    there = {*present, roles.home(pipeline.chart.release)}
    manifests = [one for path in (derived.ROLES, derived.WRITERS) for one in _parsed(made[path])]
    return [one for one in manifests if one["metadata"].get("namespace") in (None, *there)]


@dataclass(frozen=True)
class Authority:
    """Whose statements count: the public key, as PEM, and the repository where policy-controller finds them."""

    key: str
    place: str


def evidence(
    pipeline: Pipeline,
    argocd: Seen,
    repository: str,
    platform: Collection[str],
    authorities: Mapping[str, Authority],
) -> list[Manifest]:
    """policy-controller's policies, for this site: `repository` with what counts, of everything else these references.

    `authorities` are those that the policy names. Empty when no environment asks for evidence.
    """
    if not derived.sources(pipeline):
        return []
    app, others = _parsed(derived.text(pipeline, derived.EVIDENCE, argocd))
    app["spec"]["images"] = [{"glob": f"{repository}@sha256:*"}]
    for authority in app["spec"]["authorities"]:
        told = authorities[authority["name"]]
        authority["key"]["data"] = told.key
        authority["source"] = [{"oci": told.place}]
    others["spec"]["images"] = [{"glob": reference} for reference in sorted(platform)]
    return _filled([app, others] if platform else [app], derived.EVIDENCE)


def admission(pipeline: Pipeline, argocd: Seen, repository: str) -> list[Manifest]:
    """The API server's own policies and their bindings, as `delivery policy` prints them for this site.

    The list of the platform's images is empty here: only whoever applies it knows that.
    """
    made = _parsed(derived.text(pipeline, derived.WRITERS, argocd))
    return [*made, *pinned_images(pipeline, repository, ())]


def image_policy(
    pipeline: Pipeline, argocd: Seen, repository: str, authorities: Mapping[str, Authority]
) -> Manifest | None:
    """policy-controller's policy about our image, as `evidence` makes it; None when nobody asks for evidence."""
    return next(iter(evidence(pipeline, argocd, repository, (), authorities)), None)


def labelled(pipeline: Pipeline, argocd: Seen) -> dict[str, Manifest]:
    """The namespaces by their names, with the labels that guard them."""
    made = _parsed(derived.text(pipeline, derived.NAMESPACES, argocd))
    return {one["metadata"]["name"]: one for one in made}


def asked_less(root: Path) -> list[Manifest]:
    """The conditions by which we install policy-controller to be asked less than everything."""
    text = derived.read(root, _WEBHOOK)
    hooks = [hook for one in _parsed(text or "") for hook in one.get("webhooks") or []]
    return [condition for hook in hooks for condition in hook.get("matchConditions") or []]


def keyring(namespace: str, certificates: Collection[str]) -> Manifest:
    """What Argo CD verifies commits with, in its namespace: the armored certificates by the id of their primary key.

    By that id gpg lists what Argo CD has imported. One that had another name it would import again at each change, find
    nothing new, and stop there. Projects name the key that signs, which may be a subkey: openpgp.signing_key_id.
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "argocd-gpg-keys-cm",
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/name": "argocd-gpg-keys-cm",
                "app.kubernetes.io/part-of": "argocd",
            },
        },
        "data": {openpgp.key_id(one): one for one in certificates},
    }


def public_keys(app: str, keys: Mapping[str, str]) -> Manifest:
    """The public keys that count, where the platform alone writes: signed/keys.py compares a checkout's with them."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": roles.KEYS, "namespace": roles.home(app)},
        "data": dict(keys),
    }


def namespaces(root: Path, wanted: Collection[str]) -> list[Manifest]:
    """Those of the namespaces, with the labels that Pod Security and policy-controller go by."""
    return [one for one in _load(root, derived.NAMESPACES) if one["metadata"]["name"] in wanted]


def check(pipeline: Pipeline, root: Path) -> None:
    """Return when policy/ asks for what pipeline.yaml says; Refused when it is stale."""
    wanted = derived.files(pipeline)
    derived.check(
        root, {path: text for path, text in wanted.items() if path.startswith("policy/")}, ("policy",)
    )


def beside(pipeline: Pipeline, root: Path) -> set[str]:
    """What else the chart runs in the guarded environments, as pinned references; BadInput when one is not pinned."""
    from delivery.desired import manifests
    from delivery.parts import helm

    found: set[str] = set()
    for environment in pipeline.environments:
        if environment.admits != "anything":
            documents = helm.template(
                root / pipeline.chart.path,
                root / environment.values,
                pipeline.chart.release,
                environment.namespace,
                manifests.STAND_INS,
            )
            found |= manifests.images(documents)
    found = {image for image in found if not image.endswith(manifests.ANY_DIGEST)}
    if loose := sorted(image for image in found if "@sha256:" not in image):
        raise BadInput(
            f"the chart runs {', '.join(loose)} in a guarded environment", "name it by digest: image@sha256:…"
        )
    return found


def stream(manifests: list[Manifest]) -> str:
    """The manifests as one YAML stream, which kubectl takes from a pipe."""
    return "---\n".join(json.dumps(manifest, indent=2) + "\n" for manifest in manifests)


def _load(root: Path, path: str) -> list[Manifest]:
    text = derived.read(root, path)
    if text is None:
        raise BadInput(f"{path} is missing", f"restore it: delivery generate, or git checkout {path}")
    return _parsed(text)


def _parsed(text: str) -> list[Manifest]:
    from delivery.parts import documents

    return documents.every(text)


def _filled(manifests: list[Manifest], path: str) -> list[Manifest]:
    if derived.UNSET in json.dumps(manifests):
        raise BadInput(f"something in {path} still says {derived.UNSET}", f"restore it: git checkout {path}")
    return manifests
