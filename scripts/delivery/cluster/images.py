"""The platform's images: pulled where a public registry answers, else built from package registries.

The choice is the only thing that differs between the two kinds of machine; nothing after this module
knows which it was.
"""

import os
from functools import cache
from pathlib import Path

from delivery import pipeline
from delivery.cluster import pins
from delivery.cluster.catalog import Catalog
from delivery.cluster.closed import Closed
from delivery.cluster.online import Online, reaches_registry
from delivery.cluster.recipes import image_exists
from delivery.errors import BadInput

CHOICE = "DELIVERY_IMAGES"


@cache
def catalog(root: Path | None = None) -> Catalog:
    """The recipes of the checkout."""
    return Catalog(root or pipeline.root())


@cache
def source() -> Online | Closed:
    """Where the images come from: as DELIVERY_IMAGES says, else what is already made, else what is reachable."""
    recipes = catalog()
    chosen = os.environ.get(CHOICE, "auto")
    closed, online = Closed(recipes), Online(recipes)
    if chosen in ("online", "closed"):
        return online if chosen == "online" else closed
    if chosen != "auto":
        raise BadInput(f"{CHOICE}={chosen} is unknown", f"{CHOICE} is auto, online or closed")
    for made in (closed, online):
        if image_exists(made.node.name):
            return made
    return online if reaches_registry(recipes) else closed


def ensure() -> None:
    """Have every image on this Docker daemon; a second call does nothing."""
    images = source()
    if isinstance(images, Online):
        pins.check(catalog().versions["online"])
    names = (images.node.name, images.registry, images.gateway.tag, *images.python_images)
    if not all(image_exists(name) for name in (*names, *images.platform_images.values())):
        images.make()


def python_images() -> tuple[str, str]:
    """(build, runtime): what the stages of manual-app's Dockerfile start from."""
    return source().python_images


def platform_images() -> dict[str, str]:
    """Local names of the images that the cluster asks for by digest, such as `postgresql`."""
    return source().platform_images
