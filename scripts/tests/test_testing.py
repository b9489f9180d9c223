"""`delivery test`: what counts as the same pods, what results are believed, and what a broken run leaves."""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from delivery.build import image
from delivery.errors import BadInput, NotReached, Refused
from delivery.parts.registry import connect
from delivery.proof import stayed
from delivery.proof.decide import Container, Pod
from delivery.signed import evidence
from delivery.verbs import suites as running
from delivery.verbs import test as testing
from scripts.tests.fake_cluster import REPOSITORY
from scripts.tests.steps import deploy, refused

if TYPE_CHECKING:
    from scripts.tests.fake_cluster import FakeCluster
    from scripts.tests.world import World

IMAGE = f"{REPOSITORY}@sha256:{'a' * 64}"
OTHER = f"{REPOSITORY}@sha256:{'b' * 64}"
POSTGRES = f"registry.local:5000/platform/postgresql@sha256:{'c' * 64}"

CONFTEST = """
import json, pytest
def pytest_addoption(parser):
    parser.addoption("--environment")
    parser.addoption("--results")
def pytest_configure(config):
    config.outcomes = {}
def pytest_itemcollected(item):
    item.config.outcomes[item.nodeid] = ("skipped", "did not run")
@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.config.outcomes[item.nodeid] = (report.outcome, str(call.excinfo.value) if call.excinfo else "")
    return report
def pytest_sessionfinish(session, exitstatus):
    tests = [
        {"id": name, "suite": name.split("/")[2], "check": "c", "outcome": said, "reason": why}
        for name, (said, why) in session.config.outcomes.items()
    ]
    with open(session.config.getoption("--results"), "w") as out:
        json.dump({"schema": "delivery/results/v1", "tests": tests, "restarted": []}, out)
"""


def seen(name: str, uid: str = "", app: str = "manual-app", image: str = IMAGE, restarts: int = 0) -> Pod:
    containers = (Container(app, "app", image, image),)
    return Pod(name, app, "Running", True, False, False, containers, uid or f"uid-{name}", restarts)


BEFORE = (seen("a"), seen("b"), seen("postgresql-0", app="postgresql", image=POSTGRES))


@pytest.mark.parametrize(
    ("after", "restarted", "says"),
    [
        (BEFORE, (), None),
        (BEFORE, ("a",), None),
        ((BEFORE[0], seen("c"), BEFORE[2]), ("b",), None),
        (
            (seen("c"), seen("d"), seen("postgresql-0", "new", "postgresql", POSTGRES)),
            ("a", "b", "postgresql-0"),
            None,
        ),
        ((seen("a", restarts=1), *BEFORE[1:]), ("a",), None),
        ((BEFORE[0], seen("c"), BEFORE[2]), (), "pod b was replaced"),
        ((BEFORE[0], seen("c"), BEFORE[2]), ("a",), "pod b was replaced"),
        ((seen("a", "new"), *BEFORE[1:]), (), "pod a was replaced"),
        ((seen("a", restarts=1), *BEFORE[1:]), (), "pod a restarted"),
        ((*BEFORE, seen("c")), (), "pod c came"),
        ((*BEFORE, seen("c")), ("a",), "pod c came"),
        ((*BEFORE, seen("x", app="stranger")), (), "pod x came"),
        ((BEFORE[0], BEFORE[2]), ("b",), "a pod of manual-app did not come back"),
        ((BEFORE[0], seen("c", image=OTHER), BEFORE[2]), ("b",), "pod c, container manual-app ran .*bbbb"),
        ((seen("a", image=OTHER), *BEFORE[1:]), ("a",), "pod a, container manual-app ran .*bbbb"),
        (
            (*BEFORE[:2], seen("postgresql-0", "new", "postgresql", OTHER)),
            ("postgresql-0",),
            "pod postgresql-0 came back with other containers",
        ),
        ((*BEFORE[:2], replace(BEFORE[2], containers=())), (), "pod postgresql-0 changed its containers"),
        ((), (), "pod a was replaced"),
    ],
)
def test_the_same_pods(after: tuple[Pod, ...], restarted: tuple[str, ...], says: str | None) -> None:
    """Only a pod that a test said it restarts may be another one afterwards, and only with the same images."""
    found = stayed.changes(BEFORE, after, restarted, "manual-app", IMAGE)
    if says is None:
        assert found == []
    else:
        import re

        assert any(re.search(says, reason) for reason in found), found


