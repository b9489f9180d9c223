"""The Makefile on machines that are not this one: another python3, a moved folder, a space in its name."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def environment(**changed: str) -> dict[str, str]:
    """Not the variables of the `make` that runs these tests: `make test PYTHON=…` hands them all down."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "PYTHON"))} | changed


def make(folder: Path, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
    """`make` in a folder, by the shell's own rules; how long it takes here is not kept for the user."""
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=environment(**{"XDG_CACHE_HOME": f"{folder}/cache"} | changed),
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with our Makefile and a virtual environment that is ready, under a home with a space."""
    folder = tmp_path / "a home" / "manual-app"
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (folder / ".venv" / "place").write_text(f"{folder.resolve()}\n")
    (folder / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    for name in ("requirements.lock", "pyproject.toml", ".venv/ready"):
        (folder / name).touch()
    return folder


def program(folder: Path, name: str, script: str) -> None:
    """A program of that name, as an installer leaves it on PATH."""
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_help_names_every_verb() -> None:
    """`make` alone lists all there is, verbs with a dash or a digit in their name too."""
    listed = re.findall(r"^  make (\S+)  +\S", make(ROOT).stdout, re.M)
    [declared] = re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert sorted(listed) == sorted(declared.split())


def test_what_is_ready_stays(checkout: Path) -> None:
    """A second `make` does not prepare the virtual environment again."""
    assert make(checkout, "-q", ".venv/ready").returncode == 0


def test_a_moved_folder(checkout: Path, tmp_path: Path) -> None:
    """After `mv` or `cp -r`, the programs in .venv name the old folder: they are made anew."""
    moved = checkout.rename(tmp_path / "elsewhere")
    assert make(moved, "-q", ".venv/ready").returncode == 1


def test_a_python_that_was_upgraded_away(checkout: Path) -> None:
    """After `brew upgrade`, .venv leads to a python that is gone: it is made anew."""
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.12")
    assert make(checkout, "-q", ".venv/ready").returncode == 1


def test_no_python_that_will_do(checkout: Path, tmp_path: Path) -> None:
    """A Mac's own python3 is 3.9: one line says which ones will do, and nothing is made."""
    (checkout / ".venv" / "ready").unlink()
    (checkout / ".venv" / "place").unlink()
    program(tmp_path, "old", "exit 1")
    said = make(checkout, "doctor", f"PYTHON={tmp_path}/old")
    assert said.returncode != 0
    assert said.stderr.startswith("error: python3 of version 3.11, 3.12, 3.13 or 3.14 is needed\nhint: ")
    assert not (checkout / ".venv" / "place").exists()


def test_another_python_beside_an_old_one(checkout: Path, tmp_path: Path) -> None:
    """Where python3 is too old or too new and python3.12 stands beside it, that one is taken."""
    (checkout / ".venv" / "ready").unlink()
    program(tmp_path, "python3", "exit 1")
    program(tmp_path, "python3.14", "exit 127")
    program(tmp_path, "python3.13", "exit 1")
    program(tmp_path, "python3.12", f'exec "{sys.executable}" "$@"')
    plan = make(checkout, "-n", ".venv/ready", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert "python3.12 -m venv" in plan.stdout


@pytest.mark.parametrize(
    ("uv", "settings", "by_pip"),
    [
        (0, "", False),
        (1, "", True),
        (0, "global.index-url='https://pypi.acme.example/simple'", True),
    ],
    ids=["uv does it", "uv fails", "an index that only pip knows"],
)
def test_who_installs_the_packages(checkout: Path, uv: int, settings: str, by_pip: bool) -> None:
    """uv, which is a package of the lock file itself, puts all others in place; pip does where uv cannot."""
    (checkout / ".venv" / "ready").unlink()
    (checkout / "requirements.lock").write_text(
        "a==1 \\\n    --hash=sha256:0\nuv==2 \\\n    --hash=sha256:1\n    # via\nz==3\n"
    )
    asked = checkout / "asked"
    binaries = checkout / ".venv" / "bin"
    (binaries / "python").unlink()
    said = f'echo "{settings}"' if settings else ":"
    program(binaries, "python", f'echo "$*" >>"{asked}"; case "$*" in *"config list") {said};; esac')
    program(binaries, "uv", f'echo "uv $*" >>"{asked}"; exit {uv}')
    assert make(checkout, ".venv/ready").returncode == 0
    wanted = [line for line in asked.read_text("utf-8").splitlines() if "--require-hashes" in line]
    names = [("uv" if line.startswith("uv ") else "pip", line.rpartition("-r ")[2]) for line in wanted]
    tried = [] if settings else [("uv", "requirements.lock")]
    assert names == [("pip", ".venv/uv.lock"), *tried, *([("pip", "requirements.lock")] if by_pip else [])]
    assert (checkout / ".venv" / "uv.lock").read_text("utf-8") == "uv==2 \\\n    --hash=sha256:1\n    # via\n"


@pytest.fixture
def bare(checkout: Path) -> Path:
    """The same before its packages are in place, with a uv that says by which options it was called."""
    (checkout / ".venv" / "ready").unlink()
    (checkout / "requirements.lock").write_text("uv==2 \\\n    --hash=sha256:1\n    # via\n")
    binaries = checkout / ".venv" / "bin"
    (binaries / "python").unlink()
    program(binaries, "python", ":")
    program(binaries, "uv", 'echo "uv draws" >&2; echo "$*" >asked')
    return checkout


STEPS = [
    " • Preparing the virtual environment: 1 of 4: a Python of its own",
    " • Preparing the virtual environment: 2 of 4: uv",
    " • Preparing the virtual environment: 3 of 4: the packages of requirements.lock",
    " • Preparing the virtual environment: 4 of 4: delivery itself",
]


def test_the_steps_of_the_virtual_environment(bare: Path, tmp_path: Path) -> None:
    """In a log each step is a line, uv is silent, and how long it took is kept for the next time."""
    cache = tmp_path / "a cache"
    program(bare / ".venv" / "bin", "uv", 'echo "uv draws" >&2; echo "$*" >asked; sleep 3.1')
    done = make(bare, ".venv/ready", XDG_CACHE_HOME=str(cache))
    assert (done.returncode, done.stderr) == (0, "")
    *steps, end = done.stdout.splitlines()
    assert steps == STEPS
    assert re.fullmatch(r" ✓ Preparing the virtual environment \(\d+ s\)", end)
    assert int((cache / "delivery" / "venv.seconds").read_text()) >= 3
    assert (bare / ".venv" / "uv.log").read_text() == "uv draws\n"
    assert "--quiet" in (bare / "asked").read_text().split()


@pytest.mark.parametrize(
    ("kept", "left"),
    [("95\n", True), ("", False), ("long\n", False), ("08\n", False), ("1e3\n95\n", False), (None, False)],
)
def test_the_virtual_environment_on_a_terminal(
    bare: Path, tmp_path: Path, kept: str | None, left: bool
) -> None:
    """On a terminal uv draws how far it is, and the time left of an earlier run is shown, unless that is damaged."""
    cache = tmp_path / "cache"
    file = cache / "delivery" / "venv.seconds"
    if kept is not None:
        file.parent.mkdir(parents=True)
        file.write_text(kept)
    else:
        cache.write_text("a file, where the folder should be")
    shown, terminal = pty.openpty()
    try:
        done = subprocess.run(
            ["make", ".venv/ready"],
            cwd=bare,
            env=environment(XDG_CACHE_HOME=str(cache)),
            stdout=subprocess.PIPE,
            stderr=terminal,
            text=True,
            encoding="utf-8",
        )
    finally:
        os.close(terminal)
        drawn = os.read(shown, 65536)
        os.close(shown)
    assert (done.returncode, drawn) == (0, b"uv draws\r\n")
    assert "--quiet" not in (bare / "asked").read_text().split()
    steps = done.stdout.splitlines()[:-1]
    assert [re.sub(r" \(about 9\d s left\)$", "", one) for one in steps] == STEPS
    assert all(one.endswith("s left)") is left for one in steps)
