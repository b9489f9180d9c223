"""The programs that are run: cosign and helm. The local platform brings its own; without it they are those of PATH."""

import shutil
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from delivery.errors import PlatformError

GROUP = "delivery.programs"  # the entry point of a package that brings programs: path(name) -> Path


@cache
def path(name: str) -> Path:
    """Where a program is; PlatformError when it is not there."""
    for one in entry_points(group=GROUP):
        try:
            bring = one.load()
        except ModuleNotFoundError:
            continue  # scripts/local was deleted; the installed metadata still names it
        return Path(bring(name))
    found = shutil.which(name)
    if found is None:
        raise PlatformError(
            f"{name} is not on PATH", f'install {name}; README, "Fork it", says which versions'
        )
    return Path(found)
