"""Values files: read them, and change single values in place. Every other byte stays as it was."""

from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode

from delivery.errors import BadInput

Path = tuple[str, ...]


def read(text: str, name: str) -> dict[str, Any]:
    """The file's values as plain data; BadInput names file and line when it is malformed."""
    return deepcopy(_read(text, name))


@lru_cache(maxsize=32)  # a decision reads the same few files again and again
def _read(text: str, name: str) -> dict[str, Any]:
    try:
        data = YAML(typ="safe", pure=True).load(StringIO(text))
    except YAMLError as error:
        raise _malformed(name, error) from None
    if not isinstance(data, dict):
        raise BadInput(f"{name}:1: must be a mapping of values", f"restore it from Git: git log -- {name}")
    return data


def get(text: str, path: Path, name: str) -> str:
    """One value that must be there and be a string."""
    value: Any = read(text, name)
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, str):
        what = "is missing" if value is None else f"must be a string, not {value!r}"
        raise BadInput(f"{name}: {'.'.join(path)} {what}", f"restore it from Git: git log -- {name}")
    return value


def replace(text: str, changes: Mapping[Path, str | int], name: str) -> str:
    """The text with exactly these values changed: comments, order, quoting and spacing survive."""
    before = read(text, name)
    try:
        tree = YAML(pure=True).compose(StringIO(text))
    except YAMLError as error:
        raise _malformed(name, error) from None
    edits = []
    for path, value in changes.items():
        node = _find(tree, path, name)
        edits.append((node.start_mark.index, node.end_mark.index, _written(value, node.style)))
    after = text
    for start, end, written in sorted(edits, reverse=True):
        after = after[:start] + written + after[end:]
    if _with(before, changes) != read(after, name):
        raise BadInput(
            f"{name}: {', '.join('.'.join(path) for path in changes)} cannot be changed alone",
            "write these values plainly, without anchors or tags",
        )
    return after


def _find(tree: Any, path: Path, name: str) -> ScalarNode:
    node = tree
    for key in path:
        pairs = node.value if isinstance(node, MappingNode) else []
        node = next((value for k, value in pairs if k.value == key), None)
    if not isinstance(node, ScalarNode) or node.style in ("|", ">"):
        line = f":{node.start_mark.line + 1}" if node is not None else ""
        what = "is missing" if node is None else "must be one plain value"
        raise BadInput(f"{name}{line}: {'.'.join(path)} {what}", f"restore it from Git: git log -- {name}")
    return node


def _written(value: str | int, style: str | None) -> str:
    if isinstance(value, int):
        return str(value)
    if style == "'":
        return f"'{value}'"
    plain = YAML(typ="safe", pure=True).load(StringIO(value)) == value
    return value if plain and style != '"' else f'"{value}"'


def _with(data: dict[str, Any], changes: Mapping[Path, str | int]) -> dict[str, Any]:
    changed = dict(data)
    for path, value in changes.items():
        head, *rest = path
        changed[head] = _with(changed[head], {tuple(rest): value}) if rest else value
    return changed


def _malformed(name: str, error: YAMLError) -> BadInput:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    return BadInput(
        f"{name}{f':{mark.line + 1}' if mark else ''}: not YAML: {what}",
        f"restore it from Git: git log -- {name}",
    )
