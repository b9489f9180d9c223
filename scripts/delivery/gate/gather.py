"""What the gate is asked: everything there is to know about one digest that wants into one environment."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from delivery import pipeline as pipelines
from delivery.build import image
from delivery.context import Context
from delivery.desired import change, tree
from delivery.desired.manifests import Desired
from delivery.errors import DeliveryError, Unknown
from delivery.gate import authors
from delivery.gate import decide as gate
from delivery.parts import git
from delivery.parts.registry import connect
from delivery.pipeline import Environment
from delivery.proof import observe
from delivery.proof.decide import Proof
from delivery.signed import approval, evidence


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
    with ThreadPoolExecutor(max_workers=4) as pool:
        proven = pool.submit(lambda: source or observe.proofs(context, [before], repository)[0])
        found = pool.submit(_evidence, context, built.digest, before)
        allowed = pool.submit(_approvals, context, built.digest, target)
        made = pool.submit(authors.between, context, repository, commit, target, built.revision)
        trees = tree.at(context, repository, before, commit)
        return gate.Question(
            pipeline=context.pipeline,
            target=target,
            digest=built.digest,
            source=proven.result(),
            evidence=found.result(),
            approvals=allowed.result(),
            trees=trees,
            scope=approval.scope(context, repository, target, commit, built.build, built.digest, trees.chart),
            authors=made.result() | {change.author(context)[1].lower()},
            rules=repository.show(commit, pipelines.FILE) == (context.checkout / pipelines.FILE).read_bytes(),
            held=change.held(repository, target, built.digest, commit),
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


def _evidence(context: Context, digest: str, environment: Environment) -> evidence.Recorded | Unknown:
    try:
        with connect(context.site.image) as registry:
            return evidence.fetch(context, registry, digest, environment)
    except DeliveryError as error:
        return Unknown(f"the evidence of {environment.name} cannot be read: {error.message}")


def _approvals(context: Context, digest: str, target: Environment) -> approval.Given | Unknown:
    if target.approval is None:
        return approval.Given()
    try:
        with connect(context.site.image) as registry:
            return approval.fetch(context, registry, digest)
    except DeliveryError as error:
        return Unknown(f"the approvals cannot be read: {error.message}")
