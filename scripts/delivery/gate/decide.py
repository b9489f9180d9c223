"""May this digest enter that environment? A pure decision, with every reason why not."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from delivery.desired.change import Record
from delivery.desired.manifests import Desired
from delivery.desired.tree import Trees
from delivery.errors import Unknown
from delivery.gate.authors import Makers
from delivery.gate.in_force import WAY_OUT, InForce
from delivery.gate.weaker import opens
from delivery.pipeline import Environment, Pipeline
from delivery.proof.decide import Proof, Verdict
from delivery.signed import approval, evidence
from delivery.signed.approval import CLOCKS_DIFFER, Approval
from delivery.signed.evidence import Evidence


@dataclass(frozen=True)
class Question:
    """Everything that the decision rests on."""

    pipeline: Pipeline
    target: Environment
    digest: str
    source: Proof  # the environment before
    evidence: evidence.Recorded | Unknown  # its tests of the digest
    ledger: tuple[str, ...] | Unknown  # the hashes of those that are on record
    origin: tuple[str, ...] | Unknown  # what is wrong with its provenance, where the cluster asks for it
    approvals: approval.Given | Unknown
    trees: Trees  # what would be deployed now
    scope: approval.Scope
    authors: Makers  # of all commits on the way, and who asks
    keys: tuple[str, ...] | Unknown  # whose keys are others here than in the target's cluster
    rules: bool  # whether the pipeline.yaml that we read is the one that would be deployed with it
    runs: Record | None  # the change by which the target has what it runs; None when nothing ever entered
    in_force: (
        InForce | Unknown | None
    )  # the rules by which the target was last entered; None when it never was
    held: datetime | None  # when the digest was rolled back out of the target; it has not come back since
    now: datetime
    before_review: bool = False  # whether an approval by review is still to come, with the merge


@dataclass(frozen=True)
class Decision:
    """The answer; it is yes only when nothing stands against it."""

    refusals: tuple[str, ...]  # known to be wrong
    unknowns: tuple[str, ...]  # could not be found out
    uses: tuple[Evidence, ...] = ()
    approvals: tuple[Approval, ...] = ()  # those that count

    @property
    def approved_by(self) -> tuple[str, ...]:
        """Who approved, by the identities that pipeline.yaml gives."""
        return tuple(one.said.approver for one in self.approvals)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The hashes of the signed statements that it rests on."""
        return (*(one.hash for one in self.uses), *(one.hash for one in self.approvals))

    @property
    def allowed(self) -> bool:
        """Whether the digest may enter."""
        return not self.refusals and not self.unknowns


def decide(question: Question) -> Decision:
    """Whether a digest may enter: proven in the environment before, tested there, approved, not frozen.

    Absence refuses, and so does everything that is not known. Rules that became weaker since the target was last
    entered hold as they were: nobody removes a lock in the push that walks through it.
    """
    now = _decided(question)
    held, of = _in_force(question)
    return replace(now, refusals=now.refusals + held, unknowns=tuple(dict.fromkeys(now.unknowns + of)))


def _decided(question: Question) -> Decision:
    refusals, unknowns = _proven(question)
    if not question.rules:
        refusals.append(
            "the pipeline.yaml of this checkout is not the one on the server: git pull, or push it"
        )
    for piece in (question.keys, question.origin):
        refusals += () if isinstance(piece, Unknown) else piece
    refusals += tested(question)
    refusals += _soaked(question)
    refusals += question.authors.unsigned
    refusals += [
        f"{question.target.name} is frozen until {until:%Y-%m-%d %H:%M %Z}: {freeze.reason}"
        for freeze in question.target.freeze
        if (until := freeze.until(question.now))
    ]
    against, approvals = _approved(question)
    refusals += against
    pieces = (question.keys, question.evidence, question.ledger, question.origin, question.approvals)
    unknowns += [one.reason for one in pieces if isinstance(one, Unknown)]
    return Decision(tuple(refusals), tuple(dict.fromkeys(unknowns)), uses(question), approvals)


