"""`delivery demo`: the whole story on this machine, from nothing to the proof."""

from delivery import change, image, live, promotion, proof, report
from delivery.cluster.up import up
from delivery.pipeline import Cluster, Pipeline


def run(pipeline: Pipeline, cluster: Cluster) -> list[proof.Proof]:
    """Bring the platform up, build once, carry that digest through every environment; the proofs.

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
    for environment in pipeline.environments[1:]:
        promotion.promote(pipeline, cluster, environment)
    proofs = [proof.decide(facts) for facts in live.observe(pipeline, cluster, pipeline.environments)]
    report.print_proofs(proofs)
    return proofs
