"""What Git asks of an environment: its values at one commit, and the chart rendered with them."""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from delivery.context import Context
from delivery.errors import BadInput
from delivery.parts import values
from delivery.parts.git import Repository
from delivery.pipeline import Environment

UNSET = "set-by-promotion"
REPOSITORY, TAG, DIGEST = ("image", "repository"), ("image", "tag"), ("image", "digest")
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


@dataclass(frozen=True)
class Desired:
    """What Git asks of one environment at one commit."""

    commit: str
    repository: str
    digest: str
    tag: str
    replicas: int
    images: frozenset[str]  # every image that the rendered chart names, the app's included
    manifests: str = ""  # the identity of the release: the hash of everything that the chart renders
    # All that the chart rendered. A proof without it has nothing to hold the objects against, and finds only strays.
    documents: tuple[Mapping[str, Any], ...] = field(default=(), compare=False, repr=False)
    most: int = 0  # replicas, where an autoscaler of the chart may choose more than `replicas`

    @property
    def image(self) -> str:
        """The one way the app's image may be named."""
        return f"{self.repository}@{self.digest}"


# Values for a chart that nobody deploys: any well-formed ones show what it renders.
ANY_DIGEST = f"sha256:{'0' * 64}"
STAND_INS = {
    ".".join(path): value
    for path, value in ((REPOSITORY, "registry.example/app"), (TAG, "1"), (DIGEST, ANY_DIGEST))
}


class NothingYet(BadInput):
    """The environment has no digest yet; its values say so."""


def digest(text: str) -> str:
    """The digest, when it is one; BadInput when it is malformed."""
    if not _DIGEST.match(text):
        raise BadInput(f"{text!r} is not a digest", "a digest is sha256: and 64 hexadecimal digits")
    return text


def naming(context: Context, tag: str, digest: str) -> dict[values.Path, str]:
    """What a values file says when it asks for a digest on this site: repository, tag and digest."""
    return {REPOSITORY: context.site.image.name, TAG: tag, DIGEST: digest}


def named(text: str, file: str) -> tuple[str, str]:
    """Tag and digest that a values file names; NothingYet, or BadInput when they are malformed."""
    tag, found = values.get(text, TAG, file), values.get(text, DIGEST, file)
    if UNSET in (tag, found):
        raise NothingYet(f"{file} names no digest yet", "deploy or promote to that environment first")
    if not _DIGEST.match(found):
        raise BadInput(f"{file}: image.digest {found!r} is malformed", f"see who wrote it: git log -- {file}")
    return tag, found


def file(repository: Repository, environment: Environment, commit: str) -> bytes:
    """An environment's values file as a commit has it; BadInput when it has none."""
    text = repository.show(commit, environment.values)
    if text is None:
        raise BadInput(f"{environment.values} is not in Git at {commit[:12]}", "see pipeline.yaml: values")
    return text


def image(repository: Repository, environment: Environment, commit: str) -> tuple[str, str]:
    """Tag and digest that an environment asks for at a commit."""
    return named(file(repository, environment, commit).decode("utf-8", "replace"), environment.values)


def at(context: Context, repository: Repository, environment: Environment, commit: str) -> Desired:
    """What a commit asks of an environment, rendered as Argo CD renders it."""
    with tempfile.TemporaryDirectory(prefix="delivery-chart-") as folder:
        tree = exported(context, repository, environment, commit, Path(folder))
        return rendered(context, tree, environment, commit)


def exported(
    context: Context, repository: Repository, environment: Environment, commit: str, to: Path
) -> Path:
    """Chart and values of an environment as a commit has them, written below a folder; the folder."""
    repository.export(commit, context.pipeline.chart.path, to)
    if not environment.values.startswith(f"{context.pipeline.chart.path}/"):
        repository.export(commit, environment.values, to)
    return to


def rendered(context: Context, tree: Path, environment: Environment, commit: str) -> Desired:
    """The same from a tree on disk; BadInput when the chart does not pin the app to the values' digest."""
    from delivery.parts import helm

    values_file = tree / environment.values
    tag, wanted = named(values_file.read_text(encoding="utf-8"), environment.values)
    documents = helm.template(
        tree / context.pipeline.chart.path, values_file, context.pipeline.chart.release, environment.namespace
    )
    pinned = f"{context.site.image.name}@{wanted}"
    least, most, images = 0, 0, set()
    for document in documents:
        template = pod_template(document)
        containers = _containers(template)
        images |= {container["image"] for container in containers}
        labels = template.get("metadata", {}).get("labels") or {}
        if labels.get("app.kubernetes.io/name") != context.pipeline.chart.release:
            continue
        for container in containers:
            if container["image"] != pinned:
                raise BadInput(
                    f"the chart renders {container['image']} for {environment.name}, not {pinned}",
                    "the chart must use image.repository@image.digest of the values, and nothing else",
                )
        if document["kind"] == "Deployment":
            span = replicas(document, documents)
            least, most = least + span[0], most + span[1]
    if not least:
        raise BadInput(
            f"the chart renders no Deployment labelled {context.pipeline.chart.release} for {environment.name}",
            "its pods need the label app.kubernetes.io/name",
        )
    return Desired(
        *(commit, context.site.image.name, wanted, tag, least, frozenset(images)),
        *(identity(documents), tuple(documents), most),
    )


def identity(documents: Iterable[Mapping[str, Any]]) -> str:
    """The sha256 of rendered manifests; the order of objects and of keys, comments and white space do not count."""
    canonical = sorted(json.dumps(one, sort_keys=True, separators=(",", ":")) for one in documents)
    return hashlib.sha256("\n".join(canonical).encode()).hexdigest()


def replicas(document: Mapping[str, Any], documents: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """How many pods an object of the chart asks for, at least and at most: its own number, or its autoscaler's two."""
    for one in documents:
        if one.get("kind") == "HorizontalPodAutoscaler":
            target = one["spec"]["scaleTargetRef"]
            if (target["kind"], target["name"]) == (document["kind"], document["metadata"]["name"]):
                return int(one["spec"].get("minReplicas", 1)), int(one["spec"]["maxReplicas"])
    said = int(document["spec"].get("replicas", 1))
    return said, said


def images(documents: Iterable[dict[str, Any]]) -> set[str]:
    """Every image that these manifests name."""
    return {container["image"] for one in documents for container in _containers(pod_template(one))}


def same(context: Context, repository: Repository, environment: Environment, a: str, b: str) -> bool:
    """Whether two commits ask the same of an environment: the chart and its own values, not the others'."""
    if a == b:
        return True
    others = [f":(exclude){e.values}" for e in context.pipeline.environments if e.name != environment.name]
    return repository.ok(
        "diff", "--quiet", a, b, "--", context.pipeline.chart.path, environment.values, *others
    )


def pod_template(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the pods of an object are made from; a pod is its own, and of anything else it is empty."""
    if document.get("kind") == "Pod":
        return document
    spec = document.get("spec") or {}
    if document.get("kind") == "CronJob":
        spec = spec.get("jobTemplate", {}).get("spec", {})
    template = spec.get("template") if isinstance(spec, dict) else None
    return template if isinstance(template, dict) else {}


def _containers(template: Mapping[str, Any]) -> list[dict[str, Any]]:
    spec = template.get("spec") or {}
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
