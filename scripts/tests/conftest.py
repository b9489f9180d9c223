"""A world small enough for seconds: a Git server on disk, a checkout, and the programs that are at hand."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from delivery import pipeline as pipelines
from delivery.desired import tree
from delivery.parts.credentials import write_private
from delivery.parts.git import Repository
from delivery.pipeline import Cluster, Environment, Pipeline
from delivery.signed import evidence, keys
from local import paths, platforms, released, tools
from local.catalog import Catalog

from scripts.tests.played import built, stage
from scripts.tests.shelf import Shelf, serving_registry

__all__ = ["Shelf", "built", "stage"]

ROOT = Path(__file__).resolve().parents[2]

VALUES = """\
# {name}: what differs here.

image:   # set by `delivery`, never by hand
  tag: set-by-promotion      # the build number
  digest: set-by-promotion

replicas: {replicas}  # as many as it needs
"""

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: manual-app}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app.kubernetes.io/name: manual-app}}
  template:
    metadata: {labels: {app.kubernetes.io/name: manual-app}}
    spec:
      containers:
        - name: manual-app
          image: {{ .Values.image.repository }}@{{ .Values.image.digest }}
"""


def git(folder: Path, *arguments: str) -> str:
    """Git as a user would type it, with an identity of the test's own."""
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.test")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


class DiskCluster(Cluster):
    """A cluster whose Git server is a bare repository on disk."""

    @property
    def git_url(self) -> str:
        return str(self.root / ".." / "server.git")


