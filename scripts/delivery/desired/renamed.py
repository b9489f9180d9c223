"""The app under another name: which names will do, and what follows the name in a text or a path."""

import keyword
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

from delivery.errors import BadInput
from delivery.pipeline import Pipeline

# What may keep an old name, and why. Everything else that Git has, and that is text, follows the new one.
KEPT = {
    "NOTICE": "credits whoever made what this came from",
    "*go.sum": "hashes of packages that are somebody else's",
}

_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")  # DNS-1035: Services are called so
_YAML_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))
_OURS = frozenset(("delivery", "local"))
_HELM = 53  # characters of a release's name
_KUBERNETES = 63
# The longest of what is called after the app: the migration's Job of a digest, and the container of kind's node.
_SUFFIXES = ("-migrate-0123456789ab", "-e2e-control-plane")


@dataclass(frozen=True)
class Spelling:
    """A name as Kubernetes, registries and folders write it, and as Python, Prometheus and PostgreSQL do."""

    name: str

    @property
    def module(self) -> str:
        """The Python package, which is also the prefix of metrics and the name of the database."""
        return self.name.replace("-", "_")

    @property
    def expression(self) -> str:
        """An extended regular expression for both spellings."""
        return "|".join(dict.fromkeys((self.name, self.module)))


def renamed(text: str, old: Spelling, new: Spelling) -> str:
    """The text, or the path, with one name for another wherever it stands as a word."""
    spelled = {old.module: new.module, old.name: new.name}
    word = rf"(?<![A-Za-z0-9])({old.expression})(?![A-Za-z0-9])"
    return re.sub(word, lambda found: spelled[found[1]], text)


def kept(path: str) -> bool:
    """Whether a file may keep an old name."""
    return any(fnmatchcase(path, pattern) for pattern in KEPT)


def insist(
    pipeline: Pipeline, name: str, taken: Collection[str], parts: Collection[str], python: bool
) -> None:
    """Return when the app can be called `name`, else BadInput that says who refuses it.

    `taken` are the other files and folders at the top of the repository, `parts` the charts that stand beside the app,
    `python` says whether the app has a Python package that is called after it.
    """
    spelling = Spelling(name)
    longest = max(len(f"-{one.name}") for one in pipeline.environments)
    room = min(_HELM, _KUBERNETES - max(longest, *(len(suffix) for suffix in _SUFFIXES)))
    if not _LABEL.fullmatch(name):
        raise _refused(name, "Kubernetes takes a-z, 0-9 and dashes, a letter first and no dash last")
    if len(name) > room:
        raise _refused(name, f"it has {len(name)} characters, and what is called after it leaves {room}")
    if name in _YAML_WORDS:
        raise _refused(name, "YAML reads it as true, false or null")
    if name in _OURS or f"{name}-helm" in taken or name in taken:
        raise _refused(name, "the repository has a part of that name")
    if name in parts:
        raise _refused(name, f"a chart in {pipeline.chart.path}/charts is called so")
    if python and (why := _module_taken(spelling.module)):
        raise _refused(name, why)


def _module_taken(module: str) -> str:
    from importlib.metadata import packages_distributions

    if keyword.iskeyword(module):
        return f"its Python package cannot be called {module}, a word of the language"
    if module in sys.stdlib_module_names:
        return f"its Python package would hide Python's own {module}"
    if owners := packages_distributions().get(module):
        return f"its Python package would hide {module} of {owners[0]}"
    return ""


def _refused(name: str, why: str) -> BadInput:
    return BadInput(
        f"{name!r} cannot be the app's name: {why}", "choose another one, such as order-desk: --name"
    )