def uses(question: Question) -> tuple[Evidence, ...]:
    """The evidence that the decision rests on: the newest run."""
    newest = None if isinstance(question.evidence, Unknown) else question.evidence.newest
    return (newest,) if newest else ()


def named(question: Question, stands: Record) -> tuple[str, ...]:
    """The hashes of the test and the approvals that a change names which stands already; none where they are gone.

    Its entry rests on these, also where a run was killed before it signed one and somebody tested or approved since.
    """
    if isinstance(question.evidence, Unknown) or isinstance(question.approvals, Unknown):
        return ()
    tests = [
        one for one in question.evidence.evidence if f"sha256:{evidence.set_hash([one])}" == stands.evidence
    ]
    people = {*filter(None, stands.approved_by.split(", "))}
    given = [
        one
        for one in question.approvals.approvals
        if (one.said.environment, one.said.evidence.sha256)
        == (question.target.name, evidence.set_hash(tests))
        and one.said.approver in people
    ]
    if not tests or {one.said.approver for one in given} != people:
        return ()
    return (*(one.hash for one in tests), *(one.hash for one in given))


def tested(question: Question) -> list[str]:
    """What is wrong with the tests of the environment before; nothing when they PASSED with all this."""
    found, source = question.evidence, _source(question)
    if isinstance(found, Unknown):
        return []
    newest = found.newest
    if newest is None:
        return [
            f"{source.name} has no evidence about {question.digest[:19]}",
            *(f"{source.name}: {reason}" for reason in found.rejected),
        ]
    if newest.environment != source.name:
        return [f"the evidence is about {newest.environment}, not about {source.name}"]
    reasons = _on_record(question, found, newest, source)
    if question.held and newest.finished <= question.held:
        reasons.append(
            f"it was rolled back out of {question.target.name} on {question.held:%Y-%m-%d %H:%M %Z}: "
            f"{source.name} has no newer test of it"
        )
    if newest.result != "PASSED":
        why = f": {newest.reasons[0]}" if newest.reasons else ""
        reasons.append(f"the newest test of {source.name} {newest.result}{why}")
    elif newest.failed or newest.warned:
        reasons.append(f"the newest test of {source.name} names tests that did not pass")
    for suite in source.tests.requires:
        said = newest.suites.get(suite)
        if said is None:
            reasons.append(f"{source.name} requires suite {suite}, which did not run")
        elif said != "PASSED":
            reasons.append(f"{source.name} requires suite {suite}, which {said}")
    for check in sorted(newest.excused - set(source.tests.without)):
        reasons.append(f"{source.name} requires check {check}, which could not be made")
    for what in ("suites", "chart", "values", "manifests"):
        if what == "manifests" and isinstance(question.source.facts.desired, Unknown):
            continue  # nobody knows them, and that refuses already
        if getattr(newest.trees, what) != getattr(question.trees, what):
            reasons.append(f"the {what} changed since {source.name} was tested")
    return reasons + _aged(question, newest, source)


def _on_record(
    question: Question, found: evidence.Recorded, newest: Evidence, source: Environment
) -> list[str]:
    """What the ledger has against it: a result that was taken away, or one that is not on record."""
    if isinstance(question.ledger, Unknown):
        return []  # unknown, and said so
    reasons = [
        f"evidence sha256:{one[:12]} of {source.name} is on record and not in the registry any more"
        for one in question.ledger
        if one not in found.hashes
    ]
    if newest.hash not in question.ledger:
        reasons.append(f"the newest test of {source.name} is not on record: test it again")
    return reasons


