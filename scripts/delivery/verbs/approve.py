"""`delivery approve ENV`: look at what is asked, and sign it, as one of the approvers of pipeline.yaml."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from delivery import pipeline as pipelines
from delivery.build import image
from delivery.context import Context
from delivery.desired import change, difference
from delivery.errors import BadInput, Refused, Unknown
from delivery.gate import decide as gate
from delivery.gate import gather
from delivery.parts import git
from delivery.parts.registry import connect
from delivery.pipeline import Approver, Environment
from delivery.progress import phase
from delivery.signed import approval, evidence


@dataclass(frozen=True)
class Asked:
    """What an approver is shown before the signature."""

    environment: str
    build: str
    before: str
    after: str
    diff: str  # of the rendered manifests, from what runs there now
    untested: str  # of the rendered manifests, from what was tested in the environment before
    rules: str  # of pipeline.yaml, from the one by which the environment was last entered
    authors: tuple[str, ...]  # of all commits on the way, and who asks
    tested: tuple[str, ...]  # the evidence, one line each


@dataclass(frozen=True)
class Approved:
    """What was allowed, by whom, on which evidence."""

    environment: str
    digest: str
    build: str
    approver: str
    evidence: str
    new: bool


def run(
    context: Context,
    environment: Environment,
    name: str | None,
    digest: str | None = None,
    agrees: Callable[[Asked], bool] = lambda _: True,
) -> Approved:
    """Sign that what the environment before runs may enter, exactly as it would be committed now.

    `agrees` is asked with all that there is to see. Refused when it says no, when the tests do not allow it, or when
    the approver is an author. An approval that already counts is not made twice. `digest` says which one is meant.
    """
    if environment.approval is None or environment.source is None:
        raise BadInput(f"{environment.name} needs no approval", f"delivery promote {environment.name}")
    by = approval.approver(context, name)
    source = context.pipeline.environment(environment.source)
    with (
        git.clone(context.site.git, context.pipeline.git.branch, bare=True) as repository,
        connect(context.site.image) as registry,
    ):
        commit = repository.commit("HEAD")
        wanted = change.wanted(repository, source, environment, commit, digest)
        built = image.known(context, registry, wanted)
        with phase(f"The evidence of {source.name} about {wanted[:19]}"):
            asked = gather.question(context, repository, commit, environment, built)
            _judge(asked, by)
        used = evidence.set_hash(gate.uses(asked))
        new = not _counts(asked, by, used)
        if new and not agrees(_shown(context, repository, commit, asked, built)):
            raise Refused(
                f"{by.identity} did not approve {wanted[:19]} for {environment.name}", "nothing was signed"
            )
    if new:
        with phase(f"Signing the approval of {wanted[:19]} for {environment.name}"):
            now = datetime.now(UTC)
            approval.put(context, wanted, environment, by, used, asked.scope, now)
    return Approved(environment.name, wanted, built.build, by.identity, used, new)


def _shown(
    context: Context, repository: git.Repository, commit: str, asked: gate.Question, built: image.Built
) -> Asked:
    target = asked.target
    request = change.Request(target, built.digest, built.build, built.revision, target.source)
    has = asked.runs.release if asked.runs else ""
    tested_in = context.pipeline.environment(target.source or "")
    shown = difference.shown(context, repository, request, commit, has, tested_in)
    rules = repository.run("diff", has, commit, "--", pipelines.FILE) if has else ""
    tested = [
        f"{one.environment} {one.result} on {one.finished:%Y-%m-%d %H:%M} UTC, evidence sha256:{one.hash}"
        for one in gate.uses(asked)
    ]
    return Asked(
        *(target.name, built.build, shown.before, built.digest, shown.diff, shown.untested, rules),
        *(tuple(sorted(asked.authors)), tuple(tested)),
    )


def _judge(asked: gate.Question, by: Approver) -> None:
    name = asked.target.name
    for piece in (asked.evidence, asked.ledger):
        if isinstance(piece, Unknown):
            raise Refused(
                f"nothing to approve for {name}: {piece.reason}", f"when it answers: delivery approve {name}"
            )
    if reasons := gate.tested(asked):
        raise Refused(
            f"nothing to approve for {name}: {'; '.join(reasons)}",
            f"first: delivery test {asked.target.source}",
        )
    if by.identity.lower() in asked.authors:
        raise Refused(
            f"{by.identity} is an author of it and cannot approve it for {name}",
            "somebody else approves: --as",
        )


def _counts(asked: gate.Question, by: Approver, used: str) -> bool:
    if isinstance(asked.approvals, Unknown):
        return False
    return any(
        one.signer == by.name
        and not approval.objections(
            one, asked.pipeline, asked.target, used, asked.scope, asked.authors, asked.now
        )
        for one in asked.approvals.approvals
    )
