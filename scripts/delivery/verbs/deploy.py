"""`delivery deploy`: a built digest into the first environment."""

from delivery.build import image
from delivery.context import Context
from delivery.desired import change, tags
from delivery.desired import manifests as desired
from delivery.errors import BadInput
from delivery.parts import git
from delivery.parts.registry import connect
from delivery.progress import phase
from delivery.verbs.carry import Planned, Promotion, carry


def deploy(context: Context, digest: str | None = None) -> Promotion:
    """A built digest into the first environment: what CI does after a build.

    Without a digest it is the image of the newest commit that changed the app; it must be built already.
    """
    if digest is not None:
        desired.digest(digest)
    checkout = git.checkout(context.checkout)
    with connect(context.site.image) as registry:
        if digest is None:
            revision = image.source(context, checkout)
            built = image.find(context, registry, revision)
            if built is None:
                raise BadInput(f"commit {revision[:12]} is not built yet", "build it: delivery build")
        else:
            built = image.known(context, registry, digest)
        image.agrees(context, registry, built)
    if change.publish(context):
        head = checkout.commit("HEAD")
        with phase(f"{context.pipeline.git.branch} of the Git server is at {head[:12]}"):
            pass

    def plan(repository: git.Repository, commit: str) -> Planned:
        release = tags.release_branch(repository) if context.pipeline.by_tag else ""
        if not any(repository.contains(built.revision, one) for one in (commit, release) if one):
            raise BadInput(
                f"{built.digest[:19]} was built from {built.revision[:12] or 'an unnamed commit'}, "
                f"which is not in {context.pipeline.git.branch}",
                "build what is committed: delivery build",
            )
        first = context.pipeline.first
        return Planned(change.Request(first, built.digest, built.build, built.revision, None), built)

    return carry(context, context.pipeline.first, plan)
