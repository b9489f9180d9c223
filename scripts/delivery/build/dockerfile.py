"""What a Dockerfile says before it is built: which arguments it takes, and which images it starts from."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

VERSION = "org.opencontainers.image.version"

_HEREDOC = re.compile(r"<<-?[\"']?(\w+)[\"']?")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))")


@dataclass(frozen=True)
class Dockerfile:
    """`arguments` are the names that it takes, `bases` the images outside of it, `labels` the text of its labels."""

    arguments: frozenset[str]
    bases: tuple[str, ...]
    labels: str


def read(text: str, given: Mapping[str, str]) -> Dockerfile:
    """Read it as it will be built with the arguments that are `given`."""
    arguments: set[str] = set()
    stages: set[str] = {"scratch"}
    before: dict[str, str] = {}  # what the arguments before the first stage are: a FROM may use these alone
    bases: dict[str, None] = {}
    labels: list[str] = []
    staged = False
    for word, rest in _instructions(text):
        if word == "ARG":
            for one in rest.split():
                name, _, default = one.partition("=")
                arguments.add(name)
                if not staged:
                    before[name] = given.get(name, default.strip("\"'"))
        elif word == "FROM":
            image, *more = [one for one in rest.split() if not one.startswith("--")]
            image, staged = _filled(image, before), True
            if image.lower() not in stages:
                bases[image] = None
            if len(more) == 2:
                stages.add(more[1].lower())
        elif word == "COPY":
            found = re.search(r"--from=(\S+)", rest)
            if found and found[1].lower() not in stages and not found[1].isdigit():
                bases[_filled(found[1], before)] = None
        elif word == "LABEL":
            labels.append(rest)
    return Dockerfile(frozenset(arguments), tuple(sorted(bases)), "\n".join(labels))


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = iter(text.splitlines())
    for line in lines:
        whole = line
        while whole.rstrip().endswith("\\"):
            following = next(lines, "")
            while following.lstrip().startswith("#"):  # may stand between the lines of one instruction
                following = next(lines, "")
            whole = f"{whole.rstrip()[:-1]} {following}"
        if not whole.strip() or whole.lstrip().startswith("#"):
            continue
        word, _, rest = whole.strip().partition(" ")
        if word.upper() in ("RUN", "COPY", "ADD"):
            for end in _HEREDOC.findall(rest):
                for inside in lines:
                    if inside.strip() == end:
                        break
        yield word.upper(), rest.strip()


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[3]) or found[2] or "", text)
