"""What a run measured: bounded numbers, signed with the evidence, for people to look at and for no decision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from delivery.errors import Unknown
from delivery.signed import evidence, measurements
from delivery.signed.measurements import MOST, Bucket, Measurement
from delivery.signed.statements import Statement
from delivery.verbs import suites as running
from e2e.suites import results as writing
from e2e.suites.performance import test_load as load_suite

if TYPE_CHECKING:
    from scripts.tests.world import World

ONE = {"suite": "performance", "name": "GET /orders", "unit": "ms", "value": 42}
TEST = {"id": "a", "suite": "smoke", "check": "c", "outcome": "passed"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"value": float("nan")}, "0.value: Input should be a finite number"),
        ({"value": float("inf")}, "0.value: Input should be a finite number"),
        ({"value": 1e300}, "0.value: Input should be less than"),
        ({"value": "42"}, "0.value: Input should be a valid number"),
        ({"value": True}, "0.value: Input should be a valid number"),
        ({"at_most": float("-inf")}, "0.at_most: Input should be a finite number"),
        ({"name": "x" * 81}, "0.name: String should have at most 80"),
        ({"name": ""}, "0.name: String should have at least 1"),
        ({"unit": "x" * 17}, "0.unit: String should have at most 16"),
        ({"buckets": [{"upper": 1, "count": -1}]}, "0.buckets.0.count: Input should be greater"),
        ({"buckets": [{"upper": 1, "count": 1.5}]}, "0.buckets.0.count: Input should be a valid integer"),
        ({"buckets": [{"upper": 1, "count": 10**13}]}, "0.buckets.0.count: Input should be less"),
        ({"buckets": [{"upper": one, "count": 1} for one in range(MOST + 1)]}, "at most 64"),
        ({"buckets": [{"upper": 2, "count": 1}, {"upper": 2, "count": 1}]}, "each one must end after"),
        ({"buckets": [{"upper": None, "count": 1}, {"upper": 2, "count": 1}]}, "each one must end after"),
    ],
)
def test_what_is_no_measurement(changes: dict[str, Any], says: str) -> None:
    """No number, too much, or out of order: it is said what is wrong with it, in one short line."""
    with pytest.raises(ValueError, match=says) as error:
        measurements.read([ONE | changes])
    assert len(str(error.value)) <= 200


@pytest.mark.parametrize("data", [None, "many", 3, {"0": ONE}, [ONE] * (MOST + 1), [[ONE]]])
def test_what_is_no_list_of_them(data: Any) -> None:
    """Anything else than a list of a bounded number of them."""
    with pytest.raises(ValueError, match=r"^measurements: "):
        measurements.read(data)


def test_newer_fields_are_passed_over() -> None:
    """A newer `delivery` may say more: what is known here is read, as in the rest of the evidence."""
    [one] = measurements.read([ONE | {"colour": "blue"}])
    assert (one.name, one.value, one.buckets) == ("GET /orders", 42, ())


@pytest.mark.parametrize(
    ("limits", "holds"),
    [
        ({}, True),
        ({"at_most": 42}, True),
        ({"at_most": 41.9}, False),
        ({"at_least": 42}, True),
        ({"at_least": 42.1}, False),
        ({"at_least": 1, "at_most": 41}, False),
    ],
)
def test_a_threshold_holds_or_not(limits: dict[str, float], holds: bool) -> None:
    """The threshold itself still holds."""
    [one] = measurements.read([ONE | limits])
    assert one.holds is holds


def parsed(world: World, data: dict[str, Any]) -> evidence.Evidence:
    return evidence.parse(world.context.environment("stage"), Statement("stage", data, "0" * 64))


MEASURED = Measurement(
    suite="performance",
    name="GET /orders",
    statistic="p95",
    unit="ms",
    value=42,
    at_most=1000,
    buckets=(Bucket(upper=10, count=3), Bucket(upper=None, count=1)),
)


def test_the_evidence_carries_them(world: World) -> None:
    """What was measured is in what is signed, and read back as it was, through JSON."""
    data = world.result(world.context.environment("stage"), measured=(MEASURED,))
    assert parsed(world, json.loads(json.dumps(data))).measured == (MEASURED,)


@pytest.mark.parametrize("said", [None, [{"name": "x"}], "<script>"])
def test_what_nobody_can_read_takes_nothing_from_the_tests(world: World, said: Any) -> None:
    """Measurements that are none: the evidence counts as before, and what was measured is not known."""
    data = world.result(world.context.environment("stage"))
    data["run"]["measurements"] = said
    found = parsed(world, data)
    assert found.result == "PASSED"
    assert isinstance(found.measured, Unknown)


def test_older_evidence_measured_nothing(world: World) -> None:
    """Evidence that was signed before there were measurements counts, and shows none."""
    data = world.result(world.context.environment("stage"))
    del data["run"]["measurements"]
    found = parsed(world, data)
    assert (found.result, found.measured) == ("PASSED", ())


def test_suites_tell_what_they_measured(tmp_path: Path) -> None:
    """A suite's measurement comes through the results file as it was; a broken one makes the results unbelievable."""
    file = tmp_path / "results.json"
    document = {"schema": running.SCHEMA, "tests": [TEST]}
    file.write_text(json.dumps(document | {"measurements": [MEASURED.model_dump(mode="json")]}))
    assert running.results(file).measured == (MEASURED,)
    file.write_text(json.dumps(document))
    assert running.results(file).measured == ()
    file.write_text(json.dumps(document | {"measurements": [ONE | {"value": float("nan")}]}))
    with pytest.raises(ValueError, match=r"measurements: 0\.value"):
        running.results(file)


def test_the_results_file_has_them(tmp_path: Path) -> None:
    """`results.measure` in a suite is all that it takes."""
    results = writing.Results(tmp_path / "results.json")
    results.measure(MEASURED)
    writing.write(results.file, (), (), (), results.measurements)
    assert json.loads(results.file.read_text())["measurements"] == [MEASURED.model_dump(mode="json")]


def test_the_load_test_measures_each_step() -> None:
    """Each step has its latencies beside its threshold; then errors and throughput; no answer is lost."""
    asked = {"p95_milliseconds": 1000, "error_rate": 0, "requests_per_second": 20}
    histogram = {1: 5, 2: 1, 15: 90, 16: 2, 10000: 1, 45000: 1}
    step = load_suite.Step(100, 0, 15, 16, 45000, histogram)
    load = load_suite.Load(asked, 200, 1, 33.3, {"GET /orders": step})
    found = measurements.read([one.model_dump(mode="json") for one in load_suite.measurements(load)])
    orders, failed, rate = found
    assert (orders.name, orders.statistic, orders.value, orders.at_most) == ("GET /orders", "p95", 16, 1000)
    counted = {one.upper: one.count for one in orders.buckets if one.count}
    assert counted == {1: 5, 2: 1, 15: 90, 20: 2, 10000: 1, None: 1}
    assert (failed.value, failed.at_most, failed.holds) == (0.005, 0, False)
    assert (rate.value, rate.at_least, rate.holds) == (33.3, 20, True)