@dataclass(frozen=True)
class World:
    """A checkout, its server, and the pipeline that it holds."""

    checkout: Path
    server: Path
    pipeline: Pipeline
    cluster: Cluster

    git = staticmethod(git)

    @staticmethod
    def values(name: str, replicas: int) -> str:
        """A values file as the checkout has it at first."""
        return VALUES.format(name=name, replicas=replicas)

    def clone(self, name: str) -> Path:
        """One more person's clone of the server."""
        folder = self.checkout.parent / name
        git(self.checkout.parent, "clone", "--quiet", str(self.server), str(folder))
        return folder

    def head(self) -> str:
        """Where the server's main is."""
        return git(self.server, "rev-parse", "main")

    def commits(self) -> list[str]:
        """The subjects on the server's main, newest first."""
        return git(self.server, "log", "--format=%s", "main").splitlines()

    def file(self, path: str, commit: str = "main") -> str:
        """A file as the server has it, byte for byte."""
        return subprocess.run(
            ["git", "-C", str(self.server), "show", f"{commit}:{path}"], check=True, capture_output=True
        ).stdout.decode()

    def result(
        self,
        environment: Environment,
        tests: dict[str, str] | None = None,
        ago: timedelta = timedelta(),
        changed: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """What a run says: one test for each suite, all passed; `tests` changes the outcome of a suite's."""
        outcomes = dict.fromkeys(environment.tests.requires, "passed") | (tests or {})
        run = [
            evidence.Test(id=f"{suite}/test_it.py::test_it", suite=suite, check="it", outcome=outcome)
            for suite, outcome in outcomes.items()
            if outcome != "absent"
        ]
        finished = datetime.now(UTC) - ago
        server = Repository(self.server)
        return evidence.predicate(
            *(self.pipeline, environment, evidence.judge(environment.tests, run, changed)),
            tree.at(self.pipeline, server, environment, "main"),
            *(self.head(), self.head(), evidence.Pods(before=(), after=()), finished, finished),
        )

    def prove(self, environment: Environment, digest: str, **circumstances: Any) -> dict[str, Any]:
        """Signed evidence of an environment about a digest, PASSED unless told otherwise."""
        data = self.result(environment, **circumstances)
        evidence.put(self.pipeline, self.cluster, digest, environment, data)
        return data

    def commit(self, clone: Path, path: str, text: str, message: str) -> str:
        """One commit in a clone."""
        file = clone / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        git(clone, "add", "--all")
        git(clone, "commit", "--quiet", "--message", message)
        return git(clone, "rev-parse", "HEAD")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever signs with the real cosign takes seconds, and hundreds of tests take minutes: `slow`."""
    for item in items:
        if "signers" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A checkout with the real pipeline.yaml, an app and a chart, pushed to a bare repository."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("DELIVERY_STATE", "DELIVERY_CLUSTER", "BUILD_NUMBER", "GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    server, checkout = tmp_path / "server.git", tmp_path / "checkout"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(server))
    git(tmp_path, "clone", "--quiet", str(server), str(checkout))
    git(checkout, "checkout", "--quiet", "-B", "main")
    files = {
        "pipeline.yaml": (ROOT / "pipeline.yaml").read_text(),
        ".gitignore": ".delivery/\n",
        "manual-app/pyproject.toml": '[project]\nname = "manual-app"\nversion = "1.2.3"\n',
        "e2e/suites/smoke/test_smoke.py": "def test_starts() -> None:\n    pass\n",
        "manual-app-helm/Chart.yaml": "apiVersion: v2\nname: manual-app\nversion: 0.1.0\n",
        "manual-app-helm/values.yaml": "replicas: 1\nimage: {repository: registry.local:5000/manual-app}\n",
        "manual-app-helm/templates/app.yaml": DEPLOYMENT,
        **{
            f"manual-app-helm/values-{name}.yaml": VALUES.format(name=name, replicas=replicas)
            for name, replicas in (("dev", 1), ("stage", 2), ("prod", 2))
        },
    }
    for path, text in files.items():
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).write_text(text)
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "the beginning")
    git(checkout, "push", "--quiet", "origin", "main")
    monkeypatch.chdir(checkout)
    pipeline = pipelines.load()
    first = pipeline.clusters[0]
    cluster = DiskCluster.model_validate(first.model_dump(), context={"root": checkout})
    return World(checkout, server, pipeline, cluster)


@pytest.fixture(scope="session")
def program() -> Callable[[str], Path]:
    """Where a program of the platform is: $NAME, or what `delivery` itself would take, or an earlier build.

    Nothing is compiled for a fast test, which is skipped instead; unless DELIVERY_TOOLS=pinned asks for it: then
    every test runs, and with the project's own programs.
    """

    def find(name: str) -> Path:
        if told := os.environ.get(name.upper()):
            return Path(told)
        recipes = Catalog(ROOT)
        compiled, why = recipes.module.bin / name, "not built before"
        if compiled.exists():
            return compiled
        pinned = os.environ.get(tools.CHOICE) == "pinned"
        if name in tools.NAMES:
            with pytest.MonkeyPatch.context() as patch:  # the test may stand in a checkout of its own
                patch.setattr(tools, "catalog", lambda: recipes)
                patch.setattr(tools, "_tools", lambda: released.tools(recipes))
                found = tools.look(name)
                if found.path or pinned:
                    return found.path or tools._have((name,))[name]
            why = found.why
        elif pinned:
            return recipes.module.build(name, platform=platforms.here()) / name
        earlier = sorted(paths.cache("programs").glob(f"*/{name}"), key=lambda p: p.stat().st_mtime)
        if not earlier:
            pytest.skip(f"no {name} ({why}); {tools.CHOICE}=pinned make test gets it")
        return earlier[-1]

    return find


@pytest.fixture(scope="session")
def signers(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], Path]) -> Path:
    """The key pairs that `up` makes, made once for all tests by the real cosign."""
    root = tmp_path_factory.mktemp("signers")
    (root / "pipeline.yaml").write_text((ROOT / "pipeline.yaml").read_text())
    cluster = pipelines.load(root).clusters[0]
    cluster = DiskCluster.model_validate(cluster.model_dump(), context={"root": root})
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DELIVERY_STATE", raising=False)
        patch.setattr(tools, "path", program)
        keys.create(cluster)
    return cluster.state / "keys"


# The login of the tests' registry: bcrypt of "secret", as htpasswd -B writes it.
HTPASSWD = "delivery:$2b$04$UBtw7Y74qP0j93VWeVSQpOqzEYfkjqxWbtx.hMRwZMc/krtV0FADG\n"


@pytest.fixture
def shelf(world: World, tmp_path: Path, program: Callable[[str], Path]) -> Iterator[Shelf]:
    """The registry that `world.cluster` of this test talks to."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    settings = f"auth: {{htpasswd: {{realm: test, path: {tmp_path}/htpasswd}}}}\n"
    with serving_registry(program("registry"), tmp_path, settings) as port:
        yield Shelf(port)


@pytest.fixture
def stocked(
    world: World,
    shelf: Shelf,
    signers: Path,
    program: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """The world, with its cluster's registry running, its login and its keys where `up` puts them."""
    monkeypatch.setattr(tools, "path", program)
    data = world.cluster.model_dump() | {"registry": shelf.port}
    cluster = DiskCluster.model_validate(data, context={"root": world.checkout})
    login = {"username": "delivery", "password": "secret"}
    write_private(cluster.state / "credentials.json", json.dumps({"registry": login, "git": login}))
    shutil.copytree(signers, cluster.state / "keys")
    return replace(world, cluster=cluster)
