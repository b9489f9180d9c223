"""The change that asks an environment for a release: a commit that writes the image into its values file, or a tag.

Which of the two follows from pipeline.yaml's strategy: in release-branch a guarded environment gets a tag, and nothing
is written. The message says all, and the gate of a guarded environment signs it. Never by force. When somebody else was
faster, everything is checked again on what is there now.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path

from delivery.context import Context
from delivery.desired import manifests as desired
from delivery.desired import tags
from delivery.desired.manifests import Desired
from delivery.errors import BadInput, NotReached, Refused
from delivery.parts import git, values
from delivery.pipeline import RELEASE, Environment

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
    follows: "Record | None" = None  # the change by which the environment has what it runs
    tag: str = ""  # the change is a tag of this name, or the one that stands
    commit: str = (
        ""  # of a new tag that is no rollback: whose chart and values the environment gets as they are
    )
    forward: bool = False  # whether `release` goes forward to that commit, in the same push


@dataclass(frozen=True)
class Change:
    """What came of it: the commit or tag on the server that asks for the release, new or already there."""

    commit: str  # its id
    release: str  # the commit whose chart and values the environment is to have; of a rollback an older one
    before: str
    desired: Desired
    new: bool
    tag: str = ""  # its name, where it is a tag

    @property
    def pin(self) -> str:
        """What Argo CD is to keep a guarded environment at."""
        return self.tag or self.release


@dataclass(frozen=True)
class Record:
    """One change of the past, as its commit or its tag tells it."""

    commit: str  # its id
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
    restores: str  # of a rollback: the commit that it goes back to; of a tag: the one that it stands on
    reason: str
    tag: str = ""  # its name, where it is one
    follows: str = ""  # of a tag: the change before it in this environment
    judged: str = ""  # of a tag: the commit by whose pipeline.yaml its gate judged

    @property
    def rules(self) -> str:
        """The commit that has the pipeline.yaml by which it entered."""
        return self.judged or self.commit

    @property
    def at(self) -> datetime:
        """When it was made, as whoever made it says; long ago where that is no time."""
        try:
            return datetime.fromisoformat(self.date).astimezone(UTC)
        except (ValueError, OverflowError):
            return tags.LONG_AGO

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
    """Commit and push what `plan` asks for on top of the server's branch, or tag it.

    `plan(repository, commit)` checks every precondition on exactly that commit and raises when one fails;
    it is asked again for each new commit that a race puts below ours. The new values must render before
    anything is written. `sign` makes the signature of a commit that enters a guarded environment.
    """
    render = render or (
        lambda tree, environment, commit: desired.rendered(context, tree, environment, commit)
    )
    by = author(context)
    paths = [context.pipeline.chart.path, *(one.values for one in context.environments)]
    with git.clone(context.site.git, context.pipeline.git.branch, paths=paths) as repository:
        for _ in range(ATTEMPTS):
            base = repository.commit("HEAD")
            request = plan(repository, base)
            if request.tag:
                try:
                    return _tag(context, repository, request, base, by, sign)
                except git.PushRejected:
                    repository.update(context.pipeline.git.branch)
                    continue
            before, changed = write(context, repository.path, request, _restored(repository, request))
            if request.release:
                asked = desired.at(context, repository, request.environment, request.release)
            else:
                asked = render(repository.path, request.environment, base)
            if request.stands or not (changed or request.environment.guarded):
                stands = request.stands or base
                return Change(stands, request.release or stands, before, asked, new=False)
            commit = _commit(context, repository, request, before, by, sign)
            try:
                repository.push(commit, context.pipeline.git.branch)
            except git.PushRejected:
                repository.update(context.pipeline.git.branch)
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
    """The changes that led to a commit and all that are tags, newest first; other commits and tags are passed over.

    They tell it themselves. What counts in a guarded environment is what its gate signed: signed/commits.py. Both kinds
    count in either strategy, so that changing over loses nothing.
    """
    if made := list(_tagged(repository)):
        yield from sorted([*_committed(repository, commit), *made], key=lambda one: one.at, reverse=True)
    else:
        yield from _committed(repository, commit)


def _tagged(repository: git.Repository) -> Iterator[Record]:
    for one in tags.every(repository).values():
        said = [one.trailers.get(name, "") for name in _TRAILERS]
        if said[0] and said[3]:
            said[_TRAILERS.index("Restores")] = one.commit
            beside = (one.trailers.get("Follows", ""), one.trailers.get("Judged-By", ""))
            yield Record(*(one.id, one.date, one.author, *said, one.ref, *beside))


_TRAILERS = (
    *("Environment", "Build", "Digest-Before", "Digest-After", "Source-Revision", "Promoted-From"),
    *("Evidence", "Approved-By", "Requested-By", "Restores", "Reason"),
)


def _committed(repository: git.Repository, commit: str) -> Iterator[Record]:
    fields = ["%H", "%aI", "%an", *(f"%(trailers:key={name},valueonly,separator=%x20)" for name in _TRAILERS)]
    for record in repository.run("log", "-z", f"--format={'%x1f'.join(fields)}", commit).split("\0"):
        cut = [field.strip() for field in record.split("\x1f")]
        if len(cut) == len(fields) and cut[3] and cut[6]:
            yield Record(*cut)


def followed(context: Context, repository: git.Repository, environment: Environment) -> Iterator[Record]:
    """What else changed an environment that follows the branch: its chart or its values, under the digest it had.

    Newest first, as the commits tell it; nothing from before its first digest.
    """
    others = [f":(exclude){one.values}" for one in context.environments if one.name != environment.name]
    paths = [context.pipeline.chart.path, environment.values, *others]
    fields = ("%H", "%aI", "%an", "%ae")
    said = repository.run("log", "-z", f"--format={'%x1f'.join(fields)}", "HEAD", "--", *paths)
    deploys = {one.commit: one for one in history(repository) if one.environment == environment.name}
    runs: Record | None = None
    found: list[Record] = []
    for told in reversed(said.split("\0")):
        commit, *who = told.split("\x1f")
        if commit in deploys:
            runs = deploys[commit]
        elif runs and len(who) == len(fields) - 1:
            date, name, email = who
            new = {"commit": commit, "date": date, "author": name, "requested_by": f"{name} <{email}>"}
            gone = dict.fromkeys(("evidence", "approved_by", "restores", "reason"), "")
            found.append(replace(runs, **new, **gone, before=runs.after, promoted_from="build"))
    return reversed(found)


def held(records: Sequence[Record], digest: str) -> datetime | None:
    """When a digest was rolled back out of an environment, to the end of that second; None if it was not, or came back.

    `records` are the environment's, newest first. What was rolled back needs a newer test, and with it a newer
    approval, before it enters again: also under a digest that stayed, when its chart or values went back.
    """
    for one, before in zip_longest(records, records[1:]):
        if one.rollback and one.before == digest:
            if one.after == digest and before and one.release == before.release:
                continue  # it only said again what had entered
            return one.at + timedelta(seconds=1)
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

    `restored` is the whole values file of a rollback. In release-branch a deployment writes the image into the values
    of every environment, and a tag takes them as they are: Refused when they are not as a deployment writes them.
    """
    name = request.environment.values
    text = _text(tree, name)
    try:
        before = desired.named(text, name)[1]
    except desired.NothingYet:
        before = "none"
    if restored is not None:
        (tree / name).write_bytes(restored)
        return before, restored.decode("utf-8") != text
    if request.commit:
        if values.replace(text, desired.naming(context, request.build, request.digest), name) != text:
            raise Refused(
                f"{name} at {request.commit[:12]} does not name build {request.build}, {request.digest[:19]}",
                "delivery deploy writes it into every environment's values",
            )
        return before, False
    changed = False
    for one in written(context, request.environment):
        text = _text(tree, one)
        after = values.replace(text, desired.naming(context, request.build, request.digest), one)
        (tree / one).write_bytes(after.encode("utf-8"))
        changed |= after != text
    return before, changed


