"""`delivery demo`: the whole story on this machine, from nothing to the proof."""

from delivery import context as contexts
from delivery.build import image
from delivery.context import Context
from delivery.desired import change
from delivery.errors import Refused
from delivery.gate import decide as gate
from delivery.gate import gather
from delivery.parts import git
from delivery.pipeline import Environment
from delivery.proof import decide as proof
from delivery.proof import observe
from delivery.show import report
from delivery.verbs import approve as approving
from delivery.verbs import promote
from delivery.verbs import test as testing
from delivery.verbs.deploy import deploy
from local import as_left
from local.cluster import Cluster
from local.up import up


def run(cluster: Cluster) -> list[proof.Proof]:
    """Bring the platform up, build once, test, approve and promote that digest, and show one refusal; the proofs.

    Each step does nothing when it was done before, so that a run that was killed is continued by the next.
    """
    made: list[tuple[Context, image.Built]] = []

    def push_and_build() -> None:
        context = contexts.of(cluster.pipeline, cluster.site.name)
        change.publish(context)  # first, so that no image is built from a commit that main never gets
        made.append((context, image.build(context)))

    if as_left.holds(cluster):
        push_and_build()
    else:
        up(cluster, meanwhile=push_and_build)
    [(context, built)] = made
    deploy(context, built.digest)
    for target in context.environments[1:]:
        _enter(context, target, built)
    proofs = observe.proofs(context, context.environments)
    report.print_proofs(proofs)
    return proofs


def _enter(context: Context, target: Environment, built: image.Built) -> None:
    """Test where the digest is, have it approved where that is asked, and promote it."""
    source = context.environment(target.source or "")
    if not _tested(context, target, built):
        if target == context.environments[-1]:
            _refused(context, target)
        run = testing.run(context, source)
        report.print_tested(run)
        testing.insist(context, run)
    if target.approval:
        for approver in context.pipeline.approvers[: target.approval.required]:
            approving.run(context, target, approver.name)
    promote.promote(context, target)


def _tested(context: Context, target: Environment, built: image.Built) -> bool:
    with git.clone(context.site.git, context.pipeline.git.branch, bare=True) as repository:
        commit = repository.commit("HEAD")
        asked = gather.question(context, repository, commit, target, built)
    return not isinstance(asked.evidence, proof.Unknown) and not gate.tested(asked)


def _refused(context: Context, target: Environment) -> None:
    """Ask for what was not tested, to show that nothing comes of it."""
    before = git.server_ref(context.site.git, f"refs/heads/{context.pipeline.git.branch}")
    try:
        promote.promote(context, target)
    except Refused as error:
        if git.server_ref(context.site.git, f"refs/heads/{context.pipeline.git.branch}") == before:
            print(f"refused, as it must be, and nothing was written: {error.message}", flush=True)
            return
    raise Refused(f"{target.name} took a digest that was not tested", "this is a bug in delivery; report it")
