"""The report as a page: the proof, the tests and the trail on one sheet that needs no network to be read."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from delivery import files

_TEMPLATE = "page.html"


def html(document: dict[str, Any]) -> str:
    """The page of one `delivery/report/v1` document; whatever the cluster said is shown as text, never as markup."""
    # Autoescaping is on for every template: names and messages come from pods and commits.
    loader = PackageLoader("delivery.show", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(_TEMPLATE).render(document)


def write(document: dict[str, Any], file: Path) -> None:
    """Put the page into a file, whole or not at all."""
    files.write(file, html(document))
