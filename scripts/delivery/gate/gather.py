"""What the gate is asked: everything there is to know about one digest that wants into one environment."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from delivery import pipeline as pipelines
from delivery.build import image
from delivery.context import Context
from delivery.desired import change, difference, tree
from delivery.desired.manifests import Desired
from delivery.errors import DeliveryError, Unknown
from delivery.gate import authors
from delivery.gate import decide as gate
from delivery.parts import git
from delivery.parts.registry import connect
from delivery.pipeline import Environment
from delivery.proof import observe
from delivery.proof.decide import Proof
from delivery.signed import approval, commits, evidence, ledger


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
    """Gather what the decision rests on, as of one commit of the server's branch.

    `source` is the proof of the environment before, where it is already at hand.
    """
    before = context.pipeline.environment(target.source or "")
    records = list(commits.history(context, repository, target, commit))
    runs = next(iter(records), None)
    in_force = _in_force(context, repository, runs)
    request = change.Request(target, built.digest, built.build, built.revision, before.name)
    with ThreadPoolExecutor(max_workers=6) as pool:
        proven = pool.submit(lambda: source or observe.proofs(context, [before], repository)[0])
        found = pool.submit(_evidence, context, built.digest, before)
        record = pool.submit(_ledger, context, built.digest, before)
        allowed = pool.submit(_approvals, context, built.digest, target, in_force)
        made = pool.submit(authors.between, context, repository, commit, target, built.revision, runs)
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
            approvals=allowed.result(),
            trees=trees,
            scope=approval.scope(
                *(context, repository, target, commit, built.build, built.digest, trees.chart, gets.result())
            ),
            authors=made.result() | {change.author(context)[1].lower()},
            rules=repository.show(commit, pipelines.FILE) == (context.checkout / pipelines.FILE).read_bytes(),
            runs=runs,
            in_force=in_force,
            held=change.held(records, built.digest),
            now=datetime.now(UTC),
        )


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
        commit = repository.commit("HEAD")
        asked = question(context, repository, commit, target, built, source)
        decision = gate.decide(asked)
    except DeliveryError as error:
        decision = gate.Decision((), (error.message,))
    return Next(target.name, wanted.digest, wanted.tag, new, decision)


def _in_force(
    context: Context, repository: git.Repository, runs: change.Record | None
) -> gate.InForce | Unknown | None:
    """The pipeline.yaml by which an environment was last entered."""
    if runs is None:
        return None
    text = repository.show(runs.commit, pipelines.FILE) or b""
    try:
        rules = pipelines.parse(text.decode("utf-8", "replace"), context.checkout)
    except DeliveryError as error:
        return Unknown(f"the rules in force since {runs.commit[:12]} cannot be read: {error.message}")
    return gate.InForce(runs.commit, rules)


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


def _approvals(
    context: Context, digest: str, target: Environment, in_force: gate.InForce | Unknown | None
) -> approval.Given | Unknown:
    by = list(context.pipeline.approvers) if target.approval else []
    if isinstance(in_force, gate.InForce):
        by += in_force.pipeline.approvers
    if not by:
        return approval.Given()
    try:
        with connect(context.site.image) as registry:
            return approval.fetch(context, registry, digest, by)
    except DeliveryError as error:
        return Unknown(f"the approvals cannot be read: {error.message}")
