"""Who made what wants in: everybody whose commit stands between what an environment runs and what it is to run.

By the e-mails that the commits tell, which nobody verifies, and, where pipeline.yaml names developers, by the keys that
signed them. Both count: whoever signs a commit that names somebody else made it together with that one.

Where developers are named, each of those commits is signed by one of them, or by the target's own gate, or a later
commit that one of them signed vouches for it, by its full id: `Vouches-for: COMMIT`, as a line of the message.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from delivery import pipeline as pipelines
from delivery.build import image
from delivery.context import Context
from delivery.desired import change, tree
from delivery.parts import openpgp
from delivery.parts.git import GitFailed, Repository, signature_of
from delivery.parts.registry import connect
from delivery.pipeline import Environment
from delivery.signed import keys
from delivery.signed.developers import Keyring

_MADE = re.compile(r"^(?:author|committer) .*$", re.MULTILINE)
_IN_BRACKETS = re.compile(r"<([^<>]*)>")
# Anywhere in the message, in any case, folded: more than what git calls a trailer. An author too many is no harm.
_TOGETHER = re.compile(r"^[ \t]*co-authored-by[ \t]*:(.*(?:\n[ \t]+\S.*)*)", re.MULTILINE | re.IGNORECASE)
_EMAIL = re.compile(r"[^\s<>,;:\"()]+@[^\s<>,;:\"()]+")
_VOUCHES = re.compile(r"^vouches-for:[ \t]*([0-9a-f]{40,64})\s*$", re.MULTILINE | re.IGNORECASE)
_TOLD = 3  # commits, by their ids; the others as a number


@dataclass(frozen=True)
class Makers:
    """Who made what wants in, all in small letters, and the commits that count as nobody's."""

    emails: frozenset[str] = frozenset()  # as authors, committers and co-authors; nobody verified them
    signers: Mapping[str, str] = field(default_factory=dict)  # whose keys signed, or vouched: identity, name
    unsigned: tuple[str, ...] = ()  # what no developer of the pipeline.yaml that is asked for answers for
    unsigned_in_force: tuple[str, ...] = ()  # the same of the rules in force

    @property
    def everybody(self) -> frozenset[str]:
        """Nobody of these approves it."""
        return self.emails | self.signers.keys()


def between(
    context: Context,
    repository: Repository,
    commit: str,
    target: Environment,
    revision: str,
    runs: change.Record | None,
    asked: Keyring,
    in_force: Keyring,
) -> Makers:
    """Who made these commits, and which of them nobody answers for:

    - the source commit of the image, and those of the app since the source commit of the image that runs;
    - those of chart, the target's values, suites, pipeline.yaml and the developers' keys since the commit whose release
      runs.

    `runs` is the change by which the target has what it runs. Where nothing runs yet, all of them that ever were: the
    first release brings the work of everybody. `asked` and `in_force` are the keys of the developers whom the
    pipeline.yaml of the commit and the rules in force name. Where neither an approval nor a signature is asked nobody
    needs to be known: nobody is. PlatformError when an SSH signature cannot be verified here.
    """
    if target.approval is None and not asked and not in_force:
        return Makers()
    way = repository.commits(_way(context, repository, commit, target, revision, runs))
    # Whoever reviews may press the forge's button: that writes a merge, and nothing into it.
    by_review = target.approval is not None and target.approval.by_review
    emails = emails_of(written(repository, way.values()) if by_review else way.values())
    signers: dict[str, str] = {}
    unsigned = []
    for ring in [asked] if asked == in_force else [asked, in_force]:
        left, by, vouching = _unsigned(context, repository, commit, target, way, ring)
        emails |= emails_of(vouching)
        signers |= by
        unsigned.append((*ring.faults, *_said(left)))
    return Makers(emails, signers, unsigned[0], unsigned[-1])


def written(repository: Repository, commits: Iterable[bytes]) -> list[bytes]:
    """Those commits, as they are stored, that somebody wrote something into: all but merges that are as git makes them.

    Where git cannot tell (before 2.38), or would not make it alone, somebody did.
    """
    return [one for one in commits if not _made_by_git(repository, one)]


