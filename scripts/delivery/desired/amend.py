"""pipeline.yaml with one environment more or less. Every other byte stays as it was, comments too."""

from collections.abc import Iterator
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from delivery.errors import BadInput
from delivery.pipeline import FILE

_HINT = "write environments and their ports plainly, without anchors or tags, or change the file by hand"


def added(text: str, name: str, after: str, block: str) -> str:
    """The text with the lines of `block` as the environment after `after`.

    Wherever environments have a port each, the new one gets one too: the next that is free.
    """
    root = _compose(text)
    items = _environments(root)
    index = _index(items, after)
    edits: list[tuple[int, int, str]] = []
    lines = text.splitlines(keepends=True)
    end = _end_of(lines, items, index)
    whole = sum(len(line) for line in lines[:end])
    edits.append((whole, whole, f"\n{block}"))
    taken = set(_ports(root))
    for mapping in _by_environment(root):
        entry = next((value for key, value in mapping.value if key.value == after), None)
        if entry is None or _integer(entry) is None:
            continue
        own = max(found for _, value in mapping.value if (found := _integer(value)) is not None)
        free = next(
            number for number in (*range(own + 1, 65536), *range(own, 1023, -1)) if number not in taken
        )
        taken.add(free)
        at = entry.end_mark.index
        line = f", {name}: {free}"
        if not mapping.flow_style:
            at = text.find("\n", at) + 1 or len(text)
            line = f"{' ' * mapping.value[0][0].start_mark.column}{name}: {free}\n"
        edits.append((at, at, line))
    return _edited(text, edits)


def removed(text: str, name: str) -> str:
    """The text without an environment, and without whatever is said for it elsewhere: ports, contexts, signers."""
    root = _compose(text)
    items = _environments(root)
    index = _index(items, name)
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    first, end = items[index].start_mark.line, _end_of(lines, items, index)
    # With the blank lines that stood between it and the next one or, where none follows, the one before.
    if index + 1 < len(items):
        while not lines[end].strip():
            end += 1
    else:
        while not lines[first - 1].strip():
            first -= 1
    edits = [(starts[first], starts[end], "")]
    for mapping in _by_environment(root):
        keys = [key.value for key, _ in mapping.value]
        if name in keys:
            edits.append(_without(text, starts, mapping, keys.index(name)))
    return _edited(text, edits)


def _without(text: str, starts: list[int], mapping: MappingNode, at: int) -> tuple[int, int, str]:
    key, value = mapping.value[at]
    if mapping.flow_style:
        if at:
            return mapping.value[at - 1][1].end_mark.index, value.end_mark.index, ""
        follows = mapping.value[1][0].start_mark.index if len(mapping.value) > 1 else value.end_mark.index
        return key.start_mark.index, follows, ""
    if len(mapping.value) == 1:  # an empty block would be null
        return key.start_mark.index, _last(value), "{}"
    return starts[key.start_mark.line], text.find("\n", _last(value)) + 1 or len(text), ""


def _compose(text: str) -> MappingNode:
    root = YAML(pure=True).compose(StringIO(text))
    if not isinstance(root, MappingNode):
        raise BadInput(f"{FILE}:1: must be a mapping", f"restore it from Git: git checkout {FILE}")
    return root


def _environments(root: MappingNode) -> list[MappingNode]:
    node = _get(root, "environments")
    if not isinstance(node, SequenceNode) or node.flow_style or node.anchor:
        raise BadInput(f"{FILE}: environments must be a list, one block each", _HINT)
    return list(node.value)


def _index(items: list[MappingNode], name: str) -> int:
    for index, item in enumerate(items):
        found = _get(item, "name")
        if isinstance(found, ScalarNode) and found.value == name:
            return index
    raise BadInput(f"{FILE}: no environment {name} is written out plainly", _HINT)


def _end_of(lines: list[str], items: list[MappingNode], index: int) -> int:
    """The line after the last one of an item; a comment at the margin, or above the next item, is not its own."""
    first = items[index].start_mark.line
    end = items[index + 1].start_mark.line if index + 1 < len(items) else len(lines)
    margin = len(lines[first]) - len(lines[first].lstrip())
    found = first + 1
    for number in range(first + 1, end):
        line = lines[number]
        if line.strip() and len(line) - len(line.lstrip()) <= margin:
            break
        if line.strip():
            found = number + 1
    return found


def _by_environment(root: MappingNode) -> Iterator[MappingNode]:
    """Every mapping below sites that says something for each environment."""
    yield from _below(_get(root, "sites"))


def _below(node: Node | None) -> Iterator[MappingNode]:
    if isinstance(node, SequenceNode):
        for item in node.value:
            yield from _below(item)
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if key.value in ("environments", "signers") and isinstance(value, MappingNode):
                yield value
            else:
                yield from _below(value)


def _ports(node: Node | None) -> Iterator[int]:
    if isinstance(node, ScalarNode) and (found := _integer(node)) is not None:
        yield found
    for child in node.value if isinstance(node, SequenceNode) else ():
        yield from _ports(child)
    for _, child in node.value if isinstance(node, MappingNode) else ():
        yield from _ports(child)


def _integer(node: Node) -> int | None:
    plain = isinstance(node, ScalarNode) and node.tag == "tag:yaml.org,2002:int"
    return int(node.value) if plain and node.value.isdecimal() else None


def _get(node: Any, key: str) -> Node | None:
    pairs = node.value if isinstance(node, MappingNode) else []
    return next((value for k, value in pairs if k.value == key), None)


def _last(node: Any) -> int:
    """Where a value's own text ends: the end of a block collection would be after the comments that follow it."""
    if isinstance(node, ScalarNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _last(last[1] if isinstance(node, MappingNode) else last)


def _edited(text: str, edits: list[tuple[int, int, str]]) -> str:
    for start, end, written in sorted(edits, reverse=True):
        text = text[:start] + written + text[end:]
    return text
