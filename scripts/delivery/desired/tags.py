"""The tags of the strategy release-branch: what they are called, and on which commit they stand.

Each change of a guarded environment is an annotated tag that its gate signed: `ENV-1`, `ENV-2`, … of one between the
first and the last, `v1.0`, `v1.1`, … of the last one. It stands on a commit that changes nothing, which the gate signed
too, and whose parent is the commit that enters: Argo CD looks at a tag's signature when it compares, and at that of
the commit itself when it syncs.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from delivery.context import Context
from delivery.errors import BadInput
from delivery.parts.git import Repository, tag_signature_of
from delivery.pipeline import RELEASE, Environment

LONG_AGO = datetime.fromtimestamp(
    0, UTC
)  # for a time that is none: anybody may write any into a commit or a tag
REQUEST = "request/"  # what a person asks by, with Git alone: request/v1.1, and the gate answers with v1.1
_VERSION = re.compile(r"^v(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})$")
_TRAILER = re.compile(r"^([A-Z][A-Za-z-]*): (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Tag:
    """An annotated tag of a commit, as it is stored."""

    id: str
    ref: str  # the name by which the server has it
    name: str  # the name that it was made with
    commit: str  # what it stands on
    date: str
    author: str
    trailers: dict[str, str]
    content: bytes  # what its signature is about
    signature: str  # empty when it has none


def every(repository: Repository, *names: str) -> dict[str, Tag]:
    """All annotated tags of commits that a repository has, or those of these names, by the names of their refs."""
    found = (_read(ref, *one) for ref, one in repository.tags(*names).items())
    return {one.ref: one for one in found if one is not None}


def _read(ref: str, id_: str, stored: bytes) -> Tag | None:
    """One of them, where what it does not say is empty; None when it is of anything but a commit."""
    content, signature = tag_signature_of(stored)
    head, _, message = content.decode("utf-8", "replace").partition("\n\n")
    fields = dict(line.partition(" ")[::2] for line in head.splitlines())
    if fields.get("type") != "commit":
        return None
    author, _, when = fields.get("tagger", "").rpartition("> ")
    try:
        at = datetime.fromtimestamp(int(when.partition(" ")[0]), UTC)
    except (ValueError, OverflowError, OSError):
        at = LONG_AGO
    return Tag(
        *(id_, ref, fields.get("tag", ""), fields.get("object", "")),
        *(at.isoformat(), author.partition(" <")[0], dict(_TRAILER.findall(message))),
        *(content, signature),
    )


def belongs(context: Context, environment: Environment, name: str) -> bool:
    """Whether a tag of this name is one of an environment's."""
    return _numbers(context, environment, name) is not None


def following(context: Context, environment: Environment, names: Iterable[str]) -> str:
    """The next name of an environment, after those that there are, whoever made them."""
    taken = [found for name in names if (found := _numbers(context, environment, name)) is not None]
    if environment.name == context.pipeline.environments[-1].name:
        major, minor = max(taken, default=(1, -1))
        return f"v{major}.{minor + 1}"
    return f"{environment.name}-{max(taken, default=(0, 0))[1] + 1}"


def version(context: Context, environment: Environment, name: str) -> str:
    """The name that was asked for, where it can be one; BadInput when it cannot."""
    if not context.pipeline.by_tag or environment.name != context.pipeline.environments[-1].name:
        raise BadInput(
            f"{environment.name} has no versions",
            f"strategy release-branch gives {context.pipeline.environments[-1].name} some",
        )
    if not _VERSION.match(name):
        raise BadInput(f"{name!r} is not a version", "it is v1.0, v1.1, …; without one it is the next")
    return name


def release_branch(repository: Repository) -> str:
    """Where the branch `release` is; empty when there is none."""
    here = repository.id_of(f"refs/remotes/origin/{RELEASE}")  # in a clone; else this is the server's own
    return here or repository.id_of(f"refs/heads/{RELEASE}")


def stands_on(repository: Repository, commit: str) -> str:
    """The commit of the branch, or of `release`, whose tree a release has: itself, or the one that it is on top of."""
    if in_a_branch(repository, commit):
        return commit
    return repository.id_of(f"{commit}^")


def in_a_branch(repository: Repository, commit: str) -> bool:
    """Whether a commit is in the environments' branch or in `release`."""
    release = release_branch(repository)
    return repository.contains(commit, "HEAD") or bool(release and repository.contains(commit, release))


def lacking(repository: Repository) -> list[str]:
    """The commits of `release` that the branch lacks, newest first, each as `id subject`."""
    release = release_branch(repository)
    return repository.run("log", "--format=%h %s", f"HEAD..{release}").splitlines() if release else []


def _numbers(context: Context, environment: Environment, name: str) -> tuple[int, int] | None:
    if environment.name == context.pipeline.environments[-1].name:
        found = _VERSION.match(name)
        return (int(found[1]), int(found[2])) if found else None
    found = re.match(rf"^{re.escape(environment.name)}-([1-9]\d*)$", name)
    return (0, int(found[1])) if found else None
