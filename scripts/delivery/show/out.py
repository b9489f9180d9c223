"""Where everything goes that people and programs read: standard output."""

import json
import sys
from typing import Any

from rich.console import Console


def write_json(document: Any) -> None:
    """One JSON document on standard output."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def console() -> Console:
    """Where tables go."""
    # Piped into a file or a CI log, a table must not be cut to 80 columns.
    return Console(width=None if sys.stdout.isatty() else 160)


def say(line: str, style: str = "") -> None:
    """One line, as it is."""
    console().print(line, style=style or None, markup=False, highlight=False, soft_wrap=True)
