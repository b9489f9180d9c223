"""The platform's images: pulled where a public registry answers, else built from package registries.

The choice is the only thing that differs between the two kinds of machine; nothing after this module
knows which it was.
"""

import os
from functools import cache
from pathlib import Path

from delivery import pipeline
from delivery.errors import BadInput, PlatformError
from delivery.parts import docker
from delivery.progress import note
from local import host, pins, reach, store
from local.catalog import Catalog
from local.closed.images import Closed
from local.online import Online
from local.recipes import PREFIX, image_exists

CHOICE = "DELIVERY_IMAGES"
_OLD_DAYS = 14  # they are made anew each week; another checkout may still start from the last one


@cache
def catalog(root: Path | None = None) -> Catalog:
    """The recipes of the checkout."""
    return Catalog(root or pipeline.root())


@cache
def source() -> Online | Closed:
    """Where the images come from: as DELIVERY_IMAGES says, else what is already made, else what is reachable.

    A registry that refuses has answered: its refusal is told by the pull. PlatformError where none answers and the
    images cannot be built here either.
    """
    recipes = catalog()
    chosen = os.environ.get(CHOICE, "auto")
    if chosen not in ("auto", "online", "closed"):
        raise BadInput(f"{CHOICE}={chosen} is unknown", f"{CHOICE} is auto, online or closed")
    closed, online = Closed(recipes), Online(recipes)
    if chosen == "online":
        return online
    if image_exists(closed.node.name):
        return closed
    if chosen == "closed":
        if lack := host.cannot_install():
            raise PlatformError(
                f"{CHOICE}=closed builds images, for which root on Debian or Ubuntu is needed: {lack}",
                f"run it there; or pull them, where a container registry is in reach: {CHOICE}=online",
            )
        return closed
    if image_exists(online.node.name):
        return online
    why = reach.silence(online.probe)
    if why is None:
        return online
    if lack := host.cannot_install():
        # The reason stays what it is, with the other way beside the remedy.
        why.hint += f"; or build the images ({CHOICE}=closed): as root on Debian or Ubuntu, and here {lack}"
        raise why
    note(f"{why.message}: the images are built from package registries instead")
    return closed


def probes() -> tuple[str, str]:
    """Small images with a shell, of both ways, to look from inside of Docker: whichever is there."""
    return Online(catalog()).probe, Closed(catalog()).probe


def names(images: Online | Closed) -> tuple[str, ...]:
    """All that has to be on the Docker daemon, by the names that say what went into each."""
    alone = (images.node.name, images.registry, images.gateway.tag, *images.python_images)
    return (*alone, *images.platform_images.values())


def ensure() -> None:
    """Have every image on this Docker daemon, and none of weeks ago that nothing uses; a second call does nothing."""
    images = source()
    if isinstance(images, Online):
        pins.check(catalog().versions["online"])
    if not all(image_exists(name) for name in names(images)):
        images.make()
        client = docker.client()
        try:
            store.remove_older(client, f"{PREFIX}/", _OLD_DAYS)
        finally:
            client.close()
