"""`delivery environment add` and `remove`: pipeline.yaml, the values file, and everything that follows from them.

The rules of the new environment are those of the one before it. Nothing is written unless all of it can be, and
nothing that would open the lock of an environment that stays.
"""

import posixpath
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml

from delivery.desired import amend, derived, manifests, tree
from delivery.desired.derived import Files
from delivery.errors import BadInput, Refused
from delivery.gate.weaker import weaker
from delivery.parts import git, values
from delivery.pipeline import FILE, Environment, Pipeline, parse

_NODE_PORTS = range(30000, 32768)
_NODE_PORT = ("service", "nodePort")


def add(
    pipeline: Pipeline, name: str, after: str, requires: Collection[str] = (), dry_run: bool = False
) -> str:
    """Add an environment that takes its digests from `after`; the difference, as a diff.

    BadInput for a name that is taken or that Kubernetes refuses, an unknown `after` or suite, or a dirty tree; Refused
    when an environment after it would ask for less than now.
    """
    root, before = pipeline.root, pipeline.environment(after)
    if any(one.name == name for one in pipeline.environments):
        raise BadInput(f"there is an environment {name} already", f"choose another name; see {FILE}")
    for suite in requires:
        if not (root / tree.SUITES / suite).is_dir():
            raise BadInput(f"there is no suite {suite!r}", f"write it first, as a folder of {tree.SUITES}")
    _insist_clean(root)
    path = _values_path(before, name)
    if derived.read(root, path) is not None:
        raise BadInput(f"{path} is there already", "remove it first, or choose another name")
    text = amend.added(_text(root), name, after, _block(_facts(pipeline, before, name, requires)))
    try:
        changed = parse(text, root)
    except BadInput as error:
        why = error.message.removeprefix(f"{root / FILE}:").partition(": ")[2]
        raise BadInput(
            f"{name!r} cannot be an environment's name here: {why}", "choose another name"
        ) from None
    _insist_on_locks(pipeline, changed)
    changes: Files = {FILE: text, path: _values(pipeline, before, name)}
    return _done(pipeline, changed, changes, dry_run)


def remove(pipeline: Pipeline, name: str, dry_run: bool = False) -> str:
    """Remove an environment, its values file and everything that followed from it; the difference, as a diff.

    BadInput when it is unknown, the first or the only one, or the tree is dirty; Refused when the environment after it
    would ask for less than now.
    """
    root, environment = pipeline.root, pipeline.environment(name)
    if len(pipeline.environments) == 1:
        raise BadInput(f"{name} is the only environment", "add the one that takes its place first")
    if environment.source is None:
        raise BadInput(
            f"{name} is the first environment: what the build makes enters there",
            f"rename it by hand if its name is wrong, in {FILE}; then: delivery generate",
        )
    _insist_clean(root)
    text = amend.removed(_text(root), name)
    changed = parse(text, root)
    _insist_on_locks(pipeline, changed)
    return _done(pipeline, changed, {FILE: text, environment.values: None}, dry_run)


def _done(before: Pipeline, after: Pipeline, changes: Files, dry_run: bool) -> str:
    root = before.root
    if not _differs_in_one(before, after):
        raise BadInput(f"{FILE} cannot be changed there alone", "change it by hand; then: delivery generate")
    changes |= derived.stale(root, derived.files(after))
    said = derived.difference(root, changes)
    if not dry_run:
        derived.write(root, changes)
    return said


def _differs_in_one(before: Pipeline, after: Pipeline) -> bool:
    """Whether nothing changed but that one environment came or went, and what each site says of it."""
    old, new = ({one.name: one.model_dump() for one in half.environments} for half in (before, after))
    places = {"environments", "sites"}
    return (
        len(old.keys() ^ new.keys()) == 1
        and all(old[name] == new[name] for name in old.keys() & new.keys())
        and before.model_dump(exclude=places) == after.model_dump(exclude=places)
    )


def _insist_clean(root: Path) -> None:
    changed = git.checkout(root).run("status", "--porcelain").splitlines()
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise BadInput(f"the tree is dirty: {changed[0].strip()}{more}", "commit or stash first")


