"""The kinds that the chart may bring, as argocd/projects/kinds.yaml names them: a team's own file, a kustomize patch.

Projects take the kinds from there; here they become what RBAC lets Argo CD write.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from delivery.errors import BadInput
from delivery.fields import Model

FILE = "argocd/projects/kinds.yaml"


class Kind(Model):
    """One kind of object: its API group, empty for the core one, and its name. No pattern: RBAC knows none."""

    group: Annotated[str, Field(pattern=r"^[a-z0-9.-]*$")]
    kind: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$")]

    @property
    def resource(self) -> str:
        """What the API server calls objects of it, by the rule that Kubernetes itself guesses by."""
        name = self.kind.lower()
        if name == "endpoints":
            return name
        if name.endswith("s"):
            return f"{name}es"
        return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


class _Patch(Model):
    op: Literal["add"]
    path: Literal["/spec/namespaceResourceWhitelist"]
    value: Annotated[tuple[Kind, ...], Field(min_length=1)]


_FORM = TypeAdapter(tuple[_Patch])


def named(root: Path) -> tuple[Kind, ...]:
    """The kinds of a checkout, as the file has them; BadInput when it is missing or is not such a patch."""
    from delivery.parts import documents

    try:
        text = (root / FILE).read_text(encoding="utf-8")
        [patch] = _FORM.validate_python(documents.one(text))
    except (OSError, UnicodeError):
        raise BadInput(f"{FILE} cannot be read", f"restore it: git checkout {FILE}") from None
    except (documents.Malformed, ValidationError) as error:
        raise BadInput(
            f"{FILE} is not a patch that names kinds: {_why(error)}",
            "one operation: add to /spec/namespaceResourceWhitelist a list of { group, kind }, each by its name",
        ) from None
    return patch.value


def resources(root: Path) -> dict[str, list[str]]:
    """The same as RBAC names them: API group -> resources, in order."""
    found: dict[str, list[str]] = {}
    for one in named(root):
        found.setdefault(one.group, []).append(one.resource)
    return {group: sorted(set(names)) for group, names in sorted(found.items())}


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where + ': ' if where else ''}{first['msg']}"
    return " ".join(str(error).split())
