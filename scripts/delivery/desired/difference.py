"""The rendered chart as text, and what a change makes of it."""

import difflib
import tempfile
from pathlib import Path

import yaml

from delivery.context import Context
from delivery.desired import change, manifests
from delivery.desired.change import Request
from delivery.parts import helm
from delivery.parts.git import Repository
from delivery.pipeline import Environment


def shown(context: Context, repository: Repository, request: Request, commit: str) -> tuple[str, str]:
    """The digest before, and how the manifests that an environment has differ from those that it would get.

    It would get those of `commit` with the request in its values. It has those of the commit that brought its digest,
    or of `commit` itself where it follows the branch. "none" where nothing is asked for yet.
    """
    environment = request.environment
    with tempfile.TemporaryDirectory(prefix="delivery-chart-") as folder:
        try:
            _, before = manifests.image(repository, environment, commit)
        except manifests.NothingYet:
            before, has, old = "none", commit, []
        else:
            follows = environment.sync == "automatic"
            has = commit if follows else change.entered(repository, environment, before, commit)
            tree = manifests.exported(context, repository, environment, has, Path(folder, "has"))
            old = rendered(context, tree, environment)
        tree = manifests.exported(context, repository, environment, commit, Path(folder, "gets"))
        change.write(context, tree, request)
        new = rendered(context, tree, environment)
    told = f"{environment.name} at {has[:12]}", f"{environment.name} with build {request.build}"
    return before, difference(old, new, *told)


def rendered(context: Context, tree: Path, environment: Environment) -> list[str]:
    """The lines of all manifests of an environment, as Argo CD renders them."""
    chart, values = tree / context.pipeline.chart.path, tree / environment.values
    documents = helm.template(chart, values, context.pipeline.chart.release, environment.namespace)
    documents.sort(key=lambda one: (one.get("kind", ""), one.get("metadata", {}).get("name", "")))
    return yaml.safe_dump_all(documents, sort_keys=True, width=1000).splitlines()


def difference(old: list[str], new: list[str], before: str, after: str) -> str:
    """A unified diff, empty when nothing changes."""
    return "\n".join(difflib.unified_diff(old, new, before, after, lineterm="", n=3))
