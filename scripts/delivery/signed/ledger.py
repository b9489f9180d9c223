"""The ledger: what was signed, on a branch of the same repository that only ever grows.

Whoever may write to the registry can take a FAILED result away there. The ledger still has its hash, and what it has
and the registry has not refuses. One file for each digest and environment, one hash a line.

And what entered is there, for `delivery history`, which cannot ask the registry a thousand times: one file for each
change of an environment, one signed statement a line, the entry and all that it rests on. It counts by its signatures,
as it does in the registry.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from delivery.context import Context
from delivery.desired import change
from delivery.errors import NotReached
from delivery.parts import git
from delivery.parts.cosign import Envelope
from delivery.pipeline import Environment

BRANCH = "delivery-evidence"
_REF = f"refs/heads/{BRANCH}"
_ATTEMPTS = 5
_ENTERED = "entered/"


@dataclass(frozen=True)
class Ledger:
    """The ledger as one of its commits has it; with no commit it is empty."""

    _repository: git.Repository
    _commit: str

    def changes(self) -> frozenset[tuple[str, str]]:
        """Environment and commit of every change that it has statements of."""
        if not self._commit:
            return frozenset()
        said = self._repository.run("ls-tree", "-r", "-z", "--name-only", self._commit, "--", _ENTERED)
        names = (one.removeprefix(_ENTERED).partition("/") for one in said.split("\0") if one)
        return frozenset((environment, commit) for environment, _, commit in names)

    def statements(self, changes: Iterable[tuple[str, str]]) -> dict[tuple[str, str], list[bytes]]:
        """What was signed about these changes, as it was signed; one of which it has nothing is left out."""
        wanted = list(changes)
        if not self._commit or not wanted:
            return {}
        found = self._repository.objects(f"{self._commit}:{_entered(*one)}" for one in wanted)
        return {
            change: file[1].splitlines()
            for change, file in zip(wanted, found, strict=True)
            if file is not None
        }


@contextmanager
def opened(context: Context) -> Iterator[Ledger]:
    """The newest ledger of the server, to read in."""
    with _repository(context) as repository:
        yield Ledger(repository, _newest(context, repository))


def record(context: Context, digest: str, environment: Environment, hash_: str) -> None:
    """Add the hash of a signed test result, on top of whoever else was faster; NotReached when too many were."""
    message = f"{environment.name} tested {digest[:19]}\n"
    if not _add(context, _file(digest, environment), [hash_], message):
        raise NotReached(f"{_MOVED}: the test is not on record", "test again")


def keep(context: Context, environment: Environment, commit: str, signed: Iterable[Envelope]) -> None:
    """Add the entry of a change into an environment and what it rests on; NotReached when others were faster."""
    lines = [
        json.dumps(json.loads(one.text), sort_keys=True) for one in signed
    ]  # whoever wrote it down: one line
    if not _add(
        context, _entered(environment.name, commit), lines, f"{environment.name} has {commit[:12]}\n"
    ):
        raise NotReached(f"{_MOVED}: the entry is not on record", "run the same command again")


def recorded(context: Context, digest: str, environment: Environment) -> tuple[str, ...]:
    """The hashes of an environment's test results about a digest, oldest first; none where nothing was ever tested."""
    with _repository(context) as repository:
        return _lines(repository, _newest(context, repository), _file(digest, environment))


_MOVED = f"{BRANCH} moved {_ATTEMPTS} times while we pushed"


def _add(context: Context, name: str, lines: Iterable[str], message: str) -> bool:
    """Add those lines to a file that it lacks; whether they are there now. Fewer attempts than writers may lose."""
    with _repository(context) as repository:
        for _ in range(_ATTEMPTS):
            before = _newest(context, repository)
            known = _lines(repository, before, name)
            missing = [one for one in dict.fromkeys(lines) if one not in known]
            if not missing:
                return True
            if before:
                repository.raw("read-tree", before)
            text = "".join(f"{one}\n" for one in (*known, *missing))
            blob = repository.raw("hash-object", "-w", "--stdin", reads=text.encode("ascii")).decode().strip()
            repository.raw("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
            made = repository.commit_on(before, message, change.author(context))
            try:
                repository.push(made, BRANCH)
            except git.PushRejected:
                continue
            return True
    return False


def _file(digest: str, environment: Environment) -> str:
    return f"{digest.removeprefix('sha256:')}/{environment.name}"


def _entered(environment: str, commit: str) -> str:
    return f"{_ENTERED}{environment}/{commit}"


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
    return repository.fetch(_REF, shallow=True)


def _lines(repository: git.Repository, commit: str, name: str) -> tuple[str, ...]:
    text = repository.show(commit, name) if commit else None
    return tuple((text or b"").decode("ascii", "replace").splitlines())
