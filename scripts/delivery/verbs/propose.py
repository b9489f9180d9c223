"""`delivery promote ENV --pull-request`: ask people on the forge for what `promote` would do, and let them merge it.

The commit on the branch is signed by no gate, so it enters nothing. After the merge the gate judges, signs and pins it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from delivery.build import image
from delivery.context import Context
from delivery.desired import change
from delivery.desired import manifests as desired
from delivery.errors import BadInput, Refused
from delivery.parts import forge, git
from delivery.parts.registry import connect
from delivery.pipeline import RELEASE, Environment
from delivery.progress import phase
from delivery.verbs import check, promote
from delivery.verbs.check import Checked

LABEL = "promotion"


@dataclass(frozen=True)
class Proposal:
    """The pull request that asks for a promotion."""

    environment: str
    build: str
    digest: str
    before: str
    branch: str
    commit: str
    number: int
    page: str
    new: bool  # opened by this run; else it was open, and says now what holds now


def propose(
    context: Context, environment: Environment, body: Callable[[Checked], str], digest: str | None = None
) -> Proposal:
    """Open a pull request for what `promote` would bring, or bring the open one up to date; Refused as `promote` is.

    An approval by review is not missed: it is what is asked for. `body` makes the text of what `check` finds.
    """
    source = promote.before(context, environment)
    if context.pipeline.by_tag:
        raise BadInput(
            "in release-branch people ask with a branch and a tag, not with an edit of the values",
            f"git push origin COMMIT:{RELEASE}, or a tag request/v…; then: delivery enter {environment.name}",
        )
    if digest is not None:
        desired.digest(digest)
    into = context.pipeline.git.branch
    with (
        forge.connect(forge.of(context.site)) as there,
        git.clone(context.site.git, into) as repository,
    ):
        base = repository.commit("HEAD")
        meant = change.wanted(repository, source, environment, base, digest)
        with connect(context.site.image) as registry:
            built = image.known(context, registry, meant)
        request = change.Request(environment, meant, built.build, built.revision, source.name)
        before, changed = change.write(context, repository.path, request)
        if not changed:
            raise Refused(
                f"{environment.values} on {into} asks for {meant[:19]} already: there is nothing to propose",
                f"look what it lacks: delivery promote {environment.name} --dry-run",
            )
        title = f"{environment.name}: {change.repository_name(environment)} {built.build}"
        branch = f"promote/{environment.name}-{built.build}"
        there_before = git.server_ref(context.site.git, f"refs/heads/{branch}")
        if there_before:
            repository.fetch(f"refs/heads/{branch}")
        commit = _commit(context, repository, request, base, there_before, title)
        checked = check.judged(context, repository, base, commit)
        promote.insist(environment.name, checked.decision)
        opened = there.opened(branch, into)
        if commit != there_before:
            with phase(f"Branch {branch} asks for build {built.build} in {environment.name}"):
                repository.push(commit, branch)
        words = title, body(checked)
        done = there.update(opened.number, *words) if opened else there.open(branch, into, *words)
        there.label(done.number, (LABEL, environment.name))
    return Proposal(
        *(environment.name, built.build, meant, before, branch, commit),
        *(done.number, done.page, opened is None),
    )


def _commit(
    context: Context,
    repository: git.Repository,
    request: change.Request,
    base: str,
    stands: str | None,
    title: str,
) -> str:
    """What the branch is to be at: `stands` where that asks for exactly this, else on top of it, never by force."""
    repository.raw("add", "--", request.environment.values)
    author = change.author(context)
    message = (
        f"{title}\n\nProposed for people to merge: {request.digest}, as {request.promoted_from} tested it.\n"
    )
    if stands is None or repository.contains(stands, base):
        return repository.commit_on(base, message, author)
    tree, newest = repository.run("write-tree"), repository.contains(base, stands)
    if newest and repository.run("rev-parse", f"{stands}^{{tree}}") == tree:
        return stands
    return repository.merge_of(tree, (stands,) if newest else (stands, base), message, author)
