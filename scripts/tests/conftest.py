"""A world small enough for seconds: a Git server on disk, a checkout, and the programs that are at hand."""

import base64
import gc
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from delivery import context as contexts
from delivery.files import write_private
from delivery.parts import programs
from local import paths, platforms, released, tools
from local.catalog import Catalog
from scripts.tests import signing
from scripts.tests.shelf import Shelf, serving_registry
from scripts.tests.steps import built, cluster, helm_once, rendered
from scripts.tests.world import ROOT, SIGNERS, World, begin, leads

__all__ = ["built", "cluster", "helm_once", "rendered"]  # fixtures


def pytest_collection_finish() -> None:
    """What was imported stays until the end: nobody searches it for garbage again, test after test."""
    gc.freeze()


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
    """Where a program of the platform is: $NAME, or what `delivery` itself would take, or an earlier build.

    Nothing is compiled for a fast test, which is skipped instead; unless DELIVERY_TOOLS=pinned asks for it: then
    every test runs, and with the project's own programs.
    """

    @cache
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
def signers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key pair of everybody who signs, made once for all tests, in process."""
    folder = tmp_path_factory.mktemp("signers")
    for name in SIGNERS:
        (folder / f"{name}.password").write_text(f"the password of {name}")
        signing.generate(folder / name, f"the password of {name}")
    return folder


# The login of the tests' registry: bcrypt of "secret", as htpasswd -B writes it.
HTPASSWD = "delivery:$2b$04$UBtw7Y74qP0j93VWeVSQpOqzEYfkjqxWbtx.hMRwZMc/krtV0FADG\n"


@pytest.fixture
def shelf(world: World, tmp_path: Path, program: Callable[[str], Path]) -> Iterator[Shelf]:
    """The registry that this test talks to."""
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
    """The world, with its registry running, docker's login of it, and the keys of everybody who signs."""
    monkeypatch.setattr(programs, "path", program)
    signing.install(monkeypatch)
    site = world.context.site
    host = f"localhost:{shelf.port}"
    repository = site.image.model_copy(update={"reached": f"{host}/manual-app"})
    assert repository.docker_config
    login = base64.b64encode(b"delivery:secret").decode()
    write_private(repository.docker_config / "config.json", json.dumps({"auths": {host: {"auth": login}}}))
    shutil.copytree(signers, site.state / "keys")
    return world.on(image=repository)
