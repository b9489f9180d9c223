"""The suites of a commit, run against an environment: from an export of that commit, in an environment that we make.

Who calls has no say in what is tested: neither by variables of Python or pytest, nor by files that are not committed,
nor by committed ones beside the suites. First the suites are only collected, so that a run that left something out is
seen.
"""

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from delivery.context import Context
from delivery.desired import tree
from delivery.errors import BadInput, NotReached
from delivery.parts import git, tail
from delivery.pipeline import Environment
from delivery.signed import evidence, measurements

SCHEMA = "delivery/results/v1"
_INSIDE = (
    65536  # bytes: an artifact up to this size is kept inside the evidence, of a larger one only its hash
)
# What of the caller's environment steers Python, pytest, or whatever is loaded into a program.
_STEERS = ("PYTEST", "PYTHON", "COV_", "COVERAGE_", "HYPOTHESIS_", "LD_", "DYLD_", "LC_", "LANG", "GIT_")
_KEPT = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO")
# Beside the suites, and so ours: pytest takes its options from here, and looks for no other file.
_OPTIONS = (
    "[pytest]\npythonpath = .\naddopts = --import-mode=importlib --strict-markers\nfilterwarnings = error\n"
)
# pytest writes a line for each test, with how many have run: people read it in the log, and `_counted` while it grows.
_COUNTING = ("-v", "-o", "console_output_style=count")
_RAN = re.compile(rf"{re.escape(tree.SUITES)}/([^/]+)/.*::.*\[ *(\d+)/(\d+)\]$")


@dataclass(frozen=True)
class Results:
    """What the suites wrote."""

    tests: tuple[evidence.Test, ...]
    artifacts: tuple[dict[str, Any], ...]
    restarted: tuple[str, ...]
    measured: tuple[measurements.Measurement, ...] = ()


