"""What could enter an environment next: which commit's chart and values, with which digest.

In manual-promotion it is the branch's newest commit with the digest that the environment before asks for. In
release-branch it is one commit with all that it has: the one that the environment before proved.
"""

from dataclasses import dataclass

from delivery.context import Context
from delivery.desired import change, tags
from delivery.desired import manifests as desired
from delivery.errors import Refused, Unknown
from delivery.parts.git import Repository
from delivery.pipeline import RELEASE, Environment
from delivery.proof import observe
from delivery.proof.decide import Proof
from delivery.signed import commits


@dataclass(frozen=True)
class Candidate:
    """What would enter."""

    commit: str
    digest: str
    proof: Proof | None = None  # of the environment before, where it was looked at


def of(
    context: Context,
    repository: Repository,
    target: Environment,
    meant: str | None = None,
    proof: Proof | None = None,
) -> Candidate:
    """What the environment before has for this one; Refused when it has nothing, or another digest than `meant`.

    `proof` is that of the environment before, where it is already at hand.
    """
    source = context.environment(target.source or "")
    if not context.pipeline.by_tag:
        head = repository.commit("HEAD")
        return Candidate(head, change.wanted(repository, source, target, head, meant))
    if source.guarded:
        record = commits.newest(context, repository, source)
        if record is None:
            raise Refused(
                f"nothing can enter {target.name}: nothing entered {source.name} yet",
                f"first: delivery promote {source.name}",
            )
        commit = tags.stands_on(repository, record.release)
    else:
        proof = proof or observe.proofs(context, [source], repository)[0]
        commit = _followed(repository, proof)
    return Candidate(commit, at(repository, source, target, commit, meant), proof)


def released(
    context: Context, repository: Repository, target: Environment, meant: str | None = None
) -> Candidate:
    """What the branch `release` has for an environment, whoever moved it; Refused when there is none."""
    source = context.environment(target.source or "")
    if not (commit := tags.release_branch(repository)):
        raise Refused(
            f"the Git server has no branch {RELEASE}",
            f"delivery promote {target.name} makes it, or: git push origin COMMIT:{RELEASE}",
        )
    return Candidate(commit, at(repository, source, target, commit, meant))


def at(
    repository: Repository, source: Environment, target: Environment, commit: str, meant: str | None
) -> str:
    """The digest that a commit names for both environments; Refused when it names two, or another one is meant."""
    digest = change.wanted(repository, source, target, commit, meant)
    try:
        asked = desired.image(repository, target, commit)[1]
    except desired.NothingYet:
        asked = ""
    if asked != digest:
        raise Refused(
            f"commit {commit[:12]} names {digest[:19]} for {source.name} "
            f"and {asked[:19] or 'no digest'} for {target.name}",
            "delivery deploy writes one digest for all; a commit made by hand does, too",
        )
    return digest


def _followed(repository: Repository, proof: Proof) -> str:
    """The commit of the branch that Argo CD has where that is followed; the newest when that is not known."""
    there = "" if isinstance(proof.facts.argocd, Unknown) else proof.facts.argocd.revision
    return there if repository.contains(there, "HEAD") else repository.commit("HEAD")
