"""The results file: every collected test with its outcome, written whole at the end or not at all."""

import json
import os
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from delivery.signed.measurements import Measurement
from e2e.suites.outcome import Unknown

SCHEMA = "delivery/results/v1"
SUITES = Path(__file__).parent
# The worse one stands when a test's set-up, call and tear-down differ.
_ORDER = ("passed", "skipped", "unknown", "failed")


@dataclass
class Result:
    """One test, as the file tells it."""

    id: str
    suite: str
    check: str
    outcome: str
    reason: str
    seconds: float

    def take(self, outcome: str, reason: str) -> None:
        """Count another phase of the test in; what is worse stands."""
        if _ORDER.index(outcome) > _ORDER.index(self.outcome):
            self.outcome, self.reason = outcome, reason


class Results:
    """A pytest plugin that keeps what the tests said, and what they declared beside it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.artifacts: list[str] = []
        self.restarted: list[str] = []
        self.measurements: list[Measurement] = []
        self._found: dict[str, Result] = {}
        self._begun: set[str] = set()
        file.unlink(missing_ok=True)  # an earlier run's words are not this run's

    def artifact(self, name: str) -> Path:
        """Where to write a file that is kept with the results; `name` is relative to their folder."""
        path = self.file.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self.artifacts.append(name)
        return path

    def measure(self, measurement: Measurement) -> None:
        """Keep what a test measured: it is signed with the evidence, and the report shows it."""
        self.measurements.append(measurement)

    def declare_restart(self, pod: str) -> None:
        """Say that this pod is about to be restarted by a test, so that nobody takes it for a change."""
        if pod not in self.restarted:
            self.restarted.append(pod)

    @pytest.hookimpl(tryfirst=True)
    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Every test is in the file, also one that is never reached."""
        self._found[item.nodeid] = Result(_id(item), suite_of(item), _check(item), "passed", "", 0.0)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Count one phase of a test."""
        report = yield
        result = self._found[item.nodeid]
        result.seconds = round(result.seconds + report.duration, 3)
        if report.when == "call" or not report.passed:
            self._begun.add(item.nodeid)
        error = call.excinfo.value if call.excinfo else None
        if report.failed or hasattr(report, "wasxfail"):
            result.take("failed", _first_line(error) or "xfail is not used in suites")
        elif report.skipped:
            outcome = "unknown" if isinstance(error, Unknown) else "skipped"
            result.take(outcome, _first_line(error).removeprefix("UNKNOWN: "))
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the file, unless the run was cut short: then there is none."""
        if exitstatus not in (
            pytest.ExitCode.OK,
            pytest.ExitCode.TESTS_FAILED,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            return
        for nodeid, result in self._found.items():
            if nodeid not in self._begun:
                result.take("skipped", "did not run")
        write(self.file, [*self._found.values()], self.artifacts, self.restarted, self.measurements)


def suite_of(item: pytest.Item) -> str:
    """The suite that a test belongs to: its folder."""
    return item.path.relative_to(SUITES).parts[0]


def write(
    file: Path,
    tests: Sequence[Result],
    artifacts: Sequence[str],
    restarted: Sequence[str],
    measurements: Sequence[Measurement],
) -> None:
    """Write the results: readers see all of them or no file."""
    data = {
        "schema": SCHEMA,
        "tests": [asdict(test) for test in tests],
        "artifacts": [name for name in artifacts if (file.parent / name).is_file()],
        "restarted": list(restarted),
        "measurements": [one.model_dump(mode="json") for one in measurements],
    }
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            json.dump(data, out, indent=2)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise


def _id(item: pytest.Item) -> str:
    return "::".join((item.path.relative_to(SUITES).as_posix(), *item.nodeid.split("::")[1:]))


def _check(item: pytest.Item) -> str:
    marker = item.get_closest_marker("check")
    name = getattr(item, "originalname", item.name)
    return str(marker.args[0]) if marker else name.removeprefix("test_").replace("_", "-")


def _first_line(error: BaseException | None) -> str:
    if error is None:
        return ""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
