"""`delivery rollback ENV`: a digest that already ran there, again."""

from delivery.build import image
from delivery.context import Context
from delivery.desired import change, tree
from delivery.desired import manifests as desired
from delivery.errors import Refused
from delivery.parts import git
from delivery.parts.registry import Registry, connect
from delivery.pipeline import Environment
from delivery.signed import evidence
from delivery.verbs.carry import Promotion, carry


def rollback(context: Context, environment: Environment, digest: str | None = None) -> Promotion:
    """A digest that already ran here, again: by default the one before; one more commit, like every change.

    The gate is not asked again: what ran here had passed it. Refused for a digest that Git's history does not
    show here, or that no signed evidence ever called PASSED; and for the one that runs, where it would bring more.
    """
    if digest is not None:
        desired.digest(digest)

    def plan(repository: git.Repository, commit: str) -> tuple[change.Request, image.Built]:
        _, now = desired.image(repository, environment, commit)
        ran = [e.after for e in change.history(repository, commit) if e.environment == environment.name]
        before = [one for one in ran if one != now]
        asked = digest or (before[0] if before else "")
        if asked not in ran:
            raise Refused(
                f"{environment.name} never ran {asked[:19] or 'anything else'}: nothing to go back to",
                "see what ran there: delivery history",
            )
        if asked == now and environment.sync == "exact-commit":
            _insist_unchanged(context, repository, environment, asked, commit)
        with connect(context.site.image) as registry:
            built = image.known(context, registry, asked)
            _passed_once(context, registry, environment, asked)
        return change.Request(environment, asked, built.build, built.revision, environment.name), built

    return carry(context, environment, plan)


def _insist_unchanged(
    context: Context,
    repository: git.Repository,
    environment: Environment,
    digest: str,
    commit: str,
) -> None:
    """Going back to what runs is no way in for what main has now: chart and values must be those of its commit."""
    entered = change.entered(repository, environment, digest, commit)
    then, now = (tree.at(context, repository, environment, one) for one in (entered, commit))
    if (then.chart, then.values) != (now.chart, now.values):
        raise Refused(
            f"{environment.name} asks for {digest[:19]} already, and the "
            f"{'chart' if then.chart != now.chart else 'values'} changed since {entered[:12]}",
            f"bring that in through the gate: delivery promote {environment.name}",
        )


def _passed_once(context: Context, registry: Registry, environment: Environment, digest: str) -> None:
    # Git's history alone can be written by hand.
    if environment.source is None:
        return
    asked = (environment, context.pipeline.environment(environment.source))
    found = (evidence.fetch(context, registry, digest, one).evidence for one in asked)
    if not any(run.result == "PASSED" for runs in found for run in runs):
        raise Refused(
            f"{digest[:19]} never passed a test of {asked[1].name} or {environment.name}",
            "go back to one that did: delivery history",
        )
