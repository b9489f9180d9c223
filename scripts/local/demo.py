"""`delivery demo`: the whole story on this machine, from nothing to the proof."""

from delivery.build import image
from delivery.desired import change
from delivery.errors import Refused
from delivery.gate import decide as gate
from delivery.gate import gather
from delivery.parts import git
from delivery.pipeline import Cluster, Environment, Pipeline
from delivery.proof import decide as proof
from delivery.proof import observe
from delivery.show import report
from delivery.verbs import approve as approving
from delivery.verbs import promote as promotion
from delivery.verbs import test as testing

from local.up import up


def run(pipeline: Pipeline, cluster: Cluster) -> list[proof.Proof]:
    """Bring the platform up, build once, test, approve and promote that digest, and show one refusal; the proofs.

    Each step does nothing when it was done before, so that a run that was killed is continued by the next.
    """
    built: list[image.Built] = []

    def push_and_build() -> None:
        change.publish(
            pipeline, cluster
        )  # first, so that no image is built from a commit that main never gets
        built.append(image.build(pipeline, cluster))

    up(cluster, meanwhile=push_and_build)
    promotion.deploy(pipeline, cluster, built[0].digest)
    for target in pipeline.environments[1:]:
        _enter(pipeline, cluster, target, built[0])
    proofs = observe.proofs(pipeline, cluster, pipeline.environments)
    report.print_proofs(proofs)
    return proofs


def _enter(pipeline: Pipeline, cluster: Cluster, target: Environment, built: image.Built) -> None:
    """Test where the digest is, have it approved where that is asked, and promote it."""
    source = pipeline.environment(target.source or "")
    if not _tested(pipeline, cluster, target, built):
        if target == pipeline.environments[-1]:
            _refused(pipeline, cluster, target)
        run = testing.run(pipeline, cluster, source)
        report.print_tested(run)
        if run.judgement.result != "PASSED":
            raise Refused(
                f"{source.name} {run.judgement.result}: build {run.build} goes no further",
                f"the reasons are above; see them again: delivery test {source.name}",
            )
    if target.approval:
        for approver in pipeline.approvers[: target.approval.required]:
            approving.run(pipeline, cluster, target, approver.name)
    promotion.promote(pipeline, cluster, target)


def _tested(pipeline: Pipeline, cluster: Cluster, target: Environment, built: image.Built) -> bool:
    with git.clone(cluster.git_url, pipeline.git.branch, bare=True) as repository:
        commit = repository.commit("HEAD")
        asked = gather.question(pipeline, cluster, repository, commit, target, built)
    return not isinstance(asked.evidence, proof.Unknown) and not gate.tested(asked)


def _refused(pipeline: Pipeline, cluster: Cluster, target: Environment) -> None:
    """Ask for what was not tested, to show that nothing comes of it."""
    before = git.server_ref(cluster.git_url, f"refs/heads/{pipeline.git.branch}")
    try:
        promotion.promote(pipeline, cluster, target)
    except Refused as error:
        if git.server_ref(cluster.git_url, f"refs/heads/{pipeline.git.branch}") == before:
            print(f"refused, as it must be, and nothing was written: {error.message}", flush=True)
            return
    raise Refused(f"{target.name} took a digest that was not tested", "this is a bug in delivery; report it")
