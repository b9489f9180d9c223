"""`delivery promote ENV`: the digest of the environment before into this one, if its gate lets it in."""

from dataclasses import dataclass

from delivery.build import image
from delivery.context import Context
from delivery.desired import change, difference
from delivery.desired import manifests as desired
from delivery.errors import BadInput, NotReached, Refused
from delivery.gate import decide as gate
from delivery.gate import gather
from delivery.parts import git
from delivery.parts.registry import connect
from delivery.pipeline import Environment
from delivery.progress import phase
from delivery.signed import evidence
from delivery.verbs.carry import Planned, Promotion, carry


@dataclass(frozen=True)
class Preview:
    """What a promotion would change: the digest, the rendered manifests, and the gate's answer."""

    environment: str
    build: str
    before: str
    after: str
    diff: str
    untested: str  # the difference between what was tested in the environment before and what would run here
    decision: gate.Decision


def promote(
    context: Context,
    environment: Environment,
    digest: str | None = None,
    tag: str | None = None,
) -> Promotion:
    """The digest of the environment before into this one, and no other.

    `digest` says which one is meant, `tag` that it must be built from this Git tag: either only refuses more.
    """
    if environment.source is None:
        raise BadInput(f"{environment.name} gets its digests from the build", "delivery deploy")
    if digest is not None:
        desired.digest(digest)
    source = context.pipeline.environment(environment.source)
    meant = digest

    def plan(repository: git.Repository, commit: str) -> Planned:
        nonlocal meant
        meant = change.wanted(repository, source, environment, commit, meant)
        with connect(context.site.image) as registry:
            built = image.known(context, registry, meant)
        if tag is not None:
            _tagged(context, repository, tag, built)
        with phase(f"The gate of {environment.name} lets {meant[:19]} in"):
            question = gather.question(context, repository, commit, environment, built)
            decision = gate.decide(question)
            insist(environment.name, decision)
        stands, release = _stands(context, repository, question, commit)
        asked = change.Request(
            environment=environment,
            digest=meant,
            build=built.build,
            revision=built.revision,
            promoted_from=source.name,
            evidence=evidence.set_hash(decision.uses),
            approved_by=decision.approved_by,
            stands=stands,
            release=release,
        )
        return Planned(asked, built, question.scope.rules.sha256, decision.inputs)

    return carry(context, environment, plan)


def preview(context: Context, environment: Environment, digest: str | None = None) -> Preview:
    """What `promote` would do now, and whether the gate would let it; nothing is written."""
    if environment.source is None:
        raise BadInput(f"{environment.name} gets its digests from the build", "delivery deploy")
    if digest is not None:
        desired.digest(digest)
    source = context.pipeline.environment(environment.source)
    with git.clone(context.site.git, context.pipeline.git.branch, bare=True) as repository:
        commit = repository.commit("HEAD")
        asked = change.wanted(repository, source, environment, commit, digest)
        with connect(context.site.image) as registry:
            built = image.known(context, registry, asked)
        question = gather.question(context, repository, commit, environment, built)
        decision = gate.decide(question)
        request = change.Request(environment, asked, built.build, built.revision, source.name)
        has = question.runs.release if question.runs else ""
        shown = difference.shown(context, repository, request, commit, has, source)
    return Preview(
        environment=environment.name,
        build=built.build,
        before=shown.before,
        after=asked,
        diff=shown.diff,
        untested=shown.untested,
        decision=decision,
    )


def insist(environment: str, decision: gate.Decision) -> None:
    """Return when the gate said yes; Refused or NotReached with every reason when it did not."""
    if decision.allowed:
        return
    reasons = "; ".join(decision.refusals + decision.unknowns)
    kind = Refused if decision.refusals else NotReached
    raise kind(f"{environment} stays as it is: {reasons}", "what is missing: delivery status")


def _stands(
    context: Context, repository: git.Repository, question: gate.Question, commit: str
) -> tuple[str, str]:
    """The change that asks for exactly this already, and the release that it restored; both empty when none does."""
    runs = question.runs
    if runs is None or runs.after != question.digest:
        return "", ""
    if not desired.same(context, repository, question.target, runs.release, commit):
        return "", ""
    return runs.commit, runs.restores


def _tagged(context: Context, repository: git.Repository, tag: str, built: image.Built) -> None:
    commit = git.server_ref(context.site.git, f"refs/tags/{tag}")
    if commit is None:
        raise BadInput(f"the Git server has no tag {tag}", f"git push {context.site.git.url} {tag}")
    repository.fetch(f"refs/tags/{tag}")
    source = repository.last_change(commit, context.pipeline.image.context)
    if source != built.revision:
        raise BadInput(
            f"tag {tag} is source commit {source[:12] or 'none'}, "
            f"but build {built.build} was built from {built.revision[:12]}",
            "tag the commit that was built, or build the one that was tagged",
        )
