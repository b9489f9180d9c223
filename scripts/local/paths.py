"""Where things are kept: the cache (safe to delete) and what belongs to this host alone."""

import os
from pathlib import Path

from delivery.files import cache

__all__ = ["cache", "host"]


def host(*parts: str) -> Path:
    """A path in the XDG state folder: the Docker daemon that we started, if we did."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base, "delivery", *parts)
