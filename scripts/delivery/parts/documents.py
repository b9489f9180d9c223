"""YAML documents as plain data: what Helm renders, what the templates of policy/ and argocd/ make."""

from typing import Any

import yaml

# In C it takes a twentieth of the time, and a proof reads hundreds of documents.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


Malformed = yaml.YAMLError


class _Loader(_Safe):  # type: ignore[misc]
    """A safe loader that takes a plain equals sign for what it is (https://github.com/yaml/pyyaml/issues/89)."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


def every(text: str | bytes) -> list[Any]:
    """All documents of a text but the empty ones; Malformed when it is none."""
    return [one for one in yaml.load_all(text, Loader=_Loader) if one]


def one(text: str | bytes) -> Any:
    """The document of a text; Malformed when it is none, or more than one."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a safe one
