"""`delivery status`, `history` and `report`: what runs where, what could come next, and how it came to be."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from delivery.context import Context
from delivery.desired.change import Record
from delivery.errors import Unknown
from delivery.gate import gather
from delivery.gate.gather import Next, Tests
from delivery.parts import git
from delivery.parts.emergency import Emergency
from delivery.proof import observe
from delivery.proof.decide import Proof
from delivery.signed import commits

_ENTRIES = 100  # changes on the page


@dataclass(frozen=True)
class Status:
    """What is proven about each environment, and what each could take next."""

    proofs: tuple[Proof, ...]
    ahead: tuple[Next, ...]


@dataclass(frozen=True)
class History:
    """What changed, newest first, and when somebody went around the locks, by environment and oldest first."""

    changes: tuple[Record, ...]
    emergencies: Mapping[str, tuple[Emergency, ...] | Unknown]


@dataclass(frozen=True)
class Report:
    """All of it, as of one moment."""

    status: Status
    tests: tuple[Tests, ...]
    entries: tuple[Record, ...]
    at: datetime


def status(context: Context) -> Status:
    """The proof of each environment, and what each could take next or what is missing for it."""
    proofs = observe.proofs(context, context.environments)
    return Status(tuple(proofs), tuple(gather.outlook(context, proofs)))


def history(context: Context, limit: int) -> History:
    """What changed what runs where: at most `limit` commits, and every emergency that a namespace tells of."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        told = pool.submit(observe.emergencies, context, context.environments)
        return History(_changes(context, limit), told.result())


def _changes(context: Context, limit: int) -> tuple[Record, ...]:
    """The commits, newest first; of a guarded environment those that its gate signed."""
    with git.clone(context.site.git, context.pipeline.git.branch, bare=True) as repository:
        return tuple(islice(commits.counted(context, repository, context.environments), limit))


def report(context: Context) -> Report:
    """The status, the signed tests and the trail."""
    at = datetime.now(UTC)
    found = status(context)
    return Report(found, tuple(gather.tests(context, found.proofs)), _changes(context, _ENTRIES), at)