def _in_force(question: Question) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What stands against it by the rules in force, where the new ones ask for less: refusals, and what is unknown.

    Those whom the old rules name as approvers may sign the new ones, with the release: what they sign names both.
    Where nobody had to approve, the release must satisfy the old rules once more; from then on the new ones hold.
    Old rules that are not understood in whole hold no release up for ever: their approvers may sign, too.
    """
    old, name = question.in_force, question.target.name
    if isinstance(old, Unknown):
        return (), (old.reason,)
    if old is None:
        return (), ()
    opened = [*opens(old.pipeline, question.pipeline, name), *old.keys]
    why = f"the rules of {name} became weaker since {old.commit[:12]} ({opened[0]})" if opened else ""
    if old.strange:
        why = f"the rules of {name} since {old.commit[:12]} have {old.strange[0]}, which nobody here knows"
    if not why:
        return (), ()
    target = old.pipeline.environment(name)
    asks = target.approval or (question.target.approval if old.strange else None)
    target = target.model_copy(update={"approval": asks})
    authors = replace(question.authors, unsigned=question.authors.unsigned_in_force)
    before = replace(question, pipeline=old.pipeline, target=target, authors=authors)
    if asks:
        against, _ = _approved(before)
        return tuple(f"{why}: {reason}" for reason in against), ()
    by_old = _decided(before)
    unknowns = (f"{why}: let {name} ask for an approval, or {WAY_OUT}",) if old.strange else ()
    return tuple(f"{why}: {reason}" for reason in by_old.refusals), by_old.unknowns + unknowns


def _source(question: Question) -> Environment:
    return question.pipeline.environment(question.target.source or "")


def _proven(question: Question) -> tuple[list[str], list[str]]:
    source, target, digest = question.source, question.target, question.digest
    before = source.facts.environment
    refusals, unknowns = [], []
    if before != target.source:
        refusals.append(f"{target.name} takes digests from {target.source}, not from {before}")
    wanted = source.facts.desired
    if isinstance(wanted, Desired) and wanted.digest != digest:
        refusals.append(f"{before} is at {wanted.digest[:19]}, not at {digest[:19]}")
    if source.verdict is Verdict.MISMATCH:
        refusals += [f"{before}: {reason}" for reason in source.reasons]
    if source.verdict is Verdict.UNKNOWN:
        unknowns += [f"{before}: {reason}" for reason in source.reasons]
    return refusals, unknowns


def _aged(question: Question, newest: Evidence, source: Environment) -> list[str]:
    age = question.now - newest.finished
    if age > timedelta(hours=source.tests.maximum_age):
        return [
            f"the test of {source.name} expired: it is {age / timedelta(hours=1):.0f} h old "
            f"and counts for {source.tests.maximum_age:g} h"
        ]
    if age < -timedelta(seconds=CLOCKS_DIFFER):
        return [f"the test of {source.name} is from the future: {newest.finished:%Y-%m-%d %H:%M %Z}"]
    return []


def _soaked(question: Question) -> list[str]:
    source = _source(question)
    if isinstance(question.evidence, Unknown) or not source.tests.soak:
        return []
    passed = [one.finished for one in question.evidence.evidence if one.result == "PASSED"]
    if not passed:
        return []  # there is a stronger reason
    left = timedelta(minutes=source.tests.soak) - (question.now - min(passed))
    if left <= timedelta():
        return []
    minutes = -(-left // timedelta(minutes=1))
    return [
        f"it first passed {source.name} less than {source.tests.soak:g} minutes ago: {minutes} more to wait"
    ]


def _approved(question: Question) -> tuple[list[str], tuple[Approval, ...]]:
    target, found = question.target, question.approvals
    if target.approval is None or isinstance(found, Unknown) or isinstance(question.evidence, Unknown):
        return [], ()
    if question.before_review and target.approval.by_review:
        return [], ()
    used = evidence.set_hash(uses(question))
    valid: dict[str, Approval] = {}
    against = [f"{target.name}: {reason}" for reason in found.rejected]
    for one in found.approvals:
        why = approval.objections(
            *(one, question.pipeline, target, used, question.scope),
            *(question.authors.everybody, question.now),
        )
        if why:
            against.append(f"an approval by {one.said.approver[:80]} {', '.join(why)}")
        else:
            valid[one.said.approver] = one
    if len(valid) >= target.approval.required:
        return [], tuple(valid.values())
    missing = target.approval.required - len(valid)
    count = "one approval" if missing == 1 else f"{missing} approvals"
    return [f"{target.name} needs {count}{' more' if valid else ''}", *against], tuple(valid.values())
