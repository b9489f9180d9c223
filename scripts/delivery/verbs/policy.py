"""`delivery policy`: what the cluster is to refuse by itself, ready for `kubectl apply -f -`."""

from collections.abc import Collection

from delivery.desired import derived, policy
from delivery.errors import PlatformError
from delivery.pipeline import Cluster, Pipeline
from delivery.signed import keys


def run(pipeline: Pipeline, cluster: Cluster, images: Collection[str] = ()) -> str:
    """Namespaces and policies as one YAML stream, for this repository, these keys and this chart.

    `images` are pinned references that may run in a guarded environment, beside those that the chart names. Refused
    when policy/ is stale, PlatformError when a public key is missing.
    """
    root, repository = pipeline.root, pipeline.image.repository
    policy.check(pipeline, root)
    signed_by = public_keys(pipeline, cluster)
    platform = policy.beside(pipeline, root) | set(images)
    return policy.stream(
        [
            *policy.namespaces(root),
            *policy.pinned_images(root, repository, platform),
            *policy.evidence(root, repository, platform, signed_by),
        ]
    )


def public_keys(pipeline: Pipeline, cluster: Cluster) -> dict[str, str]:
    """The public keys of those whose evidence the cluster asks for, as PEM; PlatformError when one is missing."""
    found = {}
    for name in derived.sources(pipeline):
        file = keys.public(cluster, name)
        try:
            found[name] = file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise PlatformError(f"{file}: {error}", "make the keys again: delivery up") from None
        if "BEGIN PUBLIC KEY" not in found[name]:
            raise PlatformError(f"{file} holds no public key", "make the keys again: delivery up")
    return found
