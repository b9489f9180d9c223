"""What the gate is asked: everything there is to know about one digest that wants into one environment."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from delivery import pipeline as pipelines
from delivery.build import image, provenance
from delivery.context import Context
from delivery.desired import change, difference, tree
from delivery.desired.manifests import Desired
from delivery.errors import DeliveryError, Unknown
from delivery.gate import authors, candidate, in_force
from delivery.gate import decide as gate
from delivery.gate.in_force import InForce
from delivery.parts import git
from delivery.parts.registry import connect
from delivery.pipeline import Environment
from delivery.proof import observe
from delivery.proof.decide import Proof
from delivery.signed import approval, commits, developers, evidence, keys, ledger


@dataclass(frozen=True)
class Next:
    """What an environment could take next, and whether it may."""

    environment: str
    digest: str
    build: str
    new: bool
    decision: gate.Decision


@dataclass(frozen=True)
class Tests:
    """What is on record about the tests of the digest that an environment runs."""

    environment: str
    digest: str
    found: evidence.Recorded | Unknown


def question(
    context: Context,
    repository: git.Repository,
    commit: str,
    target: Environment,
    built: image.Built,
    source: Proof | None = None,
) -> gate.Question:
    """Gather what the decision rests on, as of one commit of the server, whose chart and values would enter.

    `source` is the proof of the environment before, where it is already at hand. The rules are always those of the
    branch's newest commit.
    """
    before = context.pipeline.environment(target.source or "")
    records = list(commits.history(context, repository, target))
    runs = next(iter(records), None)
    head = repository.commit("HEAD")
    asked = developers.at(repository, head, context.pipeline.developers)
    rules, ring = _in_force(context, repository, target, records, asked)
    # Who takes an approval away is an author, too, for those who had to approve.
    watched = in_force.approving(target, rules) or target
    request = as_it_stands(context, target, built, commit)
    with ThreadPoolExecutor(max_workers=9) as pool:
        proven = pool.submit(lambda: source or observe.proofs(context, [before], repository)[0])
        found = pool.submit(_evidence, context, built.digest, before)
        record = pool.submit(_ledger, context, built.digest, before)
        origin = pool.submit(_origin, context, built.digest, target)
        allowed = pool.submit(_approvals, context, built.digest, target, rules)
        made = pool.submit(
            authors.between, context, repository, commit, watched, built.revision, runs, asked, ring
        )
        strange = pool.submit(keys.strange, context, target)
        gets = pool.submit(difference.becomes, context, repository, request, commit)
        trees = tree.at(context, repository, before, commit)
        tested = proven.result().facts.desired
        if isinstance(tested, Desired):
            trees = replace(trees, manifests=tested.manifests)
        return gate.Question(
            pipeline=context.pipeline,
            target=target,
            digest=built.digest,
            source=proven.result(),
            evidence=found.result(),
            ledger=record.result(),
            origin=origin.result(),
            approvals=allowed.result(),
            trees=trees,
            scope=approval.scope(
                *(context, repository, target, commit, built.build, built.digest, trees.chart, gets.result()),
                pipelines.hash_of(repository.show(head, pipelines.FILE)),
            ),
            authors=_with(made.result(), change.author(context)[1]),
            keys=strange.result(),
            rules=repository.show(head, pipelines.FILE) == (context.checkout / pipelines.FILE).read_bytes(),
            runs=runs,
            in_force=rules,
            held=change.held(records, built.digest),
            now=datetime.now(UTC),
        )


def as_it_stands(context: Context, target: Environment, built: image.Built, commit: str) -> change.Request:
    """The request by which a digest would enter, whose chart and values are those of a commit."""
    return change.Request(
        *(target, built.digest, built.build, built.revision, target.source),
        commit=commit if context.pipeline.by_tag else "",
    )


def approving(context: Context, repository: git.Repository, target: Environment) -> Environment | None:
    """The target by whose rule somebody has to approve what enters; None when nobody has to."""
    if target.approval:
        return target
    records = commits.history(context, repository, target)
    return in_force.approving(target, _rules(context, repository, target, records))


def outlook(context: Context, proofs: Iterable[Proof]) -> list[Next]:
    """What each environment could take next; those where nothing can come from are left out."""
    known = {one.facts.environment: one for one in proofs}
    found: list[Next] = []
    try:
        with git.clone(context.site.git, context.pipeline.git.branch, bare=True) as repository:
            for target in context.pipeline.environments:
                source = known.get(target.source or "")
                if source is not None and isinstance(source.facts.desired, Desired):
                    here = known[target.name].facts.desired
                    found.append(_next(context, repository, target, source, here))
    except (git.GitFailed, git.ServerUnreachable):
        return []  # the proofs say so
    return found


def tests(context: Context, proofs: Iterable[Proof]) -> list[Tests]:
    """The signed evidence about what each environment is asked to run; none for what cannot be read."""

    def one(proof: Proof) -> list[Tests]:
        wanted, name = proof.facts.desired, proof.facts.environment
        if isinstance(wanted, Unknown):
            return []
        found = _evidence(context, wanted.digest, context.pipeline.environment(name))
        return [Tests(name, wanted.digest, found)]

    with ThreadPoolExecutor(max_workers=8) as pool:
        return [found for some in pool.map(one, proofs) for found in some]


def _next(
    context: Context,
    repository: git.Repository,
    target: Environment,
    source: Proof,
    here: Desired | Unknown,
) -> Next:
    wanted = source.facts.desired
    assert isinstance(wanted, Desired)  # noqa: S101 - asked by the caller
    new = isinstance(here, Unknown) or here.digest != wanted.digest
    try:
        with connect(context.site.image) as registry:
            built = image.known(context, registry, wanted.digest)
        what = candidate.of(context, repository, target, proof=source)
        asked = question(context, repository, what.commit, target, built, source)
        decision = gate.decide(asked)
    except DeliveryError as error:
        decision = gate.Decision((), (error.message,))
    return Next(target.name, wanted.digest, wanted.tag, new, decision)


def _with(makers: authors.Makers, email: str) -> authors.Makers:
    return replace(makers, emails=makers.emails | {email.lower()})


def _in_force(
    context: Context,
    repository: git.Repository,
    target: Environment,
    records: Iterable[change.Record],
    asked: developers.Keyring,
) -> tuple[InForce | Unknown | None, developers.Keyring]:
    """The rules by which an environment was last entered, and the keys of their developers, as they were then."""
    rules = _rules(context, repository, target, records)
    if not isinstance(rules, InForce):
        return rules, developers.Keyring()
    ring = developers.at(repository, rules.commit, rules.pipeline.developers)
    return replace(rules, keys=tuple(developers.weaker(ring, asked))), ring


def _rules(
    context: Context, repository: git.Repository, target: Environment, records: Iterable[change.Record]
) -> InForce | Unknown | None:
    """The rules alone. A rollback asks for none, and so brings none into force."""
    entered = next((one for one in records if not one.rollback), None)
    if entered is None:
        return None
    text = repository.show(entered.rules, pipelines.FILE)
    return in_force.read(entered.rules, text, context.pipeline, target.name)


def _evidence(context: Context, digest: str, environment: Environment) -> evidence.Recorded | Unknown:
    try:
        with connect(context.site.image) as registry:
            return evidence.fetch(context, registry, digest, environment)
    except DeliveryError as error:
        return Unknown(f"the evidence of {environment.name} cannot be read: {error.message}")


def _ledger(context: Context, digest: str, environment: Environment) -> tuple[str, ...] | Unknown:
    try:
        return ledger.recorded(context, digest, environment)
    except DeliveryError as error:
        return Unknown(f"the ledger of {environment.name} cannot be read: {error.message}")


def _origin(context: Context, digest: str, target: Environment) -> tuple[str, ...] | Unknown:
    if target.admits != "tested":
        return ()
    try:
        with connect(context.site.image) as registry:
            return provenance.objections(context, registry, digest)
    except DeliveryError as error:
        return Unknown(f"the provenance of {digest[:19]} cannot be read: {error.message}")


def _approvals(
    context: Context, digest: str, target: Environment, old: InForce | Unknown | None
) -> approval.Given | Unknown:
    by = list(context.pipeline.approval_signers(target))
    if isinstance(old, InForce):
        before = old.pipeline.environment(target.name)
        # Of whom this site has no key any more, nobody can tell the signature: it is missing.
        by += [
            name
            for name in (
                *old.pipeline.approval_signers(before),
                *(one.name for one in old.pipeline.approvers),
            )
            if name in context.site.signers
        ]
    if not by:
        return approval.Given()
    try:
        with connect(context.site.image) as registry:
            return approval.fetch(context, registry, digest, by)
    except DeliveryError as error:
        return Unknown(f"the approvals cannot be read: {error.message}")
