"""The programs of the platform for a fast test: what `up` would take, or made before."""

import os
from pathlib import Path

import pytest

from local import paths, platforms, released, tools
from local.catalog import Catalog
from scripts.tests.world import ROOT


def find(name: str) -> Path:
    """Where it is; nothing is compiled, the test is skipped instead, unless DELIVERY_TOOLS=pinned asks for it."""
    recipes = Catalog(ROOT)
    compiled, why = recipes.module.bin / name, "not built before"
    if compiled.exists():
        return compiled
    pinned = os.environ.get(tools.CHOICE) == "pinned"
    if name in tools.NAMES:
        with pytest.MonkeyPatch.context() as patch:  # the test may stand in a checkout of its own
            patch.setattr(tools, "catalog", lambda: recipes)
            patch.setattr(tools, "_tools", lambda: released.tools(recipes))
            found = tools.look(name)
            if found.path or pinned:
                return found.path or tools._have((name,))[name]
        why = found.why
    elif pinned:
        return recipes.module.build(name, platform=platforms.here()) / name
    earlier = sorted(paths.cache("programs").glob(f"*/{name}"), key=lambda p: p.stat().st_mtime)
    if not earlier:
        pytest.skip(f"no {name} ({why}); {tools.CHOICE}=pinned make test gets it")
    return earlier[-1]
