"""The one way around the lock of a guarded namespace, as the namespace itself tells it.

An emergency is an annotation that only the group of roles.EMERGENCY sets, and that the API server keeps: while it is
there, that group writes in the namespace. It ends by moving, with the time of its end, to those that are over. Those
stay as long as the namespace does.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from delivery import roles

_TIME = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"
_ON = re.compile(rf"^(\S+) {_TIME} (.*\S.*)$")
_OVER = re.compile(rf"^(\S+) {_TIME} (.*\S.*) until {_TIME}$")


@dataclass(frozen=True)
class Emergency:
    """Who opened a guarded namespace, when and why, and until when; None while it is open."""

    person: str
    since: datetime
    reason: str
    until: datetime | None = None

    def __str__(self) -> str:
        """One line for people."""
        over = f" until {_text(self.until)}" if self.until else ""
        return f"{self.person} {_text(self.since)} {self.reason}{over}"


def of(namespace: Mapping[str, Any]) -> tuple[Emergency, ...]:
    """Every emergency that a Namespace object tells of, the oldest first; the one that is on has no end.

    ValueError when an annotation is there and says something else: then nobody knows what happened.
    """
    annotations = namespace["metadata"].get("annotations") or {}
    told = [_read(_OVER, line) for line in (annotations.get(roles.EMERGENCIES) or "").splitlines()]
    if roles.IN_EMERGENCY in annotations:
        told.append(_read(_ON, annotations[roles.IN_EMERGENCY]))
    return tuple(told)


def _read(form: re.Pattern[str], text: str) -> Emergency:
    found = form.match(text)
    if not found:
        raise ValueError(f"an emergency that cannot be read: {text[:200]!r}")
    person, since, reason, *until = found.groups()
    return Emergency(person, _when(since), reason, _when(until[0]) if until else None)


def _when(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
