"""What `make bench` makes of what it measured: statistics, ratios, tables, the plot and where they go."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from delivery.errors import BadInput, NotReached
from e2e.bench import bringup, deployments, documents, machine, plot, promotions, tables
from e2e.bench.machine import Machine
from e2e.bench.results import Measurement, Results, Summary, sums
from e2e.bench.timed import Phase, Timed
from e2e.bench.watch import Event, Rollout
from scripts.tests.world import ROOT

HERE = Machine("a processor", 2, 23.5, "Linux 6.1", 1.5, "2026-11-29T17:00:00+00:00", "c" * 40)
FLOOR = Measurement(plot.READY, "floor", "the floor", (2.0, 4.0, 3.0))
COMMIT = Measurement(plot.READY, "commit", "a commit", (3.0, 4.0, 6.0), floor="floor", goal=1.4)
SMALL = Measurement("Verbs", "verify", "verify", (0.25,), goal=1.5)
GROWN = [
    Measurement("Growth", f"history.{size}", f"{size} lines", (size / 1000,), size=size) for size in (10, 100)
]
STEP = Measurement(plot.PARTS, "dev.seen", "seen", (0.5, 0.7))
ALL = Results(HERE, (FLOOR, COMMIT, SMALL, STEP, *GROWN), ("a note",))


def test_the_summary() -> None:
    """I read minimum, median and p95; of one value they are that value."""
    assert Summary.of([3.0, 1.0, 2.0]) == Summary(3, 1.0, 2.0, pytest.approx(2.9))
    assert Summary.of([5.0]) == Summary(1, 5.0, 5.0, 5.0)
    assert sums([1.0, 2.0], [10.0, 20.0]) == (11.0, 22.0)


def test_ratios_are_taken_round_by_round() -> None:
    """A slow moment meets both sides of a round; where the rounds are others, the floor's median is what counts."""
    assert ALL.ratios(COMMIT) == (1.5, 1.0, 2.0)
    other = Measurement(plot.READY, "flux", "Flux", (6.0, 9.0), floor="floor")
    assert ALL.ratios(other) == (2.0, 3.0)
    as_many = Measurement(plot.READY, "flux", "Flux", (6.0, 9.0, 3.0), floor="floor", paired=False)
    assert ALL.ratios(as_many) == (2.0, 3.0, 1.0)
    assert ALL.ratios(FLOOR) == ()
    assert ALL.ratios(Measurement("x", "x", "x", (1.0,), floor="was not measured")) == ()


def test_goals_are_held_against_the_median() -> None:
    """Each goal is met, or it is said by how much it is missed; what has no goal, or lost its floor, has no answer."""
    assert (ALL.met(COMMIT), ALL.met(SMALL), ALL.met(FLOOR)) == (False, True, None)
    assert ALL.met(Measurement("x", "x", "x", (1.0,), floor="was not measured", goal=1.0)) is None
    assert list(tables.missed(ALL)) == [
        "a commit: 1.50 times the floor, the goal is 1.4 times the floor (7% more)"
    ]


def test_the_json() -> None:
    """A program reads schema, machine, and of each measurement its values and what they come to."""
    document = json.loads(json.dumps(ALL.as_json()))
    assert (document["schema"], document["machine"]["cores"]) == ("delivery/bench/v1", 2)
    commit = document["measurements"][1]
    assert (commit["minimum"], commit["median"], commit["count"], commit["met"]) == (3.0, 4.0, 3, False)
    assert commit["ratio"]["values"] == [1.5, 1.0, 2.0]
    assert "ratio" not in document["measurements"][0]
    assert document["notes"] == ["a note"]
    assert Results.of(document) == ALL


def test_the_table() -> None:
    """I see a line for each measurement, below its group's name; less than a second is told in milliseconds."""
    lines = tables.markdown(ALL).splitlines()
    assert "| a commit | 3 | 3.00 s | 4.00 s | 5.80 s | 1.50 | 1.95 | ≤ 1.4×: missed |" in lines
    assert "| verify | 1 | 250 ms | 250 ms | 250 ms |  |  | ≤ 1.5 s: met |" in lines
    assert len({line.count("|") for line in lines}) == 1, "each line has every column"
    assert "Verbs" not in tables.markdown(ALL, [plot.READY])


def test_the_readme_gets_the_newest_table() -> None:
    """The table stands between its two lines, in place of the one before; the rest of the README stays."""
    once = documents.with_table(f"before\n{documents.BEGIN}\nold\n{documents.END}\nafter\n", ALL)
    assert documents.with_table(once, ALL) == once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "old" not in once
    assert "2 cores of a processor, 24 GiB, Linux 6.1, load 1.5; 2026-11-29, commit cccccccccccc" in once
    with pytest.raises(BadInput, match="no place"):
        documents.with_table("nothing", ALL)


def test_our_readme_has_a_place_for_it() -> None:
    """`make bench` does not measure for half an hour to find that its table has no place."""
    documents.with_table((ROOT / "README.md").read_text("utf-8"), ALL)


