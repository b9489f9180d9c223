"""The house: imports run downward only, the product never knows the local platform, and it stands without it."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.tests.forks import forget_local
from scripts.tests.world import ROOT, World

DELIVERY = ROOT / "scripts" / "delivery"

# From the top. A room uses those below it, and itself; files that stand alone are rooms, too.
ROOMS = (
    *("cli", "show", "verbs", "gate", "proof", "build", "signed", "desired", "parts"),
    *("context", "pipeline", "app", "site", "freeze", "roles", "ground"),
)
GROUND = ("progress", "durations", "lock", "files", "fields", "wait", "errors")

MODULES = sorted(DELIVERY.rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it; `from a import b` is a.b as well as a."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)


def room(module: str) -> str:
    """The room that a module of delivery is in; empty for the package itself."""
    name = module.split(".")[1] if "." in module else ""
    return "ground" if name in GROUND else name


def of(file: Path) -> str:
    return "delivery." + ".".join(file.relative_to(DELIVERY).with_suffix("").parts)


@pytest.mark.parametrize("file", MODULES, ids=of)
def test_imports_run_downward(file: Path) -> None:
    """No room knows what stands above it."""
    mine = room(of(file))
    if mine == "__init__":
        return
    assert mine in ROOMS, f"{file}: say in test_house.py between which rooms it stands"
    below = ROOMS[ROOMS.index(mine) :]
    used = {room(name) for name in imported(file) if name.startswith("delivery.")}
    # `from delivery import x` names the package too, and `from delivery.parts import git` the room itself.
    upward = sorted(name for name in used if name in ROOMS and name not in below)
    assert not upward, f"{of(file)} imports from {', '.join(upward)}, above it"


@pytest.mark.parametrize("file", MODULES, ids=of)
def test_delivery_never_imports_local(file: Path) -> None:
    """A team deletes scripts/local, and nothing is missing."""
    assert not [name for name in imported(file) if name.partition(".")[0] in ("local", "scripts", "e2e")]


def test_delivery_knows_no_machine() -> None:
    """Where it all lives is the site's to say: the product has no address of this machine."""
    said = [
        f"{file}: {line}"
        for file in sorted(DELIVERY.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
        for line in file.read_text(encoding="utf-8").splitlines()
        if "127.0.0.1" in line
    ]
    assert not said


@pytest.fixture(scope="module")
def without_local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `delivery` can be imported and `local` cannot."""
    folder = tmp_path_factory.mktemp("deleted")
    shutil.copytree(DELIVERY, folder / "delivery", ignore=shutil.ignore_patterns("__pycache__"))
    forget_local(folder)
    return {**os.environ, "PYTHONPATH": str(folder), "DELIVERY_SITE": "team"}


def ran(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from delivery import cli; cli.main()"
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_without_local_there_are_no_verbs_of_it(without_local: dict[str, str], tmp_path: Path) -> None:
    """`delivery --help` has every verb of the product, and none of the platform that was deleted."""
    code = "import delivery; print(delivery.__file__)\ntry:\n import local\nexcept ImportError: print('gone')"
    said = subprocess.run(
        [sys.executable, "-c", code],
        env=without_local,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(ROOT) not in said.stdout
    assert said.stdout.endswith("gone\n")
    done = ran(without_local, tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    verbs = {line.split()[0] for line in done.stdout.partition("Commands:")[2].splitlines() if line.strip()}
    assert {"build", "deploy", "promote", "approve", "test", "verify", "status"} <= verbs
    assert not {"up", "down", "doctor", "demo", "pin"} & verbs


def test_the_suites_need_no_local(without_local: dict[str, str]) -> None:
    """`delivery test` goes on where scripts/local was deleted: nothing that pytest loads for the suites wants it."""
    suites = ROOT / "e2e" / "suites"
    files = [*(ROOT / "e2e").glob("conftest.py"), *suites.rglob("conftest.py"), *suites.rglob("test_*.py")]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    code = "import sys; sys.path.insert(0, sys.argv[1])\nfor name in sys.argv[2:]: __import__(name)"
    command = [sys.executable, "-c", code, str(ROOT), *names]
    done = subprocess.run(command, env=without_local, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


VERBS = {
    "verify qa": (2, "there is no environment 'qa'"),
    "approve dev": (2, "dev needs no approval"),
    "verify": (3, "UNKNOWN"),
    "deploy": (4, "registry localhost:1 does not answer"),
    "promote stage": (4, "kubeconfig is missing"),
    "--site local verify": (4, "site local is not up"),
    "up": (2, "No such command 'up'"),
}
ALL = """
import sys
from delivery import cli
for verb in sys.argv[1:]:
    sys.argv = ["delivery", *verb.split()]
    try:
        cli.main()
    except SystemExit as ended:
        print("exit", ended.code, flush=True, file=sys.stderr)
"""


def test_without_local_the_verbs_answer(without_local: dict[str, str], world: World) -> None:
    """Each verb works as before, down to its errors."""
    command = [sys.executable, "-W", "error", "-c", ALL, *VERBS]
    git = {name: os.environ[name] for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM")}
    done = subprocess.run(
        command, cwd=world.checkout, env=without_local | git, capture_output=True, text=True, timeout=60
    )
    said = done.stderr.split("error: ")[1:]
    assert len(said) == len(VERBS), done.stderr
    for answer, (verb, (code, says)) in zip(said, VERBS.items(), strict=True):
        assert says in answer.splitlines()[0], verb
        assert answer.splitlines()[1].startswith("hint: "), verb
        assert f"exit {code}\n" in answer, verb
