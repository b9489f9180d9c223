"""Lead times: how long a build took from its source commit until each environment was asked for it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from delivery.desired.change import Record
from delivery.parts import git


@dataclass(frozen=True)
class LeadTime:
    """When a digest first entered an environment, and how many seconds after its source commit.

    `seconds` is None where that commit is not known, or says that it is younger.
    """

    build: str
    environment: str
    digest: str
    entered: datetime
    seconds: float | None


def of(records: Iterable[Record], committed: Mapping[str, datetime]) -> tuple[LeadTime, ...]:
    """The lead times of these changes, newest first as they are.

    `committed` says when a source commit was made. A rollback brings nothing new, and of what entered twice the first
    time counts.
    """
    first = {(one.after, one.environment): one for one in records if not one.rollback}
    return tuple(
        _one(record, entered, committed.get(record.revision))
        for record in first.values()
        if (entered := git.moment(record.date))
    )


def _one(record: Record, entered: datetime, committed: datetime | None) -> LeadTime:
    seconds = (entered - committed).total_seconds() if committed else None
    known = seconds if seconds is not None and seconds >= 0 else None
    return LeadTime(record.build, record.environment, record.after, entered, known)
