"""What the gate is asked: everything there is to know about one digest that wants into one environment."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from delivery import pipeline as pipelines
from delivery.build import image
from delivery.desired import change, tree
from delivery.desired.manifests import Desired
from delivery.errors import DeliveryError, Unknown
from delivery.gate import decide as gate
from delivery.parts import git
from delivery.parts.registry import connect
from delivery.pipeline import Cluster, Environment, Pipeline
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
    found: evidence.Found | Unknown


def question(
    pipeline: Pipeline,
    cluster: Cluster,
    repository: git.Repository,
    commit: str,
    target: Environment,
    built: image.Built,
    source: Proof | None = None,
) -> gate.Question:
    """Gather what the decision rests on, as of one commit of the server's branch.

    `source` is the proof of the environment before, where it is already at hand.
    """
    before = pipeline.environment(target.source or "")
    with ThreadPoolExecutor(max_workers=3) as pool:
        proven = pool.submit(lambda: source or observe.proofs(pipeline, cluster, [before])[0])
        found = pool.submit(_evidence, pipeline, cluster, built.digest, before)
        allowed = pool.submit(_approvals, pipeline, cluster, built.digest, target)
        trees = tree.at(pipeline, repository, before, commit)
        return gate.Question(
            pipeline=pipeline,
            target=target,
            digest=built.digest,
            source=proven.result(),
            evidence=found.result(),
            approvals=allowed.result(),
            trees=trees,
            change=approval.change(repository, target, commit, built.build, built.digest, trees.chart),
            authors=approval.authors(repository, built.revision) | {change.author(pipeline)[1].lower()},
            rules=repository.show(commit, pipelines.FILE) == (pipeline.root / pipelines.FILE).read_bytes(),
            now=datetime.now(UTC),
        )


def outlook(pipeline: Pipeline, cluster: Cluster, proofs: Iterable[Proof]) -> list[Next]:
    """What each environment could take next; those where nothing can come from are left out."""
    known = {one.facts.environment: one for one in proofs}
    found: list[Next] = []
    try:
        with git.clone(cluster.git_url, pipeline.git.branch, bare=True) as repository:
            for target in pipeline.environments:
                source = known.get(target.source or "")
                if source is not None and isinstance(source.facts.desired, Desired):
                    here = known[target.name].facts.desired
                    found.append(_next(pipeline, cluster, repository, target, source, here))
    except (git.GitFailed, git.ServerUnreachable):
        return []  # the proofs say so
    return found


def tests(pipeline: Pipeline, cluster: Cluster, proofs: Iterable[Proof]) -> list[Tests]:
    """The signed evidence about what each environment is asked to run; none for what cannot be read."""

    def one(proof: Proof) -> list[Tests]:
        wanted, name = proof.facts.desired, proof.facts.environment
        if isinstance(wanted, Unknown):
            return []
        found = _evidence(pipeline, cluster, wanted.digest, pipeline.environment(name))
        return [Tests(name, wanted.digest, found)]

    with ThreadPoolExecutor(max_workers=8) as pool:
        return [found for some in pool.map(one, proofs) for found in some]


def _next(
    pipeline: Pipeline,
    cluster: Cluster,
    repository: git.Repository,
    target: Environment,
    source: Proof,
    here: Desired | Unknown,
) -> Next:
    wanted = source.facts.desired
    assert isinstance(wanted, Desired)  # noqa: S101 - asked by the caller
    new = isinstance(here, Unknown) or here.digest != wanted.digest
    try:
        with connect(cluster) as registry:
            built = image.known(pipeline, registry, wanted.digest)
        commit = repository.commit("HEAD")
        asked = question(pipeline, cluster, repository, commit, target, built, source)
        decision = gate.decide(asked)
    except DeliveryError as error:
        decision = gate.Decision((), (error.message,))
    return Next(target.name, wanted.digest, wanted.tag, new, decision)


def _evidence(
    pipeline: Pipeline, cluster: Cluster, digest: str, environment: Environment
) -> evidence.Found | Unknown:
    try:
        with connect(cluster) as registry:
            return evidence.fetch(pipeline, cluster, registry, digest, environment)
    except DeliveryError as error:
        return Unknown(f"the evidence of {environment.name} cannot be read: {error.message}")


def _approvals(
    pipeline: Pipeline, cluster: Cluster, digest: str, target: Environment
) -> approval.Found | Unknown:
    if target.approval is None:
        return approval.Found()
    try:
        with connect(cluster) as registry:
            return approval.fetch(pipeline, cluster, registry, digest)
    except DeliveryError as error:
        return Unknown(f"the approvals cannot be read: {error.message}")
