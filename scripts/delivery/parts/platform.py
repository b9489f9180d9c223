"""What a local site gives an image and the containers beside it; the one place here that asks for it.

A team without scripts/local has none: its Dockerfile names its own base images, pipeline.yaml its own services.
"""

from delivery.errors import BadInput
from delivery.pipeline import FILE

PREFIX = "platform/"


def build_arguments() -> dict[str, str]:
    """Arguments of a Dockerfile that a local site has a value for, such as the image of its build stage."""
    try:
        from local.images import build_arguments as given
    except ModuleNotFoundError:
        return {}
    return given()


def image(name: str) -> str:
    """What Docker calls an image of pipeline.yaml: platform/NAME is the local site's, any other is its own name."""
    if not name.startswith(PREFIX):
        return name
    wanted = name.removeprefix(PREFIX)
    try:
        from local.images import platform_images
    except ModuleNotFoundError:
        raise BadInput(
            f"{name} is an image of a local site, and scripts/local is not there",
            f"name one that docker can pull, in {FILE}: ci.services",
        ) from None
    images = platform_images()
    if wanted not in images:
        raise BadInput(
            f"a local site has no image {name}",
            f"one of: {', '.join(PREFIX + one for one in sorted(images))}",
        )
    return images[wanted]
