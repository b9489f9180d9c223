"""Lead times: from a source commit to each environment, and only where both times are known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from delivery.desired.change import Record
from delivery.parts.git import Repository
from delivery.verbs import lead_times
from scripts.tests.world import World

SOURCE = "a" * 40
MADE = datetime(2026, 11, 25, 12, tzinfo=UTC)
ENTERED = Record(
    *("c" * 40, "2026-11-25T14:00:00+01:00", "Ada", "dev", "15", "none", "sha256:1", SOURCE),
    *("build", "", "", "Ada", "", ""),
)


def test_from_the_source_commit_to_the_environment() -> None:
    """Committed at 12:00 UTC, asked for at 14:00 in Berlin: one hour."""
    [one] = lead_times.of([ENTERED], {SOURCE: MADE})
    assert (one.build, one.environment, one.digest, one.seconds) == ("15", "dev", "sha256:1", 3600)


def test_what_came_twice_counts_once() -> None:
    """A rollback brings nothing new; what entered again had its lead time the first time."""
    later = replace(ENTERED, date="2026-11-26T13:00:00+00:00")
    back = replace(later, promoted_from="dev")
    assert [one.seconds for one in lead_times.of([back, later, ENTERED], {SOURCE: MADE})] == [3600]


@pytest.mark.parametrize(
    ("date", "committed"),
    [
        (ENTERED.date, {}),
        (ENTERED.date, {SOURCE: datetime(2026, 11, 25, 13, 0, 1, tzinfo=UTC)}),
    ],
)
def test_what_is_not_known_is_not_guessed(date: str, committed: dict[str, datetime]) -> None:
    """The source commit is not there, or younger than its own release: the lead time is not known."""
    [one] = lead_times.of([replace(ENTERED, date=date)], committed)
    assert one.seconds is None


def test_a_commit_can_claim_any_date() -> None:
    """A date that no calendar has is no reason to have no report."""
    assert lead_times.of([replace(ENTERED, date="+292277026596-12-04T15:30:07+00:00")], {}) == ()


def test_when_commits_were_made(world: World) -> None:
    """Git is asked for the commits that it has; what is no id is never an option of git's."""
    repository = Repository(world.checkout)
    head = repository.commit("HEAD")
    asked = [head, "f" * 40, "--output=/tmp/written", "", head]
    assert repository.committed(asked) == {head: MADE}
    assert repository.committed(["none"]) == {}
