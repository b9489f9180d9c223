"""`delivery rollback ENV`: a release that already ran there, again."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

from delivery import pipeline as pipelines
from delivery.build import image
from delivery.context import Context
from delivery.desired import change, tags
from delivery.desired import manifests as desired
from delivery.errors import Refused
from delivery.parts import argocd, git
from delivery.parts.kubernetes import Kubernetes
from delivery.parts.registry import connect
from delivery.pipeline import Environment
from delivery.signed import commits, entry, keys
from delivery.verbs.carry import Planned, Promotion, carry


def rollback(
    context: Context, environment: Environment, digest: str | None = None, reason: str = ""
) -> Promotion:
    """A release that already ran here, again: digest, chart and values; by default the one before.

    The gate lets it in on the entry that it had, whose evidence and approvals may be old by now. Refused for what has
    no entry here, and while the environment is frozen unless `reason` says why it cannot wait. What was rolled back
    needs a newer test, and with it a newer approval, before it enters again.
    """
    if digest is not None:
        desired.digest(digest)
    reason = " ".join(reason.split())[:200]  # one line: it becomes a trailer of the commit
    pinned = _pinned(context, environment)
    meant = ""

    def plan(repository: git.Repository, commit: str) -> Planned:
        nonlocal meant
        _insist_not_frozen(environment, reason)
        records = list(commits.history(context, repository, environment))
        # Where somebody else was faster, it is still the one that was meant: not the one before theirs.
        back = _of(records, meant) or _unfinished(environment, records, digest, pinned)
        back = back or _chosen(context, repository, environment, records, digest)
        meant = back.commit
        with connect(context.site.image) as registry:
            built = image.known(context, registry, back.after)
            if not environment.guarded:
                request = change.Request(
                    environment, back.after, built.build, built.revision, environment.name
                )
                return Planned(request, built)
            keys.insist(context, environment)
            entered = entry.fetch(context, registry, back.after, environment)
        ticket = entered.of(back.commit)
        if ticket is None:
            why = f": {entered.rejected[0]}" if entered.rejected else ""
            raise Refused(
                f"{back.after[:19]} has no entry into {environment.name} with commit {back.commit[:12]}{why}",
                "go back to what entered: delivery history",
            )
        request = change.Request(
            *(environment, back.after, built.build, built.revision, environment.name),
            release=back.release,
            reason=reason,
            follows=records[0],
        )
        if context.pipeline.by_tag:
            again = records[0] if records[0].tag and records[0].release == back.release else None
            name = again.tag if again else tags.following(context, environment, repository.tag_names())
            request = replace(request, stands=again.commit if again else "", tag=name)
        else:
            request = replace(request, stands=_stands(repository, environment, records[0], back, commit))
        rules = pipelines.hash_of(repository.show(commit, pipelines.FILE))
        return Planned(request, built, rules, (ticket.hash,), "rollback")

    return carry(context, environment, plan)


def _pinned(context: Context, environment: Environment) -> str:
    """What Argo CD keeps an environment at; PlatformError when it has no Application of it."""
    with closing(Kubernetes(context.site, environment.name)) as kubernetes:
        return argocd.ArgoCD(kubernetes, environment.name).application(environment.application).target


def _of(records: Sequence[change.Record], commit: str) -> change.Record | None:
    return next((one for one in records if one.commit == commit), None)


def _unfinished(
    environment: Environment, records: Sequence[change.Record], digest: str | None, pinned: str
) -> change.Record | None:
    """Where the newest rollback goes to, while the environment is not there yet: its run was killed, or still runs.

    The one before it is what it left: to go back to that would undo it.
    """
    if digest or not environment.guarded or not records or not records[0].rollback:
        return None
    newest = records[0]
    if pinned in (newest.tag, newest.release):
        return None
    return next((one for one in records[1:] if one.release == newest.release), None)


def _chosen(
    context: Context,
    repository: git.Repository,
    environment: Environment,
    records: Sequence[change.Record],
    digest: str | None,
) -> change.Record:
    def differs(one: change.Record) -> bool:
        if not environment.guarded:
            return one.after != records[0].after
        return not desired.same(context, repository, environment, one.release, records[0].release)

    for one in records:
        if one.after == digest or (digest is None and differs(one)):
            return one
    raise Refused(
        f"{environment.name} never ran {digest[:19] if digest else 'anything else'}: nothing to go back to",
        "see what ran there: delivery history",
    )


def _stands(
    repository: git.Repository,
    environment: Environment,
    newest: change.Record,
    back: change.Record,
    commit: str,
) -> str:
    """The change that asks for it already, where the values say so too: going back to what runs brings nothing new."""
    if newest.release != back.release:
        return ""
    then, now = (desired.file(repository, environment, one) for one in (back.release, commit))
    return newest.commit if then == now else ""


def _insist_not_frozen(environment: Environment, reason: str) -> None:
    for freeze in environment.freeze:
        if (until := freeze.until(datetime.now(UTC))) and not reason:
            raise Refused(
                f"{environment.name} is frozen until {until:%Y-%m-%d %H:%M %Z}: {freeze.reason}",
                "say why it cannot wait: --reason, which its entry and Git's history keep",
            )
