"""`delivery approve ENV --from-review`: the review of a merged pull request as the approval, signed by CI's key for it.

What reviewers said counts for the commit that they saw. So what would enter must be what that commit has: chart, values
of the environment, rules. Whoever wrote any of it, or opened the pull request, is no reviewer of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from delivery import pipeline as pipelines
from delivery.build import image
from delivery.context import Context
from delivery.desired import manifests as desired
from delivery.desired import tree
from delivery.errors import BadInput, Refused, Unknown
from delivery.gate import authors, gather
from delivery.gate import decide as gate
from delivery.gate.in_force import InForce
from delivery.parts import forge, git
from delivery.parts.forge import PullRequest, Review
from delivery.parts.registry import connect
from delivery.pipeline import REVIEW, Environment
from delivery.progress import phase
from delivery.signed import approval, evidence, keys
from delivery.signed.approval import Approval
from delivery.verbs import approve


@dataclass(frozen=True)
class Reviewed:
    """What reviewers allowed, and where they did."""

    environment: str
    digest: str
    build: str
    page: str  # of the pull request
    approvers: tuple[str, ...]  # their identities
    evidence: str
    new: bool  # whether anything was signed; else all of it counts already


def run(context: Context, environment: Environment) -> Reviewed:
    """Sign what the reviewers of the merged pull request said that asks the environment for what is to enter it.

    Refused, with every reason, where too few of their words count; nothing is signed then. The token's owner says in
    DELIVERY_FORGE whose reviews count: pipeline.yaml, which a push can change, is only held against it.
    """
    where = forge.of(context.site)
    forge.insist_named(where)
    keys.private(context.site, REVIEW)
    branch = context.pipeline.git.branch
    with (
        forge.connect(where) as there,
        git.clone(context.site.git, branch, bare=True) as repository,
        connect(context.site.image) as registry,
    ):
        commit = repository.commit("HEAD")
        _, digest = desired.image(repository, environment, commit)
        built = image.known(context, registry, digest)
        with phase(f"The evidence about {digest[:19]} for {environment.name}"):
            asked = gather.question(context, repository, commit, environment, built)
        rule = _rule(asked)
        approve.insist_tested(asked)
        brought = repository.run(
            "log", "-1", "--first-parent", "--format=%H", commit, "--", environment.values
        )
        pull = there.merged_as(brought, branch)
        if pull is None:
            raise Refused(
                f"commit {brought[:12]}, which asks for {digest[:19]}, came by no merged pull request of {where.page}",
                f"propose it: delivery promote {environment.name} --pull-request",
            )
        with phase(f"The reviews of {pull.page}"):
            said = there.reviews(pull)
        _bring(repository, there, pull)
        _insist_seen(context, repository, pull, asked, brought, commit)
        wrote = repository.run("rev-list", pull.head, f"^{brought}^").split()
        made_by = asked.authors.everybody | authors.emails_of(
            authors.written(repository, repository.commits(wrote).values())
        )
    good, against = counted(asked, rule, where.page, pull, said, made_by)
    required = rule.approval.required if rule.approval else 1
    if len(good) < required:
        raise Refused(
            f"{environment.name} needs {required} reviews that count, and {pull.page} has {len(good)}"
            + "".join(f"; {one}" for one in against),
            "a reviewer approves the newest commit before it is merged; what is merged is proposed anew",
        )
    new = [one for one in good if not _known(asked, one)]
    for one in new:
        with phase(f"Signing the review by {one.said.approver} of {digest[:19]} for {environment.name}"):
            approval.put(context, digest, one)
    used = evidence.set_hash(gate.uses(asked))
    people = tuple(one.said.approver for one in good)
    return Reviewed(environment.name, digest, built.build, pull.page, people, used, bool(new))


def counted(
    asked: gate.Question,
    rule: Environment,
    page: str,
    pull: PullRequest,
    said: Sequence[Review],
    made_by: frozenset[str],
) -> tuple[list[Approval], list[str]]:
    """The words that count, as approvals that are not signed yet, and why each other one does not.

    `page` is the repository's on the forge; `made_by` are the e-mails of everybody who wrote any of it.
    """
    known = {one.login.lower(): one for one in asked.pipeline.approvers if one.login}
    used = evidence.set_hash(gate.uses(asked))
    good: list[Approval] = []
    against: list[str] = []
    for one in said:
        by = known.get(one.login.lower())
        if by is None:
            against.append(f"{one.login[:40]} is no approver of pipeline.yaml")
        elif not one.approves:
            against.append(f"the newest word of {one.login} is {one.says}")
        elif one.commit != pull.head:
            against.append(
                f"{one.login} approved {one.commit[:12] or 'no commit that is known'}, not {pull.head[:12]}"
            )
        elif one.login.lower() == pull.author.lower():
            against.append(f"{one.login} opened it")
        else:
            told = approval.Review(page=page, number=pull.number, login=one.login, commit=one.commit)
            made = approval.unsigned(rule, by, used, asked.scope, one.at, told)
            why = approval.objections(made, asked.pipeline, rule, used, asked.scope, made_by, asked.now)
            if why:
                against.append(f"the review of {one.login} {', '.join(why)}")
            else:
                good.append(made)
    return good, against


def _rule(asked: gate.Question) -> Environment:
    """The target by whose rule a review is asked for: as it is now, else as it was when it was last entered."""
    target = asked.target
    if isinstance(asked.in_force, Unknown):
        raise Refused(f"nothing to approve for {target.name}: {asked.in_force.reason}", "delivery status")
    rules = [target]
    if isinstance(asked.in_force, InForce):
        rules.append(asked.in_force.pipeline.environment(target.name))
    for one in rules:
        if one.approval and one.approval.by_review:
            return one
    raise BadInput(
        f"{target.name} is not approved by review",
        f"approval: {{ by: review }} in pipeline.yaml says so; else: delivery approve {target.name}",
    )


def _bring(repository: git.Repository, there: forge.Forge, pull: PullRequest) -> None:
    """Have the commit here that was reviewed; Refused where the Git server has another one for the pull request."""
    if repository.has(pull.head):
        return
    found = repository.fetch(there.head_ref.format(pull.number))
    if found != pull.head:
        raise Refused(
            f"{pull.page} is at {pull.head[:12]}, and the Git server has {found[:12]} for it",
            "is it the repository that the site's git.url names?",
        )


def _insist_seen(
    context: Context,
    repository: git.Repository,
    pull: PullRequest,
    asked: gate.Question,
    brought: str,
    commit: str,
) -> None:
    """Return when what would enter is what the reviewers saw, and it came by this pull request."""
    environment, branch = asked.target, context.pipeline.git.branch
    again = f"propose it again: delivery promote {environment.name} --pull-request"
    if not (repository.contains(pull.merged, commit) and repository.contains(brought, pull.merged)):
        raise Refused(
            f"{pull.page} says it was merged as {pull.merged[:12]}, which {branch} does not have so", again
        )
    if tree.values(repository, environment, commit) != asked.scope.values.sha256:
        raise Refused(
            f"{environment.values} on {branch} does not name {asked.digest[:19]} as it was built",
            f"what is wrong there: delivery check {branch}",
        )
    same = desired.same(context, repository, environment, pull.head, commit)
    if not same or repository.show(pull.head, pipelines.FILE) != repository.show(commit, pipelines.FILE):
        raise Refused(
            f"what would enter {environment.name} is not what was reviewed: chart, values or rules differ "
            f"between {pull.head[:12]} and {branch}",
            again,
        )


def _known(asked: gate.Question, one: Approval) -> bool:
    """Whether the same word is signed already."""
    if isinstance(asked.approvals, Unknown):
        return False
    return any(other.signer == REVIEW and other.said == one.said for other in asked.approvals.approvals)
