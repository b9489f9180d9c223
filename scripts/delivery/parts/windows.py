"""The sync windows in Argo CD's project of an environment: its freezes, as the cluster itself holds them.

While one holds, Argo CD syncs and heals nothing there, whoever asks. A rollback that states a reason lifts them: then
Argo CD takes a sync that is ordered by hand, still of nothing but a commit that the gate signed. Each lift leaves a
line on the project for ever, which the API server asks for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from delivery import roles
from delivery.freeze import Freeze

Object = Mapping[str, Any]
_FORM = "%Y-%m-%dT%H:%M:%SZ"
_LINE = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) (.*\S.*)$")
_DURATION = re.compile(r"^(\d+)([hs])$")


@dataclass(frozen=True)
class Lift:
    """When somebody lifted the windows of a project, and why."""

    at: datetime
    reason: str


@dataclass(frozen=True)
class Frozen:
    """Until when a window holds, and what it says why."""

    until: datetime
    reason: str

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.until:%Y-%m-%d %H:%M %Z}: {self.reason}"


def frozen(project: Object, now: datetime) -> Frozen | None:
    """The window of an AppProject that holds now and ends last, lifted or not; ValueError for one that is not ours."""
    holding = [
        Frozen(until, one.reason)
        for one in map(_freeze, _of(project))
        if (until := one.until(now)) is not None
    ]
    return max(holding, key=lambda one: one.until, default=None)


def lifted(project: Object) -> bool:
    """Whether Argo CD takes a sync by hand although a window holds."""
    return any(one.get("manualSync") for one in _of(project))


def lifts(project: Object) -> tuple[Lift, ...]:
    """Every lift that this AppProject tells of, the oldest first; ValueError when a line says something else."""
    found = []
    for line in filter(None, _annotation(project).split("\n")):  # as the API server counts them
        if not (told := _LINE.match(line)):
            raise ValueError(f"a lifted freeze that cannot be read: {line[:200]!r}")
        found.append(Lift(datetime.strptime(told[1], _FORM).replace(tzinfo=UTC), told[2]))
    return tuple(found)


def to_lift(project: Object, reason: str, now: datetime) -> dict[str, Any]:
    """The patch that lifts all windows, with a line that says when and why."""
    line = f"{now.astimezone(UTC).strftime(_FORM)} {reason}"
    before = _annotation(project)
    told = {roles.LIFTS: f"{before}\n{line}" if before else line}
    opened = [{**one, "manualSync": True} for one in _of(project)]
    return {"spec": {"syncWindows": opened}, "metadata": {**_version(project), "annotations": told}}


def to_put_back(project: Object) -> dict[str, Any]:
    """The patch that puts all windows back."""
    return {"spec": {"syncWindows": shut(project)}, "metadata": _version(project)}


def shut(project: Object) -> list[dict[str, Any]]:
    """The windows as they are where nobody lifts them."""
    return [{**one, "manualSync": False} for one in _of(project)]


def _of(project: Object) -> list[dict[str, Any]]:
    return list((project.get("spec") or {}).get("syncWindows") or [])


def _annotation(project: Object) -> str:
    return str((project["metadata"].get("annotations") or {}).get(roles.LIFTS) or "")


def _version(project: Object) -> dict[str, Any]:
    """With it, nothing is written over what somebody else changed meanwhile."""
    return {"resourceVersion": project["metadata"]["resourceVersion"]}


def _freeze(window: Object) -> Freeze:
    duration = _DURATION.match(str(window.get("duration")))
    if window.get("kind") != "deny" or duration is None:
        raise ValueError("it has a sync window that is none of ours")
    try:
        return Freeze.model_validate(
            {
                "from": window.get("schedule"),
                "zone": window.get("timeZone") or "UTC",
                "hours": int(duration[1]) / (1 if duration[2] == "h" else 3600),
                "reason": window.get("description") or "it says no reason",
            }
        )
    except ValidationError:
        raise ValueError("it has a sync window that is none of ours") from None