def written(context: Context, environment: Environment) -> list[str]:
    """The values files that a commit which brings an image into an environment writes."""
    everywhere = context.pipeline.by_tag and not environment.guarded
    return [one.values for one in (context.environments if everywhere else [environment])]


def _text(tree: Path, name: str) -> str:
    try:
        return (tree / name).read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise BadInput(f"{name} is not in Git", "see pipeline.yaml: values") from None
    except UnicodeDecodeError:
        raise BadInput(f"{name} is not UTF-8 text", f"see who wrote it: git log -- {name}") from None


def _tag(
    context: Context,
    repository: git.Repository,
    request: Request,
    base: str,
    author: tuple[str, str],
    sign: Callable[[bytes], str] | None,
) -> Change:
    """Make the tag, unless it stands, and let `release` go forward in the same push.

    PushRejected when somebody was faster.
    """
    before = request.follows
    if request.stands:
        asked = desired.at(context, repository, request.environment, request.release)
        return Change(request.stands, request.release, request.digest, asked, new=False, tag=request.tag)
    at = _later(before) or int(time.time())
    digest = before.after if before else "none"
    asked = desired.at(context, repository, request.environment, request.release or request.commit)
    message = _message(request, digest, author, base)
    # Only the tag tells what changed: whoever merges the commit beneath it brings in no change.
    subject = f"{message.partition(chr(10))[0]} as {request.tag}\n"
    release = request.release or repository.sealed(request.commit, subject, author, sign, at)
    name, email = author
    # Argo CD 3.5 cannot read a tag whose tagger has a comma in the name.
    tagger = " ".join(name.replace(",", " ").split()), email
    tag = repository.tag(request.tag, release, message, tagger, sign, at)
    wanted = {f"refs/tags/{request.tag}": tag}
    if request.forward:
        wanted[f"refs/heads/{RELEASE}"] = request.commit
    repository.push_all(wanted)
    return Change(tag, release, digest, asked, new=True, tag=request.tag)


def _restored(repository: git.Repository, request: Request) -> bytes | None:
    return desired.file(repository, request.environment, request.release) if request.release else None


def _commit(
    context: Context,
    repository: git.Repository,
    request: Request,
    before: str,
    author: tuple[str, str],
    sign: Callable[[bytes], str] | None,
) -> str:
    message = _message(request, before, author)
    repository.raw("add", "--", *written(context, request.environment))
    after_tag = request.follows if request.follows and request.follows.tag else None
    return repository.commit_signed(message, author, sign, _later(after_tag))


def _later(before: Record | None) -> int:
    """When a change is made: those of an environment are sorted by time, whoever's clock it was. 0 is now."""
    return max(int(time.time()), int(before.at.timestamp()) + 1) if before else 0


def _message(request: Request, before: str, author: tuple[str, str], judged: str = "") -> str:
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
    if request.tag:
        trailers |= {"Follows": request.follows.commit if request.follows else "", "Judged-By": judged}
    message = f"{environment.name}: {app} {request.build}\n\n"
    return message + "".join(f"{key}: {value}\n" for key, value in trailers.items() if value)


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
