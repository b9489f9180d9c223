"""Who made what wants in: everybody whose commit stands between what an environment runs and what it is to run."""

from delivery import pipeline as pipelines
from delivery.build import image
from delivery.context import Context
from delivery.desired import change, tree
from delivery.parts.git import Repository
from delivery.parts.registry import connect
from delivery.pipeline import Environment

_FIELDS = "%ae%x00%ce%x00%(trailers:key=Co-authored-by,valueonly,separator=%x00)"


def between(
    context: Context,
    repository: Repository,
    commit: str,
    target: Environment,
    revision: str,
    runs: change.Record | None,
) -> frozenset[str]:
    """The e-mails, in small letters, of authors, committers and co-authors of these commits:

    - the source commit of the image, and those of the app since the source commit of the image that runs;
    - those of chart, the target's values, suites and pipeline.yaml since the commit whose release runs.

    `runs` is the change by which the target has what it runs. Where nothing runs yet there is nothing to count from:
    the source commit's alone. Where no approval is asked nobody needs to be known: none.
    """
    if target.approval is None:
        return frozenset()
    made = of(repository, "-1", revision)
    if runs is None:
        return made
    with connect(context.site.image) as registry:
        known = image.describe(context, registry, runs.after)
    since = known.revision if known else ""
    app, rules = context.pipeline.image.context, context.pipeline
    others = [f":(exclude){one.values}" for one in rules.environments if one.name != target.name]
    beside = [rules.chart.path, target.values, tree.SUITES, pipelines.FILE, *others]
    return (
        made
        | of(repository, _range(repository, since, revision), "--", app)
        | of(repository, _range(repository, runs.release, commit), "--", *beside)
    )


def of(repository: Repository, *commits: str) -> frozenset[str]:
    """Everybody who made one of the commits that `git log` shows for these arguments."""
    said = repository.run("log", "--full-history", f"--format={_FIELDS}", *commits)
    return frozenset(email(one) for line in said.splitlines() for one in line.split("\0") if one.strip())


def email(text: str) -> str:
    """The e-mail of `Name <e-mail>`, or of an e-mail alone, in small letters."""
    return text.rpartition("<")[2].rstrip("> \n").strip().lower()


def _range(repository: Repository, since: str, until: str) -> str:
    # Of a commit that nobody knows any more, everything came after.
    return f"{since}..{until}" if since and repository.has(since) else until