@dataclass(frozen=True)
class Suites:
    """Some suites of a commit, as files of their own."""

    folder: Path  # with e2e/suites of the commit, and nothing else
    names: tuple[str, ...]
    tree: str  # git's hash of all the suites that the commit has

    def run(
        self,
        context: Context,
        environment: Environment,
        junit: Path | None = None,
        said: Callable[[str], None] = lambda count: None,
    ) -> tuple[tuple[str, ...], Results]:
        """The ids of all tests that the suites have, and how each of them ended; also in `junit`, as JUnit's XML.

        NotReached when nothing is known: they did not end in time, wrote nothing that can be believed, or left a test
        out. Then the log says why. `said` is told how many have run, such as `12 of 82 tests: smoke`.
        """
        state = context.site.state / "tests" / environment.name
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        said("which tests there are")
        expected = self._pytest(context, environment, self.folder / "collected.json", "--collect-only")
        kept = (
            (f"--junit-xml={junit.absolute()}", "-o", f"junit_suite_name={environment.name}") if junit else ()
        )
        said(f"0 of {len(expected.tests)} tests")
        found = self._pytest(
            context, environment, state / "results.json", *_COUNTING, *kept, heard=_counted(said)
        )
        names = tuple(sorted(test.id for test in expected.tests))
        if different := set(names) ^ {test.id for test in found.tests}:
            raise _unknown(environment, f"{min(different)} is not in both lists of tests", state / "log")
        return names, found

    def _pytest(
        self,
        context: Context,
        environment: Environment,
        file: Path,
        *options: str,
        heard: Callable[[str], None] = lambda line: None,
    ) -> Results:
        log = context.site.state / "tests" / environment.name / "log"
        file.unlink(missing_ok=True)
        # Isolated: nothing is imported from the folder that we stand in, which has the pipeline.yaml.
        command: list[str | Path] = [
            sys.executable,
            "-I",
            "-B",
            "-X",
            "utf8",
            "-m",
            "pytest",
            "-c",
            self.folder / "pytest.ini",
        ]
        command += [self.folder / tree.SUITES / name for name in self.names]
        command += ["-p", "no:cacheprovider", "--no-header", "-ra", *options]
        command += ["--environment", environment.name, "--results", file]
        limit = context.pipeline.waits.tests
        with log.open("wb") as out, tail.lines(log, heard):
            # In a session of its own, so that whatever the suites started ends with them.
            process = subprocess.Popen(
                command,
                cwd=context.checkout,
                env=_environment(context),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                raise NotReached(
                    f"the tests of {environment.name} did not end within {limit:.0f} s", f"see why: {log}"
                ) from None
            finally:
                _end(process)
        try:
            if code not in (0, 1):
                raise ValueError(f"pytest ended with {code}")
            found = results(file)
            if (code == 0) != all(test.outcome != "failed" for test in found.tests):
                raise ValueError(f"pytest ended with {code}, and the results say otherwise")
        except (OSError, ValueError) as error:
            why = "they wrote no results" if isinstance(error, OSError) else str(error)
            raise _unknown(environment, why, log) from None
        return found


@contextmanager
def exported(repository: git.Repository, commit: str, names: Iterable[str]) -> Iterator[Suites]:
    """These suites as a commit has them; BadInput for one that it has not, and for changes that are not committed."""
    there = _there(repository, commit)
    chosen = tuple(names)
    if unknown := [name for name in chosen if name not in there]:
        raise BadInput(
            f"there is no suite {unknown[0]!r} in {tree.SUITES}", f"one of: {', '.join(there) or 'none'}"
        )
    changed = repository.run("status", "--porcelain", "--", tree.SUITES).splitlines()
    if changed:
        raise BadInput(
            f"the suites are not committed: {changed[0].strip()}",
            "commit them first: the evidence names them by Git's hash",
        )
    with tempfile.TemporaryDirectory(prefix="delivery-suites-") as temporary:
        folder = Path(temporary).resolve()
        repository.export(commit, tree.SUITES, folder)
        (folder / "pytest.ini").write_text(_OPTIONS, encoding="utf-8")
        yield Suites(folder, chosen, tree.suites(repository, commit))


def results(file: Path) -> Results:
    """The results file of the suites; ValueError says why it cannot be believed."""
    data = json.loads(file.read_bytes())
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"not {SCHEMA}")
    names = TypeAdapter(tuple[str, ...])
    try:
        tests = TypeAdapter(tuple[evidence.Test, ...]).validate_python(data["tests"])
        restarted = names.validate_python(data.get("restarted", ()))
        artifacts = names.validate_python(data.get("artifacts", ()))
    except (ValidationError, KeyError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None
    measured = measurements.read(data.get("measurements", ()))
    if not tests:
        raise ValueError("no test ran")
    ids = [test.id for test in tests]
    if len(set(ids)) != len(ids):
        raise ValueError("a test is named twice")
    return Results(tests, tuple(_artifact(file.parent, name) for name in artifacts), restarted, measured)


def _there(repository: git.Repository, commit: str) -> list[str]:
    # A suite is a folder with tests.
    listed = repository.run("ls-tree", "-r", "--name-only", "--full-tree", commit, "--", f"{tree.SUITES}/")
    paths = [Path(line).relative_to(tree.SUITES).parts for line in listed.splitlines()]
    return sorted({parts[0] for parts in paths if len(parts) == 2 and Path(parts[1]).match("test_*.py")})


def _environment(context: Context) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name in _KEPT or not name.startswith(_STEERS)
    }
    # The plugins are those that the suites name in their conftest.py, whatever else is installed.
    made = {"LC_ALL": "C.UTF-8", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "DELIVERY_SITE": context.site.name}
    return kept | made


def _counted(said: Callable[[str], None]) -> Callable[[str], None]:
    """A listener to pytest's lines that says how many tests have run, and in which suite."""

    def listen(line: str) -> None:
        if found := _RAN.search(line):
            said(f"{found[2]} of {found[3]} tests: {found[1]}")

    return listen


def _unknown(environment: Environment, why: str, log: Path) -> NotReached:
    return NotReached(f"nothing is known of the tests of {environment.name}: {why}", f"see why: {log}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    # macOS says "not permitted" of a group whose last processes have ended and wait to be buried.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _artifact(folder: Path, name: str) -> dict[str, Any]:
    path = (folder / name).resolve()
    if folder.resolve() not in path.parents:
        raise ValueError(f"artifact {name} is not in the results' folder")
    content = path.read_bytes()
    descriptor: dict[str, Any] = {"name": name, "digest": {"sha256": hashlib.sha256(content).hexdigest()}}
    if len(content) <= _INSIDE:
        descriptor["content"] = base64.b64encode(content).decode()
    return descriptor
