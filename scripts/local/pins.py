"""The pins of public images: each name in versions.yaml with the digest that it had when it was pinned."""

import os
from collections.abc import Mapping

from delivery.errors import BadInput
from delivery.progress import note
from local.catalog import ArgocdImages

CHOICE = "DELIVERY_PINS"
OF_ARGOCD = ("argocd", "redis")  # those of `online` whose names Argo CD's manifest gives


def bare(name: str) -> str:
    """The name without its digest."""
    return name.partition("@")[0]


def unpinned(online: Mapping[str, str]) -> list[str]:
    """The names of public images that have no digest."""
    return [name for name in online.values() if "@sha256:" not in name]


def check(online: Mapping[str, str]) -> None:
    """Say which public images are taken as their tag stands today; BadInput when DELIVERY_PINS=required."""
    chosen = os.environ.get(CHOICE, "")
    if chosen not in ("", "required"):
        raise BadInput(f"{CHOICE}={chosen} is unknown", f"{CHOICE} is required, or not set")
    if missing := unpinned(online):
        named = ", ".join(missing)
        if chosen:
            raise BadInput(f"{CHOICE}={chosen}, and not pinned: {named}", "pin them: make pin")
        note(f"not pinned, taken by tag: {named} (hint: make pin)")


def agree(online: Mapping[str, str], upstream: ArgocdImages) -> None:
    """BadInput when Argo CD was changed in go.mod, and what is pinned is still for another version."""
    for name, wanted in (("argocd", upstream.argocd), ("redis", upstream.redis)):
        if bare(online[name]) != wanted:
            raise BadInput(
                f"scripts/local/versions.yaml has {bare(online[name])}, but Argo CD's manifest asks for {wanted}",
                "pin what it asks for: make pin",
            )
