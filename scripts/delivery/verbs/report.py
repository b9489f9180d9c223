"""`delivery status` and `report`: what runs where, what could come next, and how it came to be."""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from delivery.context import Context
from delivery.desired import tags
from delivery.desired.change import Record
from delivery.errors import Unknown, or_unknown
from delivery.gate import gather
from delivery.gate.gather import Next, Tests
from delivery.parts import git
from delivery.proof import observe
from delivery.proof.decide import Proof
from delivery.signed import commits
from delivery.verbs import lead_times
from delivery.verbs.lead_times import LeadTime

_ENTRIES = 100  # changes on the page


@dataclass(frozen=True)
class Status:
    """What is proven about each environment, and what each could take next."""

    proofs: tuple[Proof, ...]
    ahead: tuple[Next, ...]
    lacks: tuple[str, ...] | Unknown = ()  # commits of `release` that the branch lacks, in release-branch


@dataclass(frozen=True)
class Report:
    """All of it, as of one moment."""

    status: Status
    tests: tuple[Tests, ...]
    entries: tuple[Record, ...]
    lead_times: tuple[LeadTime, ...]
    at: datetime


def status(context: Context) -> Status:
    """The proof of each environment, and what each could take next or what is missing for it."""
    proofs = observe.proofs(context, context.environments)
    return Status(tuple(proofs), tuple(gather.outlook(context, proofs)), _lacks(context))


def _lacks(context: Context) -> tuple[str, ...] | Unknown:
    if not context.pipeline.by_tag:
        return ()

    def look() -> tuple[str, ...]:
        with git.clone(context.site.git, context.pipeline.git.branch, bare=True) as repository:
            return tuple(tags.lacking(repository))

    return or_unknown(look)


def report(context: Context) -> Report:
    """The status, the signed tests, the trail, and how long each build took."""
    at = datetime.now(UTC)
    found = status(context)
    tests = tuple(gather.tests(context, found.proofs))
    with git.clone(context.site.git, context.pipeline.git.branch, bare=True) as repository:
        counted = commits.counted(context, repository, context.environments)
        entries = tuple(islice(counted, _ENTRIES))
        committed = repository.committed(one.revision for one in entries)
    return Report(found, tests, entries, lead_times.of(entries, committed), at)
