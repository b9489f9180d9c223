"""The rules in force: what the pipeline.yaml by which an environment was last entered locks, read leniently.

An older `delivery` may have written it. Only what locks is read: environments in their order, what they ask, who
approves. What lacks was not asked for. A key that nobody here knows may have been a lock, so it is told; what locks and
cannot be understood is not guessed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from delivery import pipeline as pipelines
from delivery.errors import BadInput, Unknown
from delivery.pipeline import Environment, Pipeline
from delivery.signed.statements import first

# What pipeline.yaml says beside its locks: it is not read, and of the target it is what it is today.
_BESIDE = frozenset(("image", "chart", "app", "ci", "git", "strategy", "waits", "sites"))
_FORMER = {"gates": "tests"}  # keys of environments under the name that they had
# Keys that there were, and that locked nothing that is not locked now.
_NO_LOCKS = frozenset(("clusters", "signers", "sync"))
WAY_OUT = "promote once with the delivery of that commit, by a pipeline.yaml that both read"


@dataclass(frozen=True)
class InForce:
    """The rules by which an environment was last entered: they hold until something enters by newer ones."""

    commit: str
    pipeline: Pipeline
    strange: tuple[
        str, ...
    ] = ()  # keys of the file that this delivery does not know, each with where it stood
    keys: tuple[str, ...] = ()  # where another key of a developer stands in the same file now


def read(commit: str, text: bytes | None, now: Pipeline, name: str) -> InForce | Unknown:
    """The rules that a commit has for the environment `name`; all that does not lock is as `now` has it.

    Unknown, with what to do about it, where a lock cannot be understood.
    """
    try:
        if text is None:
            raise BadInput(f"it has no {pipelines.FILE}", "")
        data = YAML(typ="safe", pure=True).load(text.decode("utf-8", "replace"))
        if not isinstance(data, dict):
            raise BadInput(f"its {pipelines.FILE} is no mapping", "")
        strange = [str(one) for one in data if one not in Pipeline.model_fields and one not in _NO_LOCKS]
        locks: dict[str, Any] = {
            "environments": tuple(_environments(data.get("environments"), now.root, strange))
        }
        for key, field in Pipeline.model_fields.items():
            if key not in _BESIDE and key not in locks:
                default = field.get_default(call_default_factory=True)
                asked: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
                locks[key] = asked.validate_python(data.get(key, default), context={"root": now.root})
        pipeline = now.model_copy(update=locks)
        pipeline.environment(name)
    except (ValidationError, BadInput, YAMLError) as error:
        why = error.message if isinstance(error, BadInput) else "it is not YAML"
        if isinstance(error, ValidationError):
            why = f"{key}: {first(error)}"
        return Unknown(f"the rules in force since {commit[:12]} cannot be understood: {why}; {WAY_OUT}")
    return InForce(commit, pipeline, tuple(strange))


def approving(target: Environment, old: InForce | Unknown | None) -> Environment | None:
    """The target by whose rule somebody has to approve: as it is now, else as it was when it was last entered."""
    if target.approval or not isinstance(old, InForce):
        return target if target.approval else None
    before = old.pipeline.environment(target.name)
    return before if before.approval else None


def _environments(said: Any, root: Path, strange: list[str]) -> Iterator[Environment]:
    if not isinstance(said, list) or not said:
        raise BadInput("environments: it lists none", "")
    names: list[str] = []
    for one in said:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise BadInput("environments: one has no name", "")
        name = one["name"]
        # What places it is no lock, and what admits was not written down then.
        placed = {"namespace": name, "application": name, "values": f"{name}.yaml"}
        data: dict[str, Any] = placed | {"admits": "anything"}
        data |= {_FORMER.get(key, str(key)): value for key, value in one.items() if key not in _NO_LOCKS}
        source = data.pop("source", names[-1] if names else None)
        if source not in (*names, None):
            raise BadInput(f"environments: {name} has no source that stands before it", "")
        try:
            Environment.model_validate(data, context={"root": root})
        except ValidationError as error:
            wrong = error.errors(include_url=False)
            if any(found["type"] != "extra_forbidden" for found in wrong):
                raise BadInput(f"{name}: {first(error)}", "") from None
            strange += [f"{name}.{'.'.join(map(str, found['loc']))}" for found in wrong]
        made = Environment.model_validate(data, extra="ignore", context={"root": root})
        made._source = source
        yield made
        names.append(name)