def test_a_child_of_the_index_is_the_same_image() -> None:
    """Pods whose nodes show the image of their own platform ran what was tested; another digest did not."""
    child = f"{IMAGE[:-64]}{'1' * 64}"
    ran = (seen("a", image=child),)
    children = {child.partition("@")[2]}
    assert stayed.changes(ran, ran, (), "manual-app", IMAGE, children) == []
    assert stayed.changes(ran, ran, (), "manual-app", IMAGE) != []
    mixed = (seen("a", image=child),)
    assert stayed.changes((seen("a"),), mixed, (), "manual-app", IMAGE, children) != [], "it became another"


ONE = {"id": "a", "suite": "smoke", "check": "c", "outcome": "passed"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting value"),
        ('{"schema": "delivery/results/v1", "tests": [', "Expecting value"),
        ("[]", "not delivery/results/v1"),
        (json.dumps({"schema": "delivery/results/v2", "tests": [ONE]}), "not delivery/results/v1"),
        (json.dumps({"schema": "delivery/results/v1"}), "tests"),
        (json.dumps({"schema": "delivery/results/v1", "tests": []}), "no test ran"),
        (json.dumps({"schema": "delivery/results/v1", "tests": [ONE, ONE]}), "named twice"),
        (json.dumps({"schema": "delivery/results/v1", "tests": [ONE | {"outcome": "fine"}]}), "outcome"),
        (json.dumps({"schema": "delivery/results/v1", "tests": [{"id": "a"}]}), "suite"),
        (
            json.dumps({"schema": "delivery/results/v1", "tests": [ONE], "artifacts": ["../../etc/passwd"]}),
            "not in the results' folder",
        ),
    ],
)
def test_results_that_are_not_believed(tmp_path: Path, text: str, says: str) -> None:
    """Half-written, empty, of another schema, with outcomes nobody knows: not results."""
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=says):
        running.results(file)


def test_artifacts(tmp_path: Path) -> None:
    """A small artifact is kept inside the evidence, of a large one its hash."""
    (tmp_path / "small").write_bytes(b"x")
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    file = tmp_path / "results.json"
    document = {"schema": "delivery/results/v1", "tests": [ONE], "artifacts": ["small", "large"]}
    file.write_text(json.dumps(document))
    small, large = running.results(file).artifacts
    assert small["content"] == "eA=="
    assert "content" not in large
    assert len(large["digest"]["sha256"]) == 64


def suite(cluster: FakeCluster, test: str) -> None:
    """A smoke suite with this one test, committed and pushed."""
    world = cluster.world
    (world.checkout / "e2e/suites/conftest.py").write_text(CONFTEST)
    world.commit(world.checkout, "e2e/suites/smoke/test_smoke.py", test, "a suite")
    world.git(world.checkout, "push", "--quiet", "origin", "main")


def run(cluster: FakeCluster, name: str = "dev", *suites: str) -> testing.Tested:
    world = cluster.world
    return testing.run(world.context, world.context.environment(name), suites)


def fetched(world: World, digest: str) -> evidence.Recorded:
    with connect(world.context.site.image) as registry:
        return evidence.fetch(world.context, registry, digest, world.context.environment("dev"))


@pytest.mark.parametrize(
    ("test", "result", "reason"),
    [
        ("def test_it(): pass\n", "PASSED", None),
        ("def test_it(): assert 0, 'it broke'\n", "FAILED", "it broke"),
        ("import pytest\ndef test_it(): pytest.skip('cannot know')\n", "WARNED", "cannot know"),
    ],
)
def test_a_run_leaves_evidence(
    cluster: FakeCluster, built: image.Built, test: str, result: str, reason: str | None
) -> None:
    """Passed, failed or not known: what was tested, on which pods, and how it ended, signed and attached."""
    suite(cluster, test)
    deploy(cluster)
    tested = run(cluster)
    assert (tested.judgement.result, tested.digest) == (result, built.digest)
    [found] = fetched(cluster.world, built.digest).evidence
    assert (found.result, found.hash) == (result, tested.evidence)
    assert reason is None or any(reason in one for one in found.reasons)
    [file] = (cluster.world.context.site.state / "statements").rglob("dev-*.json")
    said: dict[str, Any] = json.loads(base64.b64decode(json.loads(file.read_bytes())["payload"]))["predicate"]
    assert said["run"]["revision"] == cluster.world.head()
    [before] = said["run"]["pods"]["before"]
    assert before["imageID"] == f"{REPOSITORY}@{built.digest}"
    assert said["run"]["pods"]["after"] == [before]
    assert said["run"]["startedOn"] < said["run"]["finishedOn"]


