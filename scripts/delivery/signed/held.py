"""One change of a guarded environment, held against what was signed about it. Pure: it reads nothing by itself.

It holds when there is an entry of the gate for exactly this commit and digest, and when all that the entry rests on
is there: the PASSED test of the environment before and the approvals, each by its signer's key and each as the commit
names it; of a rollback the entry that it went back to.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from delivery.context import Context
from delivery.desired.change import Record
from delivery.pipeline import REVIEW, Environment
from delivery.signed import approval, entry, evidence, statements
from delivery.signed.entry import Entries, Entry
from delivery.signed.statements import Attached, ByKey

_Of = Callable[[str, Iterable[str]], Attached]


@dataclass(frozen=True)
class Held:
    """What was found signed about a change, and why it does not hold; no reason where it does."""

    reasons: tuple[str, ...]
    at: datetime | None = None  # when it entered
    entry: str = ""  # the hash of the entry
    tests: tuple[str, ...] = ()  # the hashes of the test results that the entry rests on
    approvers: tuple[str, ...] = ()  # who gave the approvals that it rests on


def held(
    context: Context, environment: Environment, record: Record, texts: Iterable[bytes], by_key: ByKey
) -> Held:
    """What holds of a change whose commit the gate signed; `texts` is what was signed about it, verified by nobody."""
    opened = statements.opened(texts)

    def of(kind: str, names: Iterable[str]) -> Attached:
        return statements.judged(context, record.after, kind, opened, names, by_key)

    entries = entry.read(context, record.after, environment, of(statements.ENTRY, [environment.gate]))
    # After an emergency the gate signs anew that a change stands; the first entry is the one by which it came in.
    found = next((one for one in entries.entries if one.release.change == record.commit), None)
    if found is None:
        return Held((f"no entry of {environment.gate} names it", *entries.rejected))
    against = []
    if found.release.form != ("rollback" if record.rollback else "promotion"):
        against.append(f"its entry is that of a {found.release.form}")
    if found.release.commit != record.release:
        against.append(f"its entry is of commit {found.release.commit[:12]}")
    if record.rollback:
        return _back(record, entries, found, against)
    return _forward(context, environment, record, found, of, against)


def _back(record: Record, entries: Entries, found: Entry, against: list[str]) -> Held:
    old = [one for one in entries.entries if one.hash in found.inputs]
    if not any(one.release.commit == record.release for one in old):
        against.append(f"the entry of {record.release[:12]}, to which it goes back, is not there")
    return Held(tuple(against), found.at, found.hash)


def _forward(
    context: Context, environment: Environment, record: Record, found: Entry, of: _Of, against: list[str]
) -> Held:
    source = next((one for one in context.environments if one.name == record.promoted_from), None)
    if source is None:
        against.append(f"it came from {record.promoted_from or 'nowhere'}, which pipeline.yaml does not have")
        return Held(tuple(against), found.at, found.hash)
    people = {one.name: one.identity for one in context.pipeline.approvers}
    recorded = evidence.read(source, of(statements.TEST_RESULT, [source.name]))
    given = approval.read(of(statements.APPROVAL, dict.fromkeys((*people, *_reviews(context)))))
    tests = [one for one in recorded.evidence if one.hash in found.inputs]
    approvals = [one for one in given.approvals if one.hash in found.inputs]
    there = {*(one.hash for one in tests), *(one.hash for one in approvals)}
    if lost := [one for one in found.inputs if one not in there]:
        rests = ", ".join(f"sha256:{one[:12]}" for one in lost)
        against += [f"what its entry rests on is not there: {rests}", *recorded.rejected, *given.rejected]
    else:
        against += _differs(environment, record, tests, approvals, people)
    approvers = tuple(sorted({_who(one, people) for one in approvals}))
    return Held(tuple(against), found.at, found.hash, tuple(one.hash for one in tests), approvers)


def _differs(
    environment: Environment,
    record: Record,
    tests: list[evidence.Evidence],
    approvals: list[approval.Approval],
    people: dict[str, str],
) -> list[str]:
    """How tests and approvals are other than those that the commit names."""
    used = evidence.set_hash(tests)
    against = [f"it rests on a test that {one.result}" for one in tests if one.result != "PASSED"]
    if not tests:
        against.append("it rests on no test")
    elif record.evidence != f"sha256:{used}":
        against.append("its commit names other evidence than its entry")
    for one in approvals:
        if (one.said.environment, one.said.evidence.sha256) != (environment.name, used):
            against.append(f"the approval of {_who(one, people)} is about something else")
    if {*filter(None, record.approved_by.split(", "))} != {_who(one, people) for one in approvals}:
        against.append("its commit names other approvers than its entry")
    return against


def _reviews(context: Context) -> list[str]:
    """Who signs what a forge says of reviews, where they are an approval."""
    return [REVIEW] if REVIEW in context.pipeline.signed_by else []


def _who(one: approval.Approval, people: Mapping[str, str]) -> str:
    """Whose word an approval is: that of the key's owner, or of the reviewer."""
    return one.said.approver if one.signer == REVIEW else people[one.signer]
