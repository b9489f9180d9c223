"""Performance: a bounded load on this machine's cluster; what must hold is data, in thresholds.yaml."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from delivery.signed.measurements import Bucket, Measurement
from e2e.suites.customer import Token
from e2e.suites.results import Results
from e2e.suites.target import Target

HERE = Path(__file__).parent
SPARE = 30  # seconds for Locust to start and to stop
# Milliseconds at which the buckets end that the evidence keeps.
BUCKETS = (*(step * 10**power for power in range(4) for step in (1, 1.5, 2, 3, 5, 7)), 10000)


@dataclass(frozen=True)
class Step:
    """One step of the journey: how often, and how many answers took how many milliseconds."""

    requests: int
    failures: int
    p50: int
    p95: int
    p99: int
    histogram: Mapping[int, int]


@dataclass(frozen=True)
class Load:
    """What was asked for, and what was measured."""

    asked: Mapping[str, float]
    requests: int
    failures: int
    requests_per_second: float
    steps: Mapping[str, Step]


@pytest.fixture(scope="module")
def load(
    request: pytest.FixtureRequest,
    target: Target,
    token: Token,
    results: Results,
    tmp_path_factory: pytest.TempPathFactory,
) -> Load:
    """One run of Locust; every answer's time is kept with the results, and buckets of them in the evidence."""
    asked = YAML(typ="safe").load((HERE / "thresholds.yaml").read_text(encoding="utf-8"))
    if target.pods("rates"):
        request.getfixturevalue("stand_in")  # where there is one, it must behave
    file = results.artifact("performance/histogram.json")
    measured = _locust(target.url, token, asked, tmp_path_factory.mktemp("locust") / "stats")
    file.write_text(json.dumps(asdict(measured)) + "\n", encoding="utf-8")
    for one in measurements(measured):
        results.measure(one)
    return measured


def test_journey_complete(load: Load) -> None:
    """Customers walked the whole journey, each step of it."""
    assert set(load.steps) == {"GET /orders", "POST /orders EUR", "POST /orders USD", "GET /orders/{id}"}
    assert min(step.requests for step in load.steps.values()) >= load.asked["users"]


def test_error_rate(load: Load) -> None:
    """Under load, no more requests fail than thresholds.yaml allows."""
    assert load.requests
    allowed = load.asked["error_rate"]
    assert load.failures / load.requests <= allowed, f"{load.failures} of {load.requests} requests failed"


def test_p95(load: Load) -> None:
    """Under load, 95 of 100 answers of every step come within the threshold."""
    assert load.steps
    limit = load.asked["p95_milliseconds"]
    slow = {name: step.p95 for name, step in load.steps.items() if step.p95 > limit}
    assert not slow, f"over {limit} ms: {slow}"


def test_throughput(load: Load) -> None:
    """The service answers at least as many requests a second as the threshold asks."""
    assert load.requests_per_second >= load.asked["requests_per_second"]


def percentile(histogram: Mapping[int, int], percent: float) -> int:
    """The milliseconds within which `percent` of the answers came; 0 when there are none."""
    needed, seen = sum(histogram.values()) * percent / 100, 0
    for milliseconds in sorted(histogram):
        seen += histogram[milliseconds]
        if seen >= needed:
            return milliseconds
    return 0


def measurements(load: Load) -> Iterator[Measurement]:
    """What the evidence says of a load: each step's latencies, the errors and the throughput, with their thresholds."""
    asked, suite = load.asked, HERE.name
    for name, step in load.steps.items():
        yield Measurement(
            suite=suite,
            name=name,
            statistic="p95",
            unit="ms",
            value=step.p95,
            at_most=asked["p95_milliseconds"],
            buckets=tuple(buckets(step.histogram)),
        )
    rate = load.failures / load.requests if load.requests else 1.0
    yield Measurement(suite=suite, name="failed requests", unit="1", value=rate, at_most=asked["error_rate"])
    yield Measurement(
        suite=suite,
        name="requests",
        unit="1/s",
        value=load.requests_per_second,
        at_least=asked["requests_per_second"],
    )


def buckets(histogram: Mapping[int, int]) -> Iterator[Bucket]:
    """How many answers came within each bound of BUCKETS and not within the one before; the last has no bound."""
    before = 0
    for upper in (*BUCKETS, None):
        within = sum(n for ms, n in histogram.items() if upper is None or ms <= upper)
        yield Bucket(upper=upper, count=within - before)
        before = within


def _locust(url: str, token: Token, asked: Mapping[str, float], file: Path) -> Load:
    log = file.with_suffix(".log")
    command = [
        *(sys.executable, "-m", "locust", "--locustfile", str(HERE / "journey.py"), "--host", url),
        *("--headless", "--only-summary", "--json-file", str(file), "--exit-code-on-error", "0"),
        *("--users", str(asked["users"]), "--spawn-rate", str(asked["spawn_per_second"])),
        *("--run-time", f"{asked['seconds']}s", "--stop-timeout", "10"),
    ]
    # A process of its own: gevent changes the standard library for all who share it.
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command,
            env=os.environ | {"ORDERS_TOKEN": token.value},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        ) as process,
    ):
        try:
            code = process.wait(asked["seconds"] + SPARE)
        except BaseException:
            process.kill()
            raise
    assert code == 0, f"locust: exit {code}: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}"
    return _measured(asked, json.loads(file.with_suffix(".json").read_text(encoding="utf-8")))


def _measured(asked: Mapping[str, float], said: list[dict[str, Any]]) -> Load:
    steps = {}
    for one in said:
        counts = {int(milliseconds): count for milliseconds, count in one["response_times"].items()}
        histogram = dict(sorted(counts.items()))
        p50, p95, p99 = (percentile(histogram, percent) for percent in (50, 95, 99))
        steps[one["name"]] = Step(one["num_requests"], one["num_failures"], p50, p95, p99, histogram)
    begun = min((one["start_time"] for one in said), default=0)
    ended = max((one["last_request_timestamp"] for one in said), default=0)
    requests = sum(step.requests for step in steps.values())
    failures = sum(step.failures for step in steps.values())
    return Load(asked, requests, failures, round(requests / max(ended - begun, 1), 1), steps)
