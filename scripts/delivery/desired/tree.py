"""What a test result depends on besides the image, as hashes: suites, chart, values, rendered manifests."""

import hashlib
from dataclasses import dataclass

from delivery.context import Context
from delivery.desired import manifests as desired
from delivery.errors import BadInput
from delivery.parts.git import Repository
from delivery.pipeline import Environment

SUITES = "e2e/suites"


@dataclass(frozen=True)
class Trees:
    """What was tested with what: the same hashes mean the same content."""

    suites: str  # git's tree hash
    chart: str  # sha256 over the chart without any environment's values
    values: str  # sha256 of the environment's values file
    manifests: str = ""  # the identity of what the chart renders with them; empty where nobody rendered it


def at(context: Context, repository: Repository, environment: Environment, commit: str) -> Trees:
    """The hashes of a commit, as an environment sees it."""
    return Trees(
        suites(repository, commit),
        chart(context, repository, commit),
        values(repository, environment, commit),
    )


def suites(repository: Repository, commit: str) -> str:
    """git's own hash of the suites' folder."""
    line = repository.run("ls-tree", "--full-tree", commit, "--", SUITES)
    if not line:
        raise BadInput(f"{SUITES}/ is not in Git at {commit[:12]}", "commit the suites first")
    return line.split()[2]


def chart(context: Context, repository: Repository, commit: str) -> str:
    """Like a tree hash, but of everything in the chart except the environments' values files."""
    values_files = {environment.values for environment in context.pipeline.environments}
    listed = repository.raw("ls-tree", "-r", "-z", "--full-tree", commit, "--", context.pipeline.chart.path)
    entries = [entry for entry in listed.split(b"\0") if entry]
    kept = [entry for entry in entries if entry.partition(b"\t")[2].decode() not in values_files]
    if not kept:
        raise BadInput(
            f"{context.pipeline.chart.path}/ is not in Git at {commit[:12]}", "commit the chart first"
        )
    return hashlib.sha256(b"\0".join(sorted(kept))).hexdigest()


def values(repository: Repository, environment: Environment, commit: str) -> str:
    """The hash of an environment's values file."""
    return hashlib.sha256(desired.file(repository, environment, commit)).hexdigest()
