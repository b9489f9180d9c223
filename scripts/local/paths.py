"""Where things are kept: the cache (safe to delete) and what belongs to this host alone."""

import os
from pathlib import Path


def cache(*parts: str) -> Path:
    """A path in the XDG cache folder; nothing there is needed to read what was already made."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "delivery", *parts)


def host(*parts: str) -> Path:
    """A path in the XDG state folder: the Docker daemon that we started, if we did."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base, "delivery", *parts)
