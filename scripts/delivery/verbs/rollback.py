"""`delivery rollback ENV`: a release that already ran there, again."""

from collections.abc import Sequence
from datetime import UTC, datetime

from delivery import pipeline as pipelines
from delivery.build import image
from delivery.context import Context
from delivery.desired import change
from delivery.desired import manifests as desired
from delivery.errors import Refused
from delivery.gate.decide import frozen_until
from delivery.parts import git
from delivery.parts.registry import connect
from delivery.pipeline import Environment
from delivery.signed import commits, entry
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

    def plan(repository: git.Repository, commit: str) -> Planned:
        _insist_not_frozen(environment, reason)
        records = list(commits.history(context, repository, environment, commit))
        back = _chosen(environment, records, digest)
        with connect(context.site.image) as registry:
            built = image.known(context, registry, back.after)
            if not environment.guarded:
                request = change.Request(
                    environment, back.after, built.build, built.revision, environment.name
                )
                return Planned(request, built)
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
            stands=_stands(repository, environment, records[0], back, commit),
            release=back.release,
            reason=reason,
        )
        rules = pipelines.hash_of(repository.show(commit, pipelines.FILE))
        return Planned(request, built, rules, (ticket.hash,), "rollback")

    return carry(context, environment, plan)


def _chosen(environment: Environment, records: Sequence[change.Record], digest: str | None) -> change.Record:
    for one in records:
        differs = one.release != records[0].release if environment.guarded else one.after != records[0].after
        if one.after == digest or (digest is None and differs):
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
        if (until := frozen_until(freeze, datetime.now(UTC))) and not reason:
            raise Refused(
                f"{environment.name} is frozen until {until:%Y-%m-%d %H:%M %Z}: {freeze.reason}",
                "say why it cannot wait: --reason, which its entry and Git's history keep",
            )