@pytest.mark.parametrize(
    ("test", "says"),
    [
        ("import os\ndef test_it(): os._exit(0)\n", "they wrote no results"),
        ("import os\ndef test_it(): os.kill(os.getpid(), 9)\n", "pytest ended with -9"),
        ("raise SystemExit\n", "pytest ended with"),
        ("no test = here\n", "pytest ended with 2"),
        ("import time\ndef test_it(): time.sleep(60)\n", "did not end within 2 s"),
        ("", "pytest ended with 5"),
    ],
)
def test_a_broken_run_leaves_nothing(
    cluster: FakeCluster, built: image.Built, monkeypatch: pytest.MonkeyPatch, test: str, says: str
) -> None:
    """A run that was killed, hangs or does not even begin: nothing is known, exit 3, and no evidence is left."""
    suite(cluster, test)
    deploy(cluster)
    waits = cluster.world.context.pipeline.waits
    cluster.world = cluster.world.ruled(
        waits=waits.model_copy(update={"tests": 2.0 if "sleep" in test else 60.0})
    )
    error = refused(cluster, NotReached, says, lambda: run(cluster))
    assert error.exit_code == 3
    assert fetched(cluster.world, built.digest) == evidence.Recorded()


def test_how_many_tests_have_run(
    cluster: FakeCluster, built: image.Built, details: dict[str, list[str]]
) -> None:
    """While suites run, the phase says how many of the expected tests are done, and which suite is on."""
    suite(cluster, "import time\ndef test_a(): pass\ndef test_b(): time.sleep(0.5)\ndef test_c(): pass\n")
    deploy(cluster)
    run(cluster)
    found = details["Testing dev: smoke"]
    assert found[:2] == ["which tests there are", "0 of 3 tests"]
    assert found[2:] == [f"{count} of 3 tests: smoke" for count in (1, 2, 3)]


def test_a_pod_that_is_replaced_voids_the_run(cluster: FakeCluster, built: image.Built) -> None:
    """All tests pass, and a pod was another one afterwards: FAILED, with the pod's name."""
    suite(cluster, "import time\ndef test_it(): time.sleep(1)\n")
    deploy(cluster)
    environment = cluster.world.context.environment("dev")
    reference = f"{REPOSITORY}@{built.digest}"

    def replace_it() -> None:
        log = cluster.world.context.site.state / "tests" / "dev" / "log"
        for _ in range(1000):
            if log.exists():
                break
            time.sleep(0.01)
        cluster.pods["dev"] = [cluster.pod(environment, "manual-app-new", reference, "15")]

    thread = threading.Thread(target=replace_it)
    thread.start()
    tested = run(cluster)
    thread.join()
    assert tested.judgement.result == "FAILED"
    assert any("pod manual-app-15-0 was replaced" in reason for reason in tested.judgement.reasons)


def test_what_is_not_tested(cluster: FakeCluster, built: image.Built) -> None:
    """An unknown suite, suites that are not committed, an environment that runs something else: refused at once."""
    suite(cluster, "def test_it(): pass\n")
    deploy(cluster)
    refused(cluster, BadInput, "there is no suite 'load'", lambda: run(cluster, "dev", "load"))
    refused(cluster, BadInput, "there is no suite 'integration'", lambda: run(cluster, "stage"))
    draft = cluster.world.checkout / "e2e/suites/smoke/test_draft.py"
    draft.write_text("")
    refused(cluster, BadInput, "the suites are not committed", lambda: run(cluster))
    draft.unlink()
    cluster.pods["dev"][0]["status"]["containerStatuses"][0]["imageID"] = OTHER
    refused(cluster, Refused, "dev does not run what Git asks for", lambda: run(cluster))
    cluster.pods["dev"] = []
    refused(cluster, NotReached, "dev does not run what Git asks for", lambda: run(cluster))


def test_junit_is_written_beside_the_evidence(
    cluster: FakeCluster, built: image.Built, tmp_path: Path
) -> None:
    """A CI system gets how each test ended as JUnit's XML; the evidence is that of a run without it."""
    suite(cluster, HALF)
    deploy(cluster)
    context, junit = cluster.world.context, tmp_path / "reports" / "dev.xml"
    plain = run(cluster)
    tested = testing.run(context, context.environment("dev"), (), junit)
    assert tested.judgement == plain.judgement
    root = ElementTree.fromstring(junit.read_text())  # noqa: S314 - pytest wrote it
    [found] = root.iter("testsuite")
    assert (found.get("name"), found.get("tests"), found.get("failures")) == ("dev", "2", "1")
    assert {one.get("name"): [child.tag for child in one] for one in found} == {
        "test_good": [],
        "test_bad": ["failure"],
    }
    for file in (context.site.state / "statements").rglob("dev-*.json"):
        assert b"junit" not in base64.b64decode(json.loads(file.read_bytes())["payload"]).lower()


