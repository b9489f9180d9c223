"""The commit that asks an environment for a release: the image in one values file, and a message that says all.

The gate of a guarded environment signs it. Never by force. When somebody else was faster, everything is checked again
on what is there now.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path

from delivery.context import Context
from delivery.desired import manifests as desired
from delivery.desired.manifests import Desired
from delivery.errors import BadInput, NotReached, Refused
from delivery.parts import git, values
from delivery.pipeline import Environment

ATTEMPTS = 5


@dataclass(frozen=True)
class Request:
    """What is asked for: this digest in that environment."""

    environment: Environment
    digest: str
    build: str
    revision: str
    promoted_from: str | None
    evidence: str = ""  # the hash of what the gate rested on
    approved_by: tuple[str, ...] = ()
    stands: str = ""  # the commit that asks for exactly this already
    release: str = ""  # of a rollback: the commit whose chart and values the environment gets again
    reason: str = ""  # of a rollback through a freeze


@dataclass(frozen=True)
class Change:
    """What came of it: the commit on the server that asks for the release, new or already there."""

    commit: str
    release: str  # the commit whose chart and values the environment is to have; of a rollback an older one
    before: str
    desired: Desired
    new: bool


@dataclass(frozen=True)
class Record:
    """One change of the past, as its commit tells it."""

    commit: str
    date: str
    author: str
    environment: str
    build: str
    before: str
    after: str
    revision: str
    promoted_from: str
    evidence: str
    approved_by: str
    requested_by: str
    restores: str  # of a rollback: the commit that it goes back to
    reason: str

    @property
    def release(self) -> str:
        """The commit whose chart and values the environment has by this change."""
        return self.restores or self.commit

    @property
    def rollback(self) -> bool:
        """Whether it went back to what had been there before."""
        return self.promoted_from == self.environment


def apply(
    context: Context,
    plan: Callable[[git.Repository, str], Request],
    sign: Callable[[bytes], str] | None = None,
    render: Callable[[Path, Environment, str], Desired] | None = None,
) -> Change:
    """Commit and push what `plan` asks for on top of the server's branch.

    `plan(repository, commit)` checks every precondition on exactly that commit and raises when one fails;
    it is asked again for each new commit that a race puts below ours. The new values must render before
    anything is written. `sign` makes the signature of a commit that enters a guarded environment.
    """
    render = render or (
        lambda tree, environment, commit: desired.rendered(context, tree, environment, commit)
    )
    by = author(context)
    with git.clone(context.site.git, context.pipeline.git.branch) as repository:
        for _ in range(ATTEMPTS):
            base = repository.commit("HEAD")
            request = plan(repository, base)
            before, changed = write(context, repository.path, request, _restored(repository, request))
            if request.release:
                asked = desired.at(context, repository, request.environment, request.release)
            else:
                asked = render(repository.path, request.environment, base)
            if request.stands or not (changed or request.environment.guarded):
                stands = request.stands or base
                return Change(stands, request.release or stands, before, asked, new=False)
            commit = _commit(repository, request, before, by, sign)
            try:
                repository.push(commit, context.pipeline.git.branch)
            except git.PushRejected:
                newest = repository.fetch(f"refs/heads/{context.pipeline.git.branch}")
                repository.raw("reset", "--hard", "--quiet", newest)
                continue
            return Change(commit, request.release or commit, before, asked, new=True)
    raise NotReached(
        f"{context.pipeline.git.branch} moved {ATTEMPTS} times while we pushed; nothing was written",
        "run it again",
    )


def publish(context: Context) -> bool:
    """Bring the checkout's HEAD to the server's branch, forward only; False when it is already in there."""
    checkout = git.Repository(git.checkout(context.checkout).path, context.site.git)
    head = checkout.commit("HEAD")
    branch = context.pipeline.git.branch
    for _ in range(ATTEMPTS):
        there = checkout.fetch(f"refs/heads/{branch}")
        if checkout.ok("merge-base", "--is-ancestor", head, there):
            return False
        if not checkout.ok("merge-base", "--is-ancestor", there, head):
            raise BadInput(
                f"HEAD ({head[:12]}) and {branch} of the Git server ({there[:12]}) have diverged",
                f"git pull --rebase {context.site.git.url} {branch}",
            )
        try:
            checkout.push(head, branch)
        except git.PushRejected:
            continue
        return True
    raise NotReached(f"{branch} moved {ATTEMPTS} times while we pushed; nothing was written", "run it again")


def history(repository: git.Repository, commit: str = "HEAD") -> Iterator[Record]:
    """The changes that led to a commit, newest first, as they tell it themselves; other commits are passed over.

    What counts in a guarded environment is what its gate signed: signed/commits.py.
    """
    trailers = (
        *("Environment", "Build", "Digest-Before", "Digest-After", "Source-Revision", "Promoted-From"),
        *("Evidence", "Approved-By", "Requested-By", "Restores", "Reason"),
    )
    fields = ["%H", "%aI", "%an", *(f"%(trailers:key={name},valueonly,separator=%x20)" for name in trailers)]
    for record in repository.run("log", "-z", f"--format={'%x1f'.join(fields)}", commit).split("\0"):
        cut = [field.strip() for field in record.split("\x1f")]
        if len(cut) == len(fields) and cut[3] and cut[6]:
            yield Record(*cut)


def held(records: Sequence[Record], digest: str) -> datetime | None:
    """When a digest was rolled back out of an environment, to the end of that second; None if it was not, or came back.

    `records` are the environment's, newest first. What was rolled back needs a newer test, and with it a newer
    approval, before it enters again: also under a digest that stayed, when its chart or values went back.
    """
    for one, before in zip_longest(records, records[1:]):
        if one.rollback and one.before == digest:
            if one.after == digest and before and one.release == before.release:
                continue  # it only said again what had entered
            return datetime.fromisoformat(one.date).astimezone(UTC) + timedelta(seconds=1)
        if one.after == digest:
            return None
    return None


def wanted(
    repository: git.Repository,
    source: Environment,
    environment: Environment,
    commit: str,
    meant: str | None = None,
) -> str:
    """What can enter an environment: the digest that the one before asks for; Refused when another is meant."""
    try:
        _, asked = desired.image(repository, source, commit)
    except desired.NothingYet as error:
        raise Refused(
            f"nothing can enter {environment.name}: {error.message}",
            f"first: delivery {'promote ' + source.name if source.source else 'deploy'}",
        ) from None
    if meant is not None and asked != meant:
        raise Refused(
            f"{source.name} asks for {asked[:19]}, not for {meant[:19]}: "
            f"{environment.name} takes only what {source.name} runs",
            f"bring it to {source.name} first, or promote what is there",
        )
    return asked


def write(context: Context, tree: Path, request: Request, restored: bytes | None = None) -> tuple[str, bool]:
    """Change what the values say of the image on disk; the digest before, and whether anything is different now.

    `restored` is the whole values file of a rollback.
    """
    name = request.environment.values
    file = tree / name
    try:
        text = file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise BadInput(f"{name} is not in Git", "see pipeline.yaml: values") from None
    except UnicodeDecodeError:
        raise BadInput(f"{name} is not UTF-8 text", f"see who wrote it: git log -- {name}") from None
    try:
        before = desired.named(text, name)[1]
    except desired.NothingYet:
        before = "none"
    if restored is not None:
        file.write_bytes(restored)
        return before, restored.decode("utf-8") != text
    after = values.replace(text, desired.naming(context, request.build, request.digest), name)
    file.write_bytes(after.encode("utf-8"))
    return before, after != text


def _restored(repository: git.Repository, request: Request) -> bytes | None:
    return desired.file(repository, request.environment, request.release) if request.release else None


def _commit(
    repository: git.Repository,
    request: Request,
    before: str,
    author: tuple[str, str],
    sign: Callable[[bytes], str] | None,
) -> str:
    name, email = author
    environment = request.environment
    app = repository_name(environment)
    trailers = {
        "Environment": environment.name,
        "Build": request.build,
        "Digest-Before": before,
        "Digest-After": request.digest,
        "Source-Revision": request.revision,
        "Promoted-From": request.promoted_from or "build",
        "Evidence": f"sha256:{request.evidence}" if request.evidence else "",
        "Approved-By": ", ".join(request.approved_by),
        "Requested-By": f"{name} <{email}>",
        "Restores": request.release,
        "Reason": request.reason,
    }
    message = f"{environment.name}: {app} {request.build}\n\n"
    message += "".join(f"{key}: {value}\n" for key, value in trailers.items() if value)
    repository.raw("add", "--", environment.values)
    return repository.commit_signed(message, author, sign)


def repository_name(environment: Environment) -> str:
    """The app's name for people: its Application without the environment."""
    return environment.application.removesuffix(f"-{environment.name}")


def author(context: Context) -> tuple[str, str]:
    """Name and e-mail of who asks, as git of this checkout knows them."""
    try:
        said = git.Repository(context.checkout).run("config", "--get-regexp", r"^user\.(name|email)$")
    except git.GitFailed:  # neither is there
        said = ""
    found = {key: value for key, _, value in (line.partition(" ") for line in said.splitlines())}

    def configured(key: str, fallback: str) -> str:
        return " ".join(found.get(key, "").replace("<", "").replace(">", "").split()) or fallback

    return configured("user.name", "delivery"), configured("user.email", "delivery@localhost")
