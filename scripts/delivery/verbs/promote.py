"""`delivery promote ENV`: the digest of the environment before into this one, if its gate lets it in."""

from dataclasses import dataclass, replace

from delivery.build import image
from delivery.context import Context
from delivery.desired import change, difference, tags
from delivery.desired import manifests as desired
from delivery.errors import BadInput, NotReached, Refused
from delivery.gate import candidate, gather
from delivery.gate import decide as gate
from delivery.parts import git
from delivery.parts.registry import connect
from delivery.pipeline import RELEASE, Environment
from delivery.progress import phase
from delivery.signed import evidence
from delivery.verbs import frozen
from delivery.verbs.carry import Planned, Promotion, carry, insist_followed


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
    version: str | None = None,
) -> Promotion:
    """The digest of the environment before into this one, and no other.

    `digest` says which one is meant, `tag` that it must be built from this Git tag: either only refuses more. In
    release-branch what enters is the very commit that the environment before proved, with its chart and values:
    `release` goes forward to it, or, into the last environment, a tag is made, called `version` or the next one.
    """
    source = before(context, environment)
    if digest is not None:
        desired.digest(digest)
    if version is not None:
        tags.version(context, environment, version)
    meant = digest

    def plan(repository: git.Repository, commit: str) -> Planned:
        nonlocal meant
        what = candidate.of(context, repository, environment, meant)
        meant = what.digest
        if context.pipeline.by_tag:
            _insist_forward(repository, source, environment, what.commit)
        return planned(context, repository, environment, what, tag, version)

    return carry(context, environment, plan)


def before(context: Context, environment: Environment) -> Environment:
    """The environment whose digests enter this one; BadInput for the first."""
    if environment.source is None:
        raise BadInput(f"{environment.name} gets its digests from the build", "delivery deploy")
    return context.environment(environment.source)


def planned(
    context: Context,
    repository: git.Repository,
    environment: Environment,
    what: candidate.Candidate,
    tag: str | None = None,
    version: str | None = None,
) -> Planned:
    """The change by which something enters, if the gate lets it in; Refused or NotReached with every reason if not."""
    with connect(context.site.image) as registry:
        built = image.known(context, registry, what.digest)
    if tag is not None:
        _tagged(context, repository, tag, built)
    with phase(f"The gate of {environment.name} lets {what.digest[:19]} in"):
        question = gather.question(context, repository, what.commit, environment, built, what.proof)
        decision = gate.decide(question)
        insist(environment.name, decision)
    asked = replace(
        gather.as_it_stands(context, environment, built, what.commit),
        evidence=evidence.set_hash(decision.uses),
        approved_by=decision.approved_by,
        follows=question.runs,
    )
    inputs = decision.inputs
    stands = _stands(context, repository, question, what.commit)
    if stands and (version is None or stands.tag == version):
        inputs = gate.named(question, stands) or inputs
        asked = replace(asked, stands=stands.commit, release=stands.restores, tag=stands.tag)
    elif context.pipeline.by_tag:
        asked = replace(
            asked,
            tag=_name(context, repository, environment, version),
            forward=_forward(context, repository, environment, what.commit),
        )
    return Planned(asked, built, question.scope.rules.sha256, inputs)


def preview(context: Context, environment: Environment, digest: str | None = None) -> Preview:
    """What `promote` would do now, and whether the gate would let it; nothing is written.

    PlatformError, as the promotion's, where Argo CD does not run.
    """
    source = before(context, environment)
    if digest is not None:
        desired.digest(digest)
    insist_followed(context, environment)
    with git.clone(context.site.git, context.pipeline.git.branch, bare=True) as repository:
        what = candidate.of(context, repository, environment, digest)
        if context.pipeline.by_tag:
            _insist_forward(repository, source, environment, what.commit)
        with connect(context.site.image) as registry:
            built = image.known(context, registry, what.digest)
        question = gather.question(context, repository, what.commit, environment, built, what.proof)
        decision = frozen.also(context, environment, gate.decide(question))
        request = gather.as_it_stands(context, environment, built, what.commit)
        has = question.runs.release if question.runs else ""
        shown = difference.shown(context, repository, request, what.commit, has, source)
    return Preview(
        environment=environment.name,
        build=built.build,
        before=shown.before,
        after=what.digest,
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
) -> change.Record | None:
    """The change that asks for exactly this already."""
    runs = question.runs
    if runs is None or runs.after != question.digest:
        return None
    if context.pipeline.by_tag:
        return runs if runs.tag and tags.stands_on(repository, runs.release) == commit else None
    return runs if desired.same(context, repository, question.target, runs.release, commit) else None


def _insist_forward(
    repository: git.Repository, source: Environment, environment: Environment, commit: str
) -> None:
    """Return when `release` is, or can go forward to be, where the environment before proved the commit."""
    there = tags.release_branch(repository)
    if source.guarded or not there or repository.contains(there, commit):
        return
    raise Refused(
        f"{RELEASE} cannot go forward to {commit[:12]}, which {source.name} proved: it is at {there[:12]}, "
        f"which {commit[:12]} does not have",
        f"merge {RELEASE} into the branch, or let in what it has: delivery enter {environment.name}",
    )


def _forward(context: Context, repository: git.Repository, environment: Environment, commit: str) -> bool:
    """Whether `release` has to go forward: into the last environment nothing does but the tag."""
    there = tags.release_branch(repository)
    last = environment.name == context.environments[-1].name
    return not last and not (there and repository.contains(commit, there))


def _name(context: Context, repository: git.Repository, environment: Environment, version: str | None) -> str:
    """What the tag will be called; Refused when it is there already."""
    if version and repository.id_of(f"refs/tags/{version}"):
        raise Refused(
            f"tag {version} exists, and a tag is never moved", "name another, or none: then it is the next"
        )
    return version or tags.following(context, environment, repository.tag_names())


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
