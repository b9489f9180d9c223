"""The rendered chart as text, and what a promotion changes in it."""

import difflib
from pathlib import Path

import yaml

from delivery.context import Context
from delivery.parts import helm
from delivery.pipeline import Environment


def rendered(context: Context, tree: Path, environment: Environment) -> list[str]:
    """The lines of all manifests of an environment, as Argo CD renders them."""
    chart, values = tree / context.pipeline.chart.path, tree / environment.values
    documents = helm.template(chart, values, context.pipeline.chart.release, environment.namespace)
    documents.sort(key=lambda one: (one.get("kind", ""), one.get("metadata", {}).get("name", "")))
    return yaml.safe_dump_all(documents, sort_keys=True, width=1000).splitlines()


def difference(old: list[str], new: list[str], before: str, after: str) -> str:
    """A unified diff, empty when nothing changes."""
    return "\n".join(difflib.unified_diff(old, new, before, after, lineterm="", n=3))
