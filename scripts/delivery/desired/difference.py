"""The rendered chart as text, and what a change makes of it."""

import difflib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from delivery.context import Context
from delivery.desired import change, manifests
from delivery.desired.change import Request
from delivery.parts import helm
from delivery.parts.git import Repository
from delivery.pipeline import Environment


@dataclass(frozen=True)
class Shown:
    """A change of an environment: the digest before, and the rendered manifests in two comparisons."""

    before: str  # "none" where nothing entered yet
    diff: str  # from what the environment has to what it would get
    untested: str  # from what was tested in the environment before to what it would get


def shown(
    context: Context, repository: Repository, request: Request, commit: str, has: str, tested: Environment
) -> Shown:
    """What a request changes, on top of `commit`.

    `has` is the commit whose chart and values the environment has, empty where nothing entered yet; `tested` is the
    environment whose evidence counts, as `commit` asks for it.
    """
    environment = request.environment
    before = manifests.image(repository, environment, has)[1] if has else "none"
    old = lines(context, repository, environment, has)
    then = lines(context, repository, tested, commit)
    with tempfile.TemporaryDirectory(prefix="delivery-chart-") as folder:
        tree = manifests.exported(context, repository, environment, commit, Path(folder))
        change.write(context, tree, request)
        new = _lines(_documents(context, tree, environment))
    gets = f"{environment.name} with build {request.build}"
    return Shown(
        before,
        difference(old, new, f"{environment.name} at {has[:12] or 'nothing'}", gets),
        difference(then, new, f"{tested.name} at {commit[:12]}", gets),
    )


def becomes(context: Context, repository: Repository, request: Request, commit: str) -> str:
    """The identity of the manifests that an environment would get by a request on top of a commit."""
    with tempfile.TemporaryDirectory(prefix="delivery-chart-") as folder:
        tree = manifests.exported(context, repository, request.environment, commit, Path(folder))
        change.write(context, tree, request)
        return manifests.identity(_documents(context, tree, request.environment))


def lines(context: Context, repository: Repository, environment: Environment, commit: str) -> list[str]:
    """All that an environment has by a commit, as lines of YAML; none where `commit` is empty."""
    if not commit:
        return []
    with tempfile.TemporaryDirectory(prefix="delivery-chart-") as folder:
        tree = manifests.exported(context, repository, environment, commit, Path(folder))
        return _lines(_documents(context, tree, environment))


def _documents(context: Context, tree: Path, environment: Environment) -> list[dict[str, Any]]:
    """All manifests of an environment, as Argo CD renders them."""
    chart, values = tree / context.pipeline.chart.path, tree / environment.values
    return helm.template(chart, values, context.pipeline.chart.release, environment.namespace)


def _lines(documents: list[dict[str, Any]]) -> list[str]:
    documents = sorted(
        documents, key=lambda one: (one.get("kind", ""), one.get("metadata", {}).get("name", ""))
    )
    return yaml.safe_dump_all(documents, sort_keys=True, width=1000).splitlines()


def difference(old: list[str], new: list[str], before: str, after: str) -> str:
    """A unified diff, empty when nothing changes."""
    return "\n".join(difflib.unified_diff(old, new, before, after, lineterm="", n=3))
