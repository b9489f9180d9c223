"""The verbs of the local platform, registered with `delivery` by an entry point."""

from typing import Annotated

import typer

from delivery.cli import chosen, judge
from delivery.errors import PlatformError


def register(app: typer.Typer) -> None:
    """Add up, down, doctor, pin and demo."""
    for verb in (up, down, doctor, pin, demo):
        app.command()(verb)


def up() -> None:
    """Bring up the local cluster with its registry, Git server and Argo CD; repeat it freely."""
    from local import cluster
    from local.up import up as run

    run(cluster.chosen(chosen.site))


def down(
    force: Annotated[
        bool, typer.Option("--force", help="Also a cluster that another checkout made.")
    ] = False,
) -> None:
    """Remove the local cluster and everything that `up` made."""
    from local import cluster
    from local.up import down as run

    run(cluster.chosen(chosen.site), force)


def doctor() -> None:
    """Look at each part of the local platform, and say how to mend what is wrong."""
    from local import cluster, show
    from local.up import doctor as run

    checks = run(cluster.chosen(chosen.site))
    show.checks(checks)
    wrong = [check for check in checks if not check.ok]
    if wrong:
        raise PlatformError(f"{len(wrong)} of {len(checks)} checks failed", wrong[0].hint)


def pin(
    images: Annotated[
        bool, typer.Option("--images", help="Only the images' digests, not the tools' checksums.")
    ] = False,
) -> None:
    """Ask registries and publishers what is there today, and write it into scripts/local/versions.yaml."""
    from delivery import pipeline
    from local import pinning, show

    show.pinned(pinning.run(pipeline.root(), images_only=images))


def demo() -> None:
    """From nothing to the same digest in every environment, and the proof; leaves the cluster running."""
    from local import cluster
    from local import demo as story

    judge(story.run(cluster.chosen(chosen.site)))