def _made_by_git(repository: Repository, commit: bytes) -> bool:
    head = commit.decode("utf-8", "replace").partition("\n\n")[0].split("\n")
    parents = [line.removeprefix("parent ") for line in head if line.startswith("parent ")]
    if len(parents) != 2 or not all(map(repository.has, parents)):
        return False
    try:
        return f"tree {repository.run('merge-tree', '--write-tree', '--no-messages', *parents)}" == head[0]
    except GitFailed:
        return False


def emails_of(commits: Iterable[bytes]) -> frozenset[str]:
    """The e-mails of everybody whom commits, as they are stored, name as author, committer or co-author."""
    found: set[str] = set()
    for one in commits:
        head, _, message = one.decode("utf-8", "replace").partition("\n\n")
        for line in _MADE.findall(head):
            found |= {email.strip().lower() for email in _IN_BRACKETS.findall(line)}
        for said in _TOGETHER.findall(message.replace("\r", "")):
            found |= {email.lower() for email in _EMAIL.findall(said) or [" ".join(said.split())]}
    return frozenset(found - {""})


def _way(
    context: Context,
    repository: Repository,
    commit: str,
    target: Environment,
    revision: str,
    runs: change.Record | None,
) -> list[str]:
    since = ""
    if runs is not None:
        with connect(context.site.image) as registry:
            known = image.describe(context, registry, runs.after)
        since = known.revision if known else ""
    app, rules = context.pipeline.image.context, context.pipeline
    others = [f":(exclude){one.values}" for one in rules.environments if one.name != target.name]
    beside = [rules.chart.path, target.values, tree.SUITES, pipelines.FILE, *others]
    beside += [one.key for one in rules.developers]

    def log(*commits: str) -> list[str]:
        # With --full-history a merge is among them when it differs from any of its parents: also one that only took
        # away what the other side had.
        return repository.run("log", "--full-history", "--format=%H", *commits).split()

    # The rules are those of the branch's newest commit, also where an older one enters.
    keys_of = [pipelines.FILE, *(one.key for one in rules.developers)]
    judged = _range(repository, runs.rules if runs else "", "HEAD")
    return [
        *log("-1", revision),
        *(log(judged, "--", *keys_of) if rules.by_tag else []),
        *log(_range(repository, since, revision), "--", app),
        *log(_range(repository, runs.release if runs else "", commit), "--", *beside),
    ]


def _range(repository: Repository, since: str, until: str) -> str:
    # Of a commit that nobody knows any more, everything came after.
    return f"{since}..{until}" if since and repository.has(since) else until


def _unsigned(
    context: Context,
    repository: Repository,
    commit: str,
    target: Environment,
    way: Mapping[str, bytes],
    ring: Keyring,
) -> tuple[dict[str, str], dict[str, str], list[bytes]]:
    """Why commits count as nobody's, by their ids; who signed the others; and the commits that vouch for some."""
    if not ring:
        return {}, {}, []
    gate = keys.commit_certificate(context.site, target.gate)
    left: dict[str, str] = {}
    by: dict[str, str] = {}
    for one, stored in way.items():
        found = ring.signature(stored)
        by |= {owner.identity.lower(): owner.name for owner in found.by}
        content, signature = signature_of(stored)
        if found.objection and not (signature and openpgp.verified(gate, content, signature)):
            left[one] = found.objection
    vouching: list[bytes] = []
    if left:
        # Whoever vouches does it in a commit that need not change anything: no path finds it.
        said = repository.run("log", "--format=%H", "--regexp-ignore-case", "--grep=^vouches-for:", commit)
        for stored in repository.commits(said.split()).values():
            answered = left.keys() & set(_VOUCHES.findall(stored.decode("utf-8", "replace")))
            if answered and not (found := ring.signature(stored)).objection:
                by |= {owner.identity.lower(): owner.name for owner in found.by}
                left = {one: why for one, why in left.items() if one not in answered}
                vouching.append(stored)
    return left, by, vouching


def _said(left: Mapping[str, str]) -> list[str]:
    """One reason for each commit, and at the end what to do; nothing when there is none."""
    if not left:
        return []
    told = [f"commit {one[:12]} {why}" for one, why in list(left.items())[:_TOLD]]
    if len(left) > _TOLD:
        told.append(f"{len(left) - _TOLD} more commits are like that")
    first, *others = left
    said = f"a developer who answers for {'them' if others else 'it'} signs a commit that says so"
    rest = ", and a line for each of the others" if others else ""
    return [*told, f'{said}: git commit -S --allow-empty -m "Vouches-for: {first}"{rest}']
