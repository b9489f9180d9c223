"""The ledger: the hashes of all evidence, on a branch of the same repository that only ever grows.

Whoever may write to the registry can take a FAILED result away there. The ledger still has its hash, and what it has
and the registry has not refuses. One file for each digest and environment, one hash a line.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from delivery.context import Context
from delivery.desired import change
from delivery.errors import NotReached
from delivery.parts import git
from delivery.pipeline import Environment

BRANCH = "delivery-evidence"
_REF = f"refs/heads/{BRANCH}"
_ATTEMPTS = 5


def record(context: Context, digest: str, environment: Environment, hash_: str) -> None:
    """Add the hash of a signed test result, on top of whoever else was faster; NotReached when too many were."""
    name = _file(digest, environment)
    with _repository(context) as repository:
        for _ in range(_ATTEMPTS):
            before = _newest(context, repository)
            known = _lines(repository, before, name)
            if hash_ in known:
                return
            if before:
                repository.raw("read-tree", before)
            file = repository.path / "lines"
            file.write_text("".join(f"{one}\n" for one in (*known, hash_)), encoding="ascii")
            blob = repository.run("hash-object", "-w", "--", str(file))
            repository.raw("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
            message = f"{environment.name} tested {digest[:19]}\n"
            made = repository.commit_on(before, message, change.author(context))
            try:
                repository.push(made, BRANCH)
            except git.PushRejected:
                continue
            return
    raise NotReached(
        f"{BRANCH} moved {_ATTEMPTS} times while we pushed: the test is not on record", "test again"
    )


def recorded(context: Context, digest: str, environment: Environment) -> tuple[str, ...]:
    """The hashes of an environment's test results about a digest, oldest first; none where nothing was ever tested."""
    with _repository(context) as repository:
        return _lines(repository, _newest(context, repository), _file(digest, environment))


def _file(digest: str, environment: Environment) -> str:
    return f"{digest.removeprefix('sha256:')}/{environment.name}"


@contextmanager
def _repository(context: Context) -> Iterator[git.Repository]:
    """An empty repository of our own: what else the server has is of no interest here."""
    with tempfile.TemporaryDirectory(prefix="delivery-ledger-", ignore_cleanup_errors=True) as folder:
        repository = git.Repository(Path(folder), context.site.git)
        repository.raw("init", "--quiet", "--template=", "--initial-branch=none")
        yield repository


def _newest(context: Context, repository: git.Repository) -> str:
    """The newest commit of the ledger, which is here afterwards; empty when there is none yet."""
    if git.server_ref(context.site.git, _REF) is None:
        return ""
    return repository.fetch(_REF)


def _lines(repository: git.Repository, commit: str, name: str) -> tuple[str, ...]:
    text = repository.show(commit, name) if commit else None
    return tuple((text or b"").decode("ascii", "replace").split())