def _insist_on_locks(before: Pipeline, after: Pipeline) -> None:
    if reasons := weaker(before, after):
        more = f" (and {len(reasons) - 1} more: {'; '.join(reasons[1:])})" if len(reasons) > 1 else ""
        raise Refused(
            f"a lock would open: {reasons[0]}{more}",
            f"ask for as much in the environment that takes its place, or change {FILE} by hand, where others see it",
        )


def _facts(
    pipeline: Pipeline, before: Environment, name: str, requires: Collection[str]
) -> dict[str, object]:
    """The new environment's keys and values: those of the one before, under its own name."""
    facts: dict[str, object] = {
        "name": name,
        "namespace": _renamed(before.namespace, before.name, name) or name,
        "application": _renamed(before.application, before.name, name) or f"{pipeline.chart.release}-{name}",
        "values": _values_path(before, name),
        # What comes after the first has something before it that can vouch for its digests.
        "admits": before.admits if before.guarded else "tested",
        "tests": before.tests.model_dump(exclude_defaults=True, mode="json"),
    }
    if requires:
        facts["tests"] |= {"requires": list(requires)}  # type: ignore[operator]
    if before.approval:
        facts["approval"] = before.approval.model_dump(mode="json")
    if before.freeze:
        facts["freeze"] = [one.model_dump(mode="json", by_alias=True) for one in before.freeze]
    return facts


def _values_path(before: Environment, name: str) -> str:
    folder, _, file = before.values.rpartition("/")
    return posixpath.join(folder, _renamed(file, before.name, name) or f"values-{name}.yaml")


def _block(facts: dict[str, object]) -> str:
    """The environment as pipeline.yaml writes one: a line for each key, a list in one line."""
    lines = _lines(facts)
    return "".join(f"{'  - ' if number == 0 else '    '}{line}\n" for number, line in enumerate(lines))


def _lines(facts: Mapping[str, object]) -> list[str]:
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {line}" for line in _lines(value))]
        else:
            lines.append(f"{key}: {_plain(value)}")
    return lines


def _plain(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=10000, sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _values(pipeline: Pipeline, before: Environment, name: str) -> str:
    """The new values file: what the one before says, without its digest and with a node port of its own."""
    text = _read(pipeline.root, before.values)
    changes: dict[values.Path, str | int] = {
        manifests.REPOSITORY: manifests.UNSET,
        manifests.TAG: manifests.UNSET,
        manifests.DIGEST: manifests.UNSET,
    }
    data = values.read(text, before.values)
    if "environment" in data:
        changes["environment",] = name
    if _node_port(data):
        changes[_NODE_PORT] = _free_node_port(pipeline)
    lines = values.replace(text, changes, before.values).splitlines(keepends=True)
    return "".join(_comment(line, before, name) for line in lines)


def _comment(line: str, before: Environment, name: str) -> str:
    """A whole-line comment that speaks of the environment before speaks of the new one."""
    if not line.lstrip().startswith("#"):
        return line
    line = line.replace("`delivery deploy`", f"`delivery promote {name}`")
    return re.sub(_word(before.name), name, line)


def _free_node_port(pipeline: Pipeline) -> int:
    files = [one.values for one in pipeline.environments]
    taken = {_node_port(values.read(_read(pipeline.root, file), file)) for file in files}
    above = max(taken) + 1
    ports = (*range(above, _NODE_PORTS.stop), *_NODE_PORTS)
    return next(port for port in ports if port in _NODE_PORTS and port not in taken)


def _node_port(data: dict[str, object]) -> int:
    service = data.get("service")
    found = service.get("nodePort") if isinstance(service, dict) else None
    return found if isinstance(found, int) else 0


def _renamed(text: str, old: str, new: str) -> str | None:
    """The text with one name for another where it stands last, as a word; None when it does not stand there."""
    found = list(re.finditer(_word(old), text))
    return text[: found[-1].start()] + new + text[found[-1].end() :] if found else None


def _word(name: str) -> str:
    return rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])"


def _text(root: Path) -> str:
    return _read(root, FILE)


def _read(root: Path, path: str) -> str:
    text = derived.read(root, path)
    if text is None:
        raise BadInput(f"{path} is missing", f"restore it from Git: git checkout {path}")
    return text
