"""Who allowed which digest where, on which evidence, as which change: signed, attached to the digest.

The statement's type is https://delivery/approval/v1; its predicate:
  environment, approver (the identity that pipeline.yaml gives to the key), approvedOn,
  evidence: {sha256}   one hash over the evidence that the gate used
  change: {file, values: {sha256}, chart: {sha256}, manifests: {sha256}, rules: {sha256}}
    what the values file becomes, the chart it goes with, what that renders, and the pipeline.yaml beside it
  review: {page, number, login, commit}
    of an approval by review: the pull request, who reviewed it under which login, and the commit that was reviewed. The
    key for reviews signs it, and `approver` is whose login that is
Whatever of it is different later, the approval does not count any more.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import AwareDatetime, ValidationError

from delivery import pipeline as pipelines
from delivery.context import Context
from delivery.desired import manifests as desired
from delivery.desired.jobs import APPROVER
from delivery.errors import BadInput
from delivery.parts import values
from delivery.parts.git import Repository
from delivery.parts.registry import Registry
from delivery.pipeline import REVIEW, Approver, Environment, Pipeline
from delivery.signed import statements
from delivery.signed.statements import Attached, Digest, Model


class Scope(Model):
    """Exactly what is approved: the environment's values file as it becomes, the chart, what they render, the rules."""

    file: str
    values: Digest
    chart: Digest
    manifests: Digest
    rules: Digest


class Review(Model):
    """Where an approval by review was given: the repository's page on the forge, and the pull request's number."""

    page: str
    number: int
    login: str
    commit: str  # that was reviewed


class Predicate(Model):
    """What an approver signs, besides the digest."""

    environment: str
    approver: str
    approvedOn: AwareDatetime
    evidence: Digest
    change: Scope
    review: Review | None = None


@dataclass(frozen=True)
class Approval:
    """One verified approval: the key's name, and what was signed."""

    signer: str
    said: Predicate
    hash: str


@dataclass(frozen=True)
class Given:
    """The approvals of a digest, and why other attestations do not count."""

    approvals: tuple[Approval, ...] = ()
    rejected: tuple[str, ...] = ()


def scope(
    context: Context,
    repository: Repository,
    environment: Environment,
    commit: str,
    tag: str,
    digest: str,
    chart: str,
    manifests: str,
    rules: str,
) -> Scope:
    """What a promotion on top of a commit makes of an environment; `chart`, `manifests`, `rules` are their hashes."""
    before = desired.file(repository, environment, commit).decode("utf-8", "replace")
    after = values.replace(before, desired.naming(context, tag, digest), environment.values)
    return Scope(
        file=environment.values,
        values=Digest(sha256=hashlib.sha256(after.encode()).hexdigest()),
        chart=Digest(sha256=chart),
        manifests=Digest(sha256=manifests),
        rules=Digest(sha256=rules),
    )


def approver(context: Context, name: str | None) -> Approver:
    """The approver of that name; the only one there is when none is named."""
    known = {one.name: one for one in context.pipeline.approvers}
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if name is None or name not in known:
        raise BadInput(
            f"there is no approver {name!r}" if name else "who approves?",
            f"--as or {APPROVER}, one of: {', '.join(known) or 'none'} (see approvers in pipeline.yaml)",
        )
    return known[name]


def put(context: Context, digest: str, made: Approval) -> Approval:
    """Sign an approval with the key of its signer, and attach it to the digest."""
    data = made.said.model_dump(mode="json", exclude_none=True)
    return replace(made, hash=statements.put(context, digest, statements.APPROVAL, data, made.signer).hash)


def unsigned(
    environment: Environment,
    by: Approver,
    evidence: str,
    what: Scope,
    now: datetime,
    review: Review | None = None,
) -> Approval:
    """What an approver says, before it is signed: without a hash, and without effect. A review was given at `now`."""
    said = Predicate(
        environment=environment.name,
        approver=by.identity,
        approvedOn=now,
        evidence=Digest(sha256=evidence),
        change=what,
        review=review,
    )
    return Approval(REVIEW if review else by.name, said, "")


def fetch(context: Context, registry: Registry, digest: str, by: Iterable[str]) -> Given:
    """Every approval of a digest that one of these signers signed."""
    names = list(dict.fromkeys(by))
    return read(statements.read(context, registry, digest, statements.APPROVAL, names))


def read(attached: Attached) -> Given:
    """Those of what was signed that are approvals."""
    found, rejected = [], [one.reason for one in attached.rejected if one.predicate.get("approver")]
    for statement in attached.statements:
        try:
            said = Predicate.model_validate(statement.predicate)
        except ValidationError as error:
            rejected.append(f"an attestation is not an approval: {statements.first(error)}")
            continue
        found.append(Approval(statement.signer, said, statement.hash))
    return Given(tuple(found), tuple(rejected))


def objections(
    one: Approval,
    pipeline: Pipeline,
    environment: Environment,
    evidence: str,
    what: Scope,
    made_by: Iterable[str],
    now: datetime,
) -> list[str]:
    """Why an approval does not count for this change now; nothing when it does."""
    said = one.said
    reasons = _by_whom(one, pipeline, environment)
    if said.environment != environment.name:
        reasons.append(f"is for {said.environment[:40]}")
    if said.evidence.sha256 != evidence:
        reasons.append("rests on other evidence")
    if said.change.file != what.file or said.change.values != what.values:
        reasons.append(f"is for another change of {what.file}")
    if said.change.chart != what.chart:
        reasons.append("is for another chart")
    elif said.change.manifests != what.manifests:
        reasons.append("is for other manifests")
    if said.change.rules != what.rules:
        reasons.append(f"is for another {pipelines.FILE}")
    if said.approver.lower() in {name.lower() for name in made_by}:
        reasons.append("is by an author of it")
    hours = (now - said.approvedOn).total_seconds() / 3600
    limit = environment.approval.maximum_age if environment.approval else 0.0
    if hours > limit:
        reasons.append(f"expired: it is {hours:.0f} h old and counts for {limit:g} h")
    if hours * 3600 < -CLOCKS_DIFFER:
        reasons.append("is from the future")
    return reasons


def _by_whom(one: Approval, pipeline: Pipeline, environment: Environment) -> list[str]:
    """Why it is not the word of an approver, given as the environment asks."""
    said, rule = one.said, environment.approval
    if rule and rule.by_review:
        if one.signer != REVIEW or said.review is None:
            return ["is no review"]
        login = said.review.login.lower()
        known = {(by.identity.lower(), by.login.lower()) for by in pipeline.approvers if by.login}
        return (
            []
            if (said.approver.lower(), login) in known
            else [f"is a review by {login[:40]}, who is no such approver"]
        )
    identity = next((known.identity for known in pipeline.approvers if known.name == one.signer), "")
    if said.approver.lower() != identity.lower():
        return [f"is signed with the key of {identity or 'nobody'}"]
    return []


CLOCKS_DIFFER = 300.0  # seconds
