"""The four figures of DORA, by hand-made histories whose figures anybody can reckon on paper."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from delivery.desired.change import Record
from delivery.parts.emergency import Emergency
from delivery.signed.held import Held
from delivery.signed.trail import Line, State
from delivery.verbs.dora import Figures, figures

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
UNTIL = NOON + 10 * DAY


def line(name: str, at: datetime, lead: timedelta | None = None, **changes: Any) -> Line:
    """A promotion into prod; `restores` makes a rollback of it."""
    restores = changes.pop("restores", "")
    record = Record(
        commit=name,
        date=at.isoformat(),
        author="Ada",
        environment=changes.pop("environment", "prod"),
        build="1",
        before="",
        after="",
        revision="",
        promoted_from="prod" if restores else "stage",
        evidence="",
        approved_by="",
        requested_by="",
        restores=restores,
        reason="",
    )
    kind = "rollback" if restores else "promotion"
    told = {
        "kind": kind,
        "state": State.VERIFIED,
        "held": Held(()),
        "build_before": "",
        "lead": lead,
        "at": at,
    }
    return Line(record, **(told | changes))


def of(*lines: Line, emergencies: tuple[Emergency, ...] = (), since: datetime = NOON) -> Figures:
    return figures("prod", lines, emergencies, since, UNTIL)


A = line("a", NOON, HOUR)
B = line("b", NOON + 2 * DAY, 2 * HOUR)
C = line("c", NOON + 4 * DAY, 6 * HOUR)


def test_nothing_to_measure() -> None:
    """Nothing entered: no promotion a day, and neither a rate nor a time is made up."""
    assert of() == Figures("prod", NOON, UNTIL, 0, 0, 0.0, None, None, None)


def test_nothing_failed() -> None:
    """Three promotions in ten days, one of configuration alone: its lead time is none, and the median is of two."""
    found = of(A, C, line("b", NOON + DAY, kind="configuration"))
    assert (found.promotions, found.per_day, found.lead) == (3, 0.3, 3.5 * HOUR)
    assert (found.failed, found.failure_rate, found.recovery) == (0, 0.0, None)


def test_one_was_rolled_back() -> None:
    """One of two is rolled back after three hours. The rollback itself is no promotion and has no lead time."""
    found = of(A, B, line("r", B.at + 3 * HOUR, restores="a"))
    assert (found.promotions, found.failed, found.failure_rate) == (2, 1, 0.5)
    assert (found.recovery, found.lead) == (3 * HOUR, 1.5 * HOUR)


def test_a_rollback_further_back() -> None:
    """What came back by a rollback is rolled back as well: then both failed, each from its own entry on."""
    back, further = line("r", C.at + HOUR, restores="b"), line("s", C.at + 2 * HOUR, restores="a")
    found = of(A, B, C, back, further)
    assert (found.promotions, found.failed) == (3, 2)
    assert found.recovery == (HOUR + (C.at + 2 * HOUR - B.at)) / 2


def test_a_rollback_to_what_runs() -> None:
    """It says again what entered, after an emergency: nothing failed by that."""
    assert of(A, B, line("r", B.at + HOUR, restores="b")).failed == 0


def test_the_same_release_again() -> None:
    """It failed once, and entered again later: one of the two promotions failed, by its own hours."""
    again = line("d", C.at + DAY, restores="b", kind="promotion")
    found = of(A, B, line("r", B.at + HOUR, restores="a"), again)
    assert (found.promotions, found.failed, found.recovery) == (3, 1, HOUR)


@pytest.mark.parametrize(
    ("until", "lasted"), [(B.at + 5 * HOUR, 5 * HOUR), (None, None), (UNTIL + DAY, None)]
)
def test_an_emergency(until: datetime | None, lasted: timedelta | None) -> None:
    """What ran when an emergency began has failed, until that was over; while it is on nobody knows how long."""
    found = of(A, B, C, emergencies=(Emergency("eve", B.at + 4 * HOUR, "it burns", until),))
    assert (found.failed, found.failure_rate, found.recovery) == (1, pytest.approx(1 / 3), lasted)


def test_an_emergency_and_a_rollback() -> None:
    """One promotion fails once, however it was mended; what ended it first counts."""
    emergency = Emergency("eve", B.at + HOUR, "it burns", B.at + 2 * HOUR)
    found = of(A, B, line("r", B.at + 3 * HOUR, restores="a"), emergencies=(emergency,))
    assert (found.failed, found.recovery) == (1, 2 * HOUR)


def test_an_emergency_before_anything_entered() -> None:
    """Nothing ran that could have failed."""
    assert of(B, emergencies=(Emergency("eve", NOON, "it burns", None),)).failed == 0


def test_only_the_days_that_were_asked_for() -> None:
    """What entered before is neither counted nor, rolled back now, a failure of these days."""
    rolled_back = line("r", C.at + HOUR, restores="z")
    found = of(A, B, rolled_back, since=B.at + HOUR)
    assert (found.promotions, found.failed, found.failure_rate, found.lead) == (0, 0, None, None)
    assert of(A, B, line("z", UNTIL + HOUR)).promotions == 2


@pytest.mark.parametrize("state", [State.BROKEN, State.UNKNOWN, State.UNVERIFIED])
def test_what_is_not_verified_does_not_count(state: State) -> None:
    """A line that does not hold makes no figure better."""
    assert of(A, line("b", B.at, HOUR, state=state)).promotions == 1
    assert of(A, line("b", B.at, HOUR, environment="stage")).promotions == 1
