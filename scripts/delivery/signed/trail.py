"""The trail: every change of the environments, newest first, each held against what was signed about it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from delivery.context import Context
from delivery.desired import change, tags
from delivery.desired.change import Record
from delivery.errors import PlatformError, Unknown
from delivery.parts import cosign, git
from delivery.parts.registry import RegistryUnreachable, connect
from delivery.pipeline import BUILD, Environment
from delivery.signed import commits, ledger, statements
from delivery.signed.held import ByKey, Held, held

Kind = Literal["deploy", "promotion", "configuration", "rollback"]
Change = tuple[str, str]  # the environment, and the commit that asks


class State(StrEnum):
    """What is known of a line once everything that was signed about it is read."""

    VERIFIED = "VERIFIED"
    BROKEN = "BROKEN"
    UNKNOWN = "UNKNOWN"
    UNVERIFIED = "UNVERIFIED"  # of the first environment, which has no gate


@dataclass(frozen=True)
class Line:
    """One change of an environment, and what holds of it."""

    record: Record
    kind: Kind
    state: State
    held: Held  # what was signed about it, and why it is BROKEN or UNKNOWN
    at: datetime  # when it entered; of one without an entry, when its commit says that it was made
    build_before: str  # empty where nothing was there, or nobody knows
    lead: timedelta | None  # from the source commit to here; of what brought a new digest alone


@dataclass(frozen=True)
class Trail:
    """The lines, and the changes that the ledger tells of and Git does not: somebody took them out of the branch."""

    lines: tuple[Line, ...]
    missing: tuple[Change, ...]


def read(
    context: Context,
    environments: Iterable[Environment],
    limit: int | None = None,
    since: datetime | None = None,
) -> Trail:
    """The newest `limit` changes of these environments that are not older than `since`; without either, all of them.

    What the ledger has nothing about, the registry is asked for. PlatformError when a public key is not there.
    """
    chosen = {one.name: one for one in environments}
    # The ledger before the branch: what enters meanwhile must not look as if Git had lost it.
    with (
        ledger.opened(context) as book,
        git.clone(context.site.git, context.pipeline.git.branch, bare=True) as repository,
    ):
        told = list(commits.claimed(context, repository, chosen.values()))
        known = {_change(one) for one, _ in told}
        missing = sorted(one for one in book.changes() - known if one[0] in chosen)
        builds = {one.after: one.build for one, counts in told if counts}
        dated = _dated(told, chosen)
        dated += [
            (one, True, one.at)
            for environment in chosen.values()
            if not environment.guarded
            for one in change.followed(context, repository, environment)
        ]
        place = {commit: -number for number, commit in enumerate(repository.run("rev-list", "HEAD").split())}
        # Those of one second as Git has them; a tag is made after what it stands on.
        dated.sort(key=lambda one: (one[2], place.get(one[0].commit, 1)), reverse=True)
        asked = [one for one in dated if since is None or one[2] >= since][:limit]
        entered = [one for one, counts, _ in asked if counts and chosen[one.environment].guarded]
        signed = book.statements(map(_change, entered))
        born = repository.committed(one.revision for one, _, _ in asked)
    lacking = [one for one in entered if _change(one) not in signed]
    texts: Mapping[Change, list[bytes] | Unknown] = signed | _registered(context, chosen, lacking)
    by_key = statements.by_key(context)

    def line(record: Record, counts: bool, date: datetime) -> Line:
        environment = chosen[record.environment]
        state, found = _judged(context, environment, record, counts, texts.get(_change(record), []), by_key)
        at, source = found.at or date, born.get(record.revision)
        new = record.after != record.before and not record.rollback
        lead = at - source if new and source and state is not State.BROKEN else None
        return Line(record, _kind(environment, record), state, found, at, builds.get(record.before, ""), lead)

    return Trail(tuple(line(*one) for one in asked), tuple(missing))


def keep(
    context: Context, environment: Environment, digest: str, commit: str, hashes: Collection[str]
) -> None:
    """Put what was signed about a change on record in the ledger: the statements of these hashes."""
    with connect(context.site.image) as registry:
        there = statements.stored(context, registry, digest, _signers(context, environment))
    found = {}
    for text in there:
        try:
            one = cosign.envelope(text)
        except ValueError:
            continue  # it counts for nobody
        if one.hash in hashes:
            found[one.hash] = one
    ledger.keep(context, environment, commit, found.values())


def _judged(
    context: Context,
    environment: Environment,
    record: Record,
    counts: bool,
    texts: list[bytes] | Unknown,
    by_key: ByKey,
) -> tuple[State, Held]:
    if not environment.guarded:
        return State.UNVERIFIED, Held(())
    if not counts:
        return State.BROKEN, Held((f"{environment.gate} did not sign its commit",))
    if isinstance(texts, Unknown):
        return State.UNKNOWN, Held((f"its entry cannot be read: {texts.reason}",))
    found = held(context, environment, record, texts, by_key)
    return State.BROKEN if found.reasons else State.VERIFIED, found


def _kind(environment: Environment, record: Record) -> Kind:
    if record.rollback:
        return "rollback"
    if record.after == record.before:
        return "configuration"
    return "promotion" if environment.guarded else "deploy"


def _signers(context: Context, environment: Environment) -> tuple[str, ...]:
    """Who makes the entries into a guarded environment, and whose statements they rest on."""
    others = {one.gate for one in context.environments if one.guarded} - {environment.gate}
    return tuple(name for name in context.pipeline.signed_by if name not in {BUILD, *others})


def _registered(
    context: Context, environments: Mapping[str, Environment], records: Iterable[Record]
) -> dict[Change, list[bytes] | Unknown]:
    """What the registry has about these changes; once it does not answer it is asked no more."""
    found: dict[Change, list[bytes] | Unknown] = {}
    down: Unknown | None = None
    with connect(context.site.image) as registry:
        for one in records:
            names = _signers(context, environments[one.environment])
            try:
                found[_change(one)] = down or statements.stored(context, registry, one.after, names)
            except RegistryUnreachable as error:
                found[_change(one)] = down = Unknown(error.message)
            except PlatformError as error:
                found[_change(one)] = Unknown(error.message)
    return found


def _dated(
    told: Iterable[tuple[Record, bool]], environments: Mapping[str, Environment]
) -> list[tuple[Record, bool, datetime]]:
    """When each was made, by what it says: but never before what a gate signed below it, whatever date it makes up."""
    found, below = [], tags.LONG_AGO
    for record, counts in reversed(list(told)):
        date = max(record.at, below)
        if counts and environments[record.environment].guarded:
            below = date
        found.append((record, counts, date))
    return found[::-1]


def _change(record: Record) -> Change:
    return record.environment, record.commit
