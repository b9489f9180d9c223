"""The audit trail of the real platform: what entered is verified from Git and the registry, and stays on record."""

import pytest

from delivery.parts import git
from delivery.signed import ledger
from e2e.conftest import Build
from e2e.delivery import Checkout
from local import credentials

LEDGER = f"refs/heads/{ledger.BRANCH}"


@pytest.mark.parametrize("environment", ["stage", "prod"])
def test_what_entered_is_verified(platform: Checkout, prod: Build, environment: str) -> None:
    """Each change of a guarded environment holds; BROKEN is alone what other journeys claimed without a gate's key."""
    told = platform.history(environment, "--no-clusters", "--limit", "200")
    assert (told["schema"], told["missing"]) == ("delivery/history/v2", [])
    strangers = [one for one in told["changes"] if one["state"] == "BROKEN"]
    assert all(one["reasons"] == [f"gate-{environment} did not sign its commit"] for one in strangers)
    counted = [one for one in told["changes"] if one not in strangers]
    assert {one["state"] for one in counted} == {"VERIFIED"}, [one["reasons"] for one in counted]
    assert environment == "stage" or counted[0]["after"] == prod.digest  # stage may be a version ahead
    first = counted[-1]
    assert (first["kind"], first["before"]) == ("promotion", "none")
    assert first["lead_time_seconds"] > 0
    assert len(first["tests"]) == 1
    assert bool(first["approvers"]) == (environment == "prod")


def test_all_of_it_is_on_record(platform: Checkout, prod: Build) -> None:
    """The ledger has what was signed about every change that counts: no registry is needed to verify it."""
    told = platform.history("--no-clusters", "--limit", "200")["changes"]
    with ledger.opened(platform.context) as book:
        there = book.changes()
    assert {(one["environment"], one["commit"]) for one in told if one["state"] == "VERIFIED"} <= there


def test_what_is_on_record_stays(platform: Checkout, prod: Build) -> None:
    """The verbs' own login takes nothing out of the ledger: not even by a commit on top of it."""
    platform.pull()
    repository = git.Repository(platform.path, platform.context.site.git)
    newest = repository.fetch(LEDGER)
    empty = repository.raw("hash-object", "-t", "tree", "-w", "--stdin").decode().strip()
    repository.raw("read-tree", "--empty")
    try:
        assert repository.run("write-tree") == empty
        without = repository.commit_on(newest, "nothing\n", ("Mallory", "mallory@example.org"))
    finally:
        repository.raw("reset", "--quiet", "--mixed", "HEAD")
    with pytest.raises(git.GitFailed, match="the ledger only grows"):
        platform.push(f"{without}:{LEDGER}", login=credentials.DELIVERY)


def test_the_figures(platform: Checkout, prod: Build) -> None:
    """DORA's figures about prod, of what is verified: something entered, and how long that took is known."""
    told = platform.delivery("history", "prod", "--metrics", "--format", "json", expect=None).json
    assert (told["schema"], told["environment"], told["error"]) == ("delivery/metrics/v1", "prod", None)
    assert told["promotions"] >= 1
    assert told["deployment_frequency_per_day"] == told["promotions"] / 30
    assert told["lead_time_seconds"] > 0
    assert 0 <= told["change_failure_rate"] <= 1


def test_a_table_for_a_spreadsheet(platform: Checkout, prod: Build) -> None:
    """CSV has a header and as many rows as there are changes, emergencies and lifted freezes."""
    told = platform.history("prod", "--limit", "5")
    rows = platform.delivery(
        "history", "prod", "--limit", "5", "--format", "csv", expect=None
    ).out.splitlines()
    assert rows[0].startswith("time,kind,environment,build_before,build,")
    assert len(rows) == 1 + sum(len(told[name]) for name in ("changes", "emergencies", "lifted_freezes"))