def test_the_plot(tmp_path: Path) -> None:
    """One SVG with every name as text, byte for byte the same for the same numbers."""
    pytest.importorskip("matplotlib", reason="`make bench` installs it")
    first, again = tmp_path / "1.svg", tmp_path / "2.svg"
    for file in (first, again):
        plot.write(ALL, file)
    assert first.read_bytes() == again.read_bytes()
    text = first.read_text("utf-8")
    for word in ("a commit", "1.50×", "0.60 s", "history", plot.READY):
        assert word in text


def test_the_machine() -> None:
    """A result names the processor, its cores, the memory, the kernel and the commit."""
    found = machine.here(ROOT)
    assert found.cpu
    assert found.cores >= 1
    assert found.memory > 0.1
    assert re.fullmatch(r"[0-9a-f]{40}\+?", found.commit)


def pod(name: str, digest: str, *conditions: str, running: bool = False, leaving: bool = False) -> dict:  # type: ignore[type-arg]
    """A pod as a watch tells of it."""
    state = {"running": {}} if running else {"waiting": {}}
    return {
        "metadata": {"name": name} | ({"deletionTimestamp": "now"} if leaving else {}),
        "spec": {"containers": [{"image": f"registry/app@{digest}"}]},
        "status": {
            "conditions": [{"type": one, "status": "True"} for one in conditions],
            "containerStatuses": [{"state": state}],
        },
    }


OLD, NEW = "sha256:old", "sha256:new"


def test_a_rollout_is_over_when_all_run_the_new_digest() -> None:
    """All replicas are Ready with it, and none of the old ones serves: the same end on both sides of a ratio."""
    rollout = Rollout(NEW, 2)
    heard = [
        pod("a", OLD, "Ready"),
        pod("b", NEW, "Ready"),
        pod("c", NEW),
        pod("c", NEW, "Ready"),
        pod("a", OLD, "Ready", leaving=True),
    ]
    answers = [rollout.look(Event(float(at), False, one)) for at, one in enumerate(heard)]
    assert answers == [None, None, None, None, 4.0]


def test_where_the_time_of_a_deployment_goes() -> None:
    """Each step ends when it was first heard of, of several pods with the last; the steps come to the whole."""
    done = Timed(100.0, 9.0, "", (Phase("Commit abc asks for build 2 in dev", 101.0, 0.0),))
    application = [
        Event(101.2, False, {"metadata": {"name": "x"}, "status": {"sync": {"revision": "before"}}}),
        Event(101.5, False, {"metadata": {"name": "x"}, "status": {"sync": {"revision": "abc"}}}),
        Event(
            101.6,
            False,
            {
                "metadata": {"name": "x"},
                "status": {
                    "sync": {"revision": "abc"},
                    "operationState": {"operation": {"sync": {"revision": "abc"}}},
                },
            },
        ),
    ]
    pods = [
        Event(101.7, False, pod("old", OLD, "PodScheduled", "Ready", running=True)),
        Event(102.0, False, pod("new", NEW)),
        Event(102.1, False, pod("new", NEW, "PodScheduled")),
        Event(103.0, False, pod("new", NEW, "PodScheduled", running=True)),
        Event(105.0, False, pod("new", NEW, "PodScheduled", "Ready", running=True)),
    ]
    moments = deployments.timeline(done, "abc", NEW, application, pods)
    taken = deployments.steps({"began": done.began, **moments})
    assert list(taken) == list(deployments.STEPS)
    assert [round(one, 3) for one in taken.values()] == [1.0, 0.5, 0.1, 0.4, 0.1, 0.9, 2.0]
    assert sum(taken.values()) == pytest.approx(5.0)


def test_how_long_the_cluster_took_to_come_up() -> None:
    """Each phase by when its object was made; objects that were made anew since are no answer."""
    began = datetime(2026, 11, 29, 17, tzinfo=UTC)
    made = {
        name: began + timedelta(seconds=after)
        for name, after in zip(bringup.PHASES, (9, 15, 20, 33), strict=True)
    }
    assert list(bringup.phases(began, made).values()) == [9.0, 6.0, 5.0, 13.0]
    with pytest.raises(NotReached, match="made anew"):
        bringup.phases(began, made | {"applications": began + timedelta(hours=2)})
    with pytest.raises(NotReached, match="made anew"):
        bringup.phases(began, made | {"cluster": began + timedelta(seconds=2)})


def test_a_verb_that_words_it_differently_is_said() -> None:
    """A phase that is not there any more is an error that names those that are."""
    with pytest.raises(NotReached, match="no phase begins with 'The gate', only: Commit abc"):
        Timed(0.0, 1.0, "", (Phase("Commit abc", 0.5, 0.1),)).phase("The gate")


def test_what_guards_a_promotion_comes_to() -> None:
    """Gate and entry of each round, and admission's share of it; nothing where one of the three is missing."""
    parts = [
        Measurement("g", "gate", "gate", (0.5, 0.6)),
        Measurement("g", "entry", "entry", (0.25, 0.25)),
        Measurement("g", "admission.share", "share", (0.1, 0.3, 0.2)),
    ]
    [together] = promotions.combined(parts)
    assert together.values == pytest.approx((0.95, 1.05))
    assert together.goal == 1.0
    assert not list(promotions.combined(parts[:2]))
