"""`delivery policy`: what the cluster is to refuse by itself, ready for `kubectl apply -f -`."""

from collections.abc import Collection

from delivery import roles
from delivery.context import Context
from delivery.desired import derived, policy
from delivery.errors import BadInput
from delivery.signed import keys


def run(context: Context, images: Collection[str] = (), cluster: str | None = None) -> str:
    """Namespaces, roles, policies and public keys as one YAML stream, for this site's repository and this chart.

    `cluster` is the context of one cluster of the site: only the namespaces that are there. BadInput when nothing is.
    `images` are pinned references that may run in a guarded environment, beside those that the chart names. Refused
    when policy/ is stale, PlatformError when a public key is missing.
    """
    root, repository = context.checkout, context.site.image.name
    there, argocd = _there(context, cluster), context.site.argocd.namespace
    policy.check(context.pipeline, root)
    sees = derived.of(context.pipeline, context.site)
    authorities = keys.authorities(context)
    platform = policy.beside(context.pipeline, root) | set(images)
    return policy.stream(
        [
            *policy.namespaces(root, there),
            *([policy.keyring(argocd, certificates(context))] if argocd in there else []),
            policy.public_keys(context.pipeline.chart.release, keys.everybody(context.site)),
            *policy.writers(context.pipeline, sees, there),
            *policy.pinned_images(context.pipeline, repository, platform),
            *policy.evidence(context.pipeline, sees, repository, platform, authorities),
        ]
    )


def _there(context: Context, cluster: str | None) -> set[str]:
    site, places = context.site, context.site.environments
    found = {
        one.namespace
        for one in context.environments
        if cluster is None or (one.name in places and places[one.name].context == cluster)
    }
    if not found:
        named = dict.fromkeys(place.context for place in places.values() if place.context)
        raise BadInput(
            f"site {site.name} has no environment in context {cluster}",
            f"one of: {', '.join(named) or 'none, see its environments in pipeline.yaml'}",
        )
    found.add(roles.home(context.pipeline.chart.release))
    hub = site.argocd.context
    return found | ({site.argocd.namespace} if cluster is None or hub in (None, cluster) else set())


def certificates(context: Context) -> list[str]:
    """The OpenPGP certificates of all gates; PlatformError when one is missing."""
    gates = [one.gate for one in context.environments if one.guarded]
    return [keys.commit_certificate(context.site, name) for name in gates]
