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
    """A name as Kubernetes, registries and folders write it, and as Python, Prometheus and databases do.

    The two always differ. Where they were alike, the app's folder would stand in the way of its own Python package
    (`import shop` finds shop/ before shop/shop/), and a next name could not tell which one is meant.
    """

    name: str

    @property
    def module(self) -> str:
        """The Python package, which is also the prefix of metrics and the name of the database."""
        return self.name.replace("-", "_") if "-" in self.name else f"{self.name}_app"

    def spelled_in(self, text: str) -> bool:
        """Whether one of the two stands in a text, as a word."""
        return bool(self.pattern.search(text))

    @property
    def pattern(self) -> re.Pattern[str]:
        """Finds both, each as a word; what was found is group 1 or 2."""
        # A dash says that it is a name: an underscore beside it is not part of the word. `shop_2` is another word.
        beside = "A-Za-z0-9" if "-" in self.name else "A-Za-z0-9_"
        module = rf"(?<![A-Za-z0-9])({self.module})(?![A-Za-z0-9])"
        return re.compile(rf"{module}|(?<![{beside}])({self.name})(?![{beside}])")


def renamed(text: str, old: Spelling, new: Spelling) -> str:
    """The text, or the path, with one name for another wherever it stands as a word."""
    return old.pattern.sub(lambda found: new.module if found[1] else new.name, text)


def renamed_prose(text: str, old: Spelling, new: Spelling) -> str:
    """The same for Markdown, where what stands in columns goes on standing in columns."""

    def line(found: re.Match[str]) -> str:
        word, gap = renamed(found[1], old, new), len(found[0])
        return word + " " * max(2, gap - len(word)) if word != found[1] else found[0]

    return renamed(re.sub(r"(?m)^(\S+) {2,}(?=\S)", line, text), old, new)


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
    if python and (why := _module_taken(name) or _module_taken(spelling.module)):
        raise _refused(name, why)


def _module_taken(module: str) -> str:
    """Whose the module of that name is already: the app's folder and its package can both be imported."""
    from importlib.metadata import packages_distributions

    if keyword.iskeyword(module):
        return f"{module} is a word of Python"
    if module in sys.stdlib_module_names or module == "test":  # Python leaves its own tests out of that list
        return f"it would hide Python's own module {module}"
    if owners := packages_distributions().get(module):
        return f"it would hide the module {module} of {owners[0]}"
    return ""


def _refused(name: str, why: str) -> BadInput:
    return BadInput(
        f"{name!r} cannot be the app's name: {why}", "choose another one, such as order-desk: --name"
    )
