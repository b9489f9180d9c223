"""The Docker daemon's image store, whichever of the two it has: what is there, under which name, for which platform."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from docker.errors import APIError, NotFound

from delivery.errors import PlatformError
from delivery.parts.daemon import failing

_DIGEST = re.compile(r"^(?P<repository>.+?)(?::[\w][\w.-]*)?@(?P<digest>sha256:[0-9a-f]{64})$")


def reference(name: str) -> str:
    """The name to ask a daemon by: after a pull by digest it knows the repository and the digest, and no tag."""
    found = _DIGEST.match(name)
    return f"{found['repository']}@{found['digest']}" if found else name


def architecture(client: Any) -> str:
    """What the daemon runs, such as arm64: it may be on another machine than we are."""
    with failing("Docker does not say what it runs on", PlatformError, "is Docker well? docker info"):
        return str(client.version()["Arch"])


def find(client: Any, name: str) -> Any:
    """The image by a name with tag, digest or both; None when there is none, or only for another platform."""
    with failing(f"cannot look for {name}", PlatformError, "is Docker well? docker info"):
        try:
            image = client.images.get(reference(name))
        except NotFound:
            return None
        # The containerd store knows an image of which it has no platform's content: it says no architecture.
        return image if image.attrs.get("Architecture") == architecture(client) else None


def tag(client: Any, name: str, new: str) -> None:
    """Give an image that is there a second name, such as REPOSITORY:TAG."""
    if find(client, name) is None:
        raise PlatformError(
            f"Docker has no {name} for linux/{architecture(client)}",
            f"remove it if it is for another platform (docker rmi {reference(name)}), then: delivery up",
        )
    repository, _, label = new.rpartition(":")
    with failing(f"cannot name {name} {new}", PlatformError, "run it again"):
        client.api.tag(reference(name), repository, label, force=True)


def remove(client: Any, *names: str) -> None:
    """Take these names from their images, and images away that have none left; what is used, or not there, stays."""
    for name in names:
        with suppress(APIError):
            client.images.remove(name)


def remove_older(client: Any, prefix: str, days: int) -> None:
    """Remove images whose names begin so that were made more than `days` ago and that no container uses."""
    with failing("cannot list the images", PlatformError, "is Docker well? docker info"):
        found = client.images.list()
    for image in found:
        made = datetime.fromisoformat(image.attrs["Created"])
        if datetime.now(UTC) - made > timedelta(days=days):
            remove(client, *(name for name in image.tags if name.startswith(prefix)))
