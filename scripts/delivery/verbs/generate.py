"""`delivery generate`: write what follows from pipeline.yaml, or find what is stale."""

from delivery.desired import derived
from delivery.pipeline import Pipeline


def run(pipeline: Pipeline, check: bool = False) -> str:
    """Write every file that is not as pipeline.yaml says; what changed, as a diff.

    With `check` nothing is written, and Refused names the files that are stale.
    """
    wanted = derived.files(pipeline)
    if check:
        derived.check(pipeline.root, wanted)
    changes = derived.stale(pipeline.root, wanted)
    difference = derived.difference(pipeline.root, changes)
    derived.write(pipeline.root, changes)
    return difference
