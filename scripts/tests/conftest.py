"""A world small enough for seconds: a Git server on disk, a checkout, and the programs that are at hand."""

import base64
import gc
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from delivery import context as contexts
from delivery import durations
from delivery.files import write_private
from delivery.parts import openpgp, programs
from delivery.progress import Phase
from scripts.tests import signing
from scripts.tests.forks import fork, original
from scripts.tests.shelf import Shelf, serving_registry
from scripts.tests.steps import built, cluster, helm_once, rendered
from scripts.tests.world import SIGNERS, World, begin, leads

try:
    from scripts.tests.local import programs as platform
except ModuleNotFoundError:  # scripts/local was deleted, and its tests with it
    platform = None

__all__ = ["built", "cluster", "fork", "helm_once", "original", "rendered"]  # fixtures


def pytest_collection_finish() -> None:
    """What was imported stays until the end: nobody searches it for garbage again, test after test."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_durations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """How long a phase takes that is played here is no measure for the user's own."""
    file = tmp_path_factory.mktemp("played") / "durations.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durations, "_file", lambda: file)
        yield


@pytest.fixture
def details(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What each phase says of itself while it runs, by its title."""
    told: dict[str, list[str]] = {}
    update = Phase.update

    def listening(phase: Phase, detail: str) -> None:
        update(phase, detail)
        told.setdefault(phase.title, []).append(phase.detail)

    monkeypatch.setattr(Phase, "update", listening)
    return told


@pytest.fixture(scope="session")
def beginning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with server and checkout that each world is a copy of. Its commit is always the same one."""
    folder = tmp_path_factory.mktemp("beginning")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"):
            patch.setenv(name, "2026-11-25T12:00:00Z")
        patch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        for name in ("GIT_DIR", "GIT_WORK_TREE"):
            patch.delenv(name, raising=False)
        begin(folder)
    return folder


@pytest.fixture
def world(beginning: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A checkout with the real pipeline.yaml, an app and a chart, pushed to a bare repository."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("DELIVERY_STATE", "DELIVERY_SITE", "BUILD_NUMBER", "GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    server, checkout = tmp_path / "server.git", tmp_path / "checkout"
    shutil.copytree(beginning, tmp_path, dirs_exist_ok=True)
    leads(tmp_path / "gitconfig", str(server))
    monkeypatch.chdir(checkout)
    return World(checkout, server, contexts.load("team"))


@pytest.fixture(scope="session")
def program() -> Callable[[str], Path]:
    """Where a program is: $NAME, or what the local platform would take, or on PATH where there is no platform."""

    @cache
    def find(name: str) -> Path:
        if told := os.environ.get(name.upper()):
            return Path(told)
        if platform:
            return platform.find(name)
        found = shutil.which(name)
        return Path(found) if found else pytest.skip(f"no {name} on PATH")

    return find


@pytest.fixture(scope="session")
def kustomize(program: Callable[[str], Path]) -> Callable[[Path], dict[str, Any]]:
    """What `kubectl apply -k` would bring from a folder: name -> object."""

    def rendered(folder: Path) -> dict[str, Any]:
        done = subprocess.run(
            [program("kubectl"), "kustomize", folder], check=True, capture_output=True, text=True, timeout=60
        )
        objects = YAML(typ="safe", pure=True).load_all(done.stdout)
        return {one["metadata"]["name"]: one for one in objects}

    return rendered


@pytest.fixture(scope="session")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key pair of everybody who signs, made once for all tests, in process."""
    folder = tmp_path_factory.mktemp("signers")
    for name in SIGNERS:
        (folder / f"{name}.password").write_text(f"the password of {name}")
        signing.generate(folder / name, f"the password of {name}")
        if name.startswith("gate-"):
            secret, certificate = openpgp.generate(f"{name} <{name}@example.test>")
            (folder / f"{name}.pgp").write_text(secret)
            (folder / f"{name}.asc").write_text(certificate)
    for file in folder.iterdir():
        file.chmod(0o600)
    return folder


# The login of the tests' registry: bcrypt of "secret", as htpasswd -B writes it.
HTPASSWD = "delivery:$2b$04$UBtw7Y74qP0j93VWeVSQpOqzEYfkjqxWbtx.hMRwZMc/krtV0FADG\n"


@pytest.fixture(scope="session")
def shelves(
    tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], Path]
) -> Iterator[Iterator[Shelf]]:
    """Empty repositories, one after the other, in one registry: to start it takes longer than most tests."""
    folder = tmp_path_factory.mktemp("registry")
    (folder / "htpasswd").write_text(HTPASSWD)
    settings = f"auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}\n"
    with serving_registry(program("registry"), folder, settings) as port:
        yield (Shelf(port, f"test-{number}/manual-app", folder) for number in count())


@pytest.fixture
def shelf(shelves: Iterator[Shelf]) -> Shelf:
    """The repository that this test alone talks to."""
    return next(shelves)


@pytest.fixture
def stocked(
    world: World,
    shelf: Shelf,
    signers: Path,
    program: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """The world, with its registry running, docker's login of it, and the keys of everybody who signs."""
    monkeypatch.setattr(programs, "path", program)
    signing.install(monkeypatch)
    site = world.context.site
    repository = site.image.model_copy(update={"reached": shelf.name})
    assert repository.docker_config
    login = base64.b64encode(b"delivery:secret").decode()
    write_private(
        repository.docker_config / "config.json", json.dumps({"auths": {repository.host: {"auth": login}}})
    )
    shutil.copytree(signers, site.state / "keys")
    return world.on(image=repository)