def test_an_old_junit_file_is_not_taken_for_this_run(
    cluster: FakeCluster, built: image.Built, tmp_path: Path
) -> None:
    """A run of which nothing is known leaves no file: that of the run before would be read as its own."""
    suite(cluster, "raise SystemExit\n")
    deploy(cluster)
    context, junit = cluster.world.context, tmp_path / "dev.xml"
    junit.write_text("<testsuites/>")
    with pytest.raises(NotReached):
        testing.run(context, context.environment("dev"), (), junit)
    assert not junit.exists() or "<testsuites/>" not in junit.read_text()


def test_a_junit_file_that_cannot_be(cluster: FakeCluster, built: image.Built, tmp_path: Path) -> None:
    """A folder in its place is bad input, said before anything is tested."""
    suite(cluster, HALF)
    deploy(cluster)
    context = cluster.world.context
    refused(
        *(cluster, BadInput, "cannot be written: "),
        lambda: testing.run(context, context.environment("dev"), (), tmp_path),
    )
    assert fetched(cluster.world, built.digest) == evidence.Recorded()


HALF = "def test_good(): pass\ndef test_bad(): assert 0, 'it broke'\n"
DROPS = """
def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if "good" in item.name]
"""


def test_who_calls_leaves_no_test_out(
    cluster: FakeCluster, built: image.Built, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No variable of mine has a say in what is tested: the test that fails is run, and the evidence says so."""
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "drops.py").write_text(DROPS)
    (evil / "sitecustomize.py").write_text("import os\nos.environ['PYTEST_ADDOPTS'] = '-k good'\n")
    suite(cluster, HALF)
    deploy(cluster)
    monkeypatch.setenv(
        "PYTEST_ADDOPTS", "-k good --ignore=x --deselect e2e/suites/smoke/test_smoke.py::test_bad"
    )
    monkeypatch.setenv("PYTEST_PLUGINS", "drops")
    monkeypatch.setenv("PYTHONPATH", str(evil))
    monkeypatch.setenv("PYTHONHOME", str(evil))
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")  # no assertion would count
    assert run(cluster).judgement.failed == ("e2e/suites/smoke/test_smoke.py::test_bad",)


BESIDE = {
    "conftest.py": DROPS,
    "e2e/conftest.py": DROPS,
    "pytest.ini": "[pytest]\naddopts = -k good\n",
    "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '-k good'\n",
    "pytest.py": "import sys\nsys.exit(0)\n",
    "json.py": "raise SystemExit(0)\n",
}


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "not committed"])
def test_what_stands_beside_the_suites_has_no_say(
    cluster: FakeCluster, built: image.Built, committed: bool
) -> None:
    """The evidence names the suites' own folder: nothing beside it, committed or not, leaves a test out."""
    suite(cluster, HALF)
    deploy(cluster)
    for path, text in BESIDE.items():
        if committed:
            cluster.world.commit(cluster.world.checkout, path, text, "beside")
        else:
            (cluster.world.checkout / path).write_text(text)
    assert run(cluster).judgement.failed == ("e2e/suites/smoke/test_smoke.py::test_bad",)


def test_a_file_that_git_does_not_see_has_no_say(cluster: FakeCluster, built: image.Built) -> None:
    """A conftest.py among the suites that Git was told to overlook: what is tested is what is committed."""
    suite(cluster, HALF)
    deploy(cluster)
    world = cluster.world
    info = world.checkout / ".git" / "info"
    info.mkdir(exist_ok=True)
    (info / "exclude").write_text("conftest.py\n")
    (world.checkout / "e2e/suites/smoke/conftest.py").write_text(DROPS)
    assert run(cluster).judgement.failed == ("e2e/suites/smoke/test_smoke.py::test_bad",)


def test_suites_that_run_less_than_they_have(cluster: FakeCluster, built: image.Built) -> None:
    """Suites that show another list of tests than they run: nothing is known, and no evidence is left."""
    world = cluster.world
    text = (
        "def pytest_ignore_collect(collection_path, config):\n"
        "    return True if collection_path.name == 'test_more.py' and not config.option.collectonly else None\n"
    )
    world.commit(world.checkout, "e2e/suites/smoke/conftest.py", text, "less")
    world.commit(world.checkout, "e2e/suites/smoke/test_more.py", "def test_more(): pass\n", "more")
    suite(cluster, "def test_it(): pass\n")
    deploy(cluster)
    refused(cluster, NotReached, "test_more.* is not in both lists of tests", lambda: run(cluster))
    assert fetched(world, built.digest) == evidence.Recorded()
