"""The lock files hold what the pyproject files ask, for every machine that is promised, not for this one alone."""

import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "requirements.lock"
BENCH = ROOT / "requirements-bench.lock"
SERVICE = ROOT / "manual-app" / "requirements.lock"
LOCAL = ROOT / "scripts" / "local"  # or a team deleted it
GO = [LOCAL / "closed" / "go" / "go-toolchain.lock"] if LOCAL.is_dir() else []

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LINUX = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")
MACOS = ("x86_64-apple-darwin", "aarch64-apple-darwin")

# Published without a wheel, and nothing but Python: setuptools makes one in a second (python-dxf's parser of a header).
SDISTS = ("www-authenticate",)

# Machine by machine: `make` and `make bench` on a laptop, the service in its image (whose Python is 3.11), Go where
# it is missing.
MACHINES = (
    *((TOOLS, python, platform) for python in PYTHONS for platform in (*LINUX, *MACOS)),
    *((BENCH, python, platform) for python in PYTHONS for platform in (*LINUX, *MACOS)),
    *((SERVICE, "3.11", platform) for platform in LINUX),
    *((lock, "3.11", platform) for lock in GO for platform in (*LINUX, *MACOS)),
)


def pinned(lock: Path) -> dict[tuple[str, str], set[str]]:
    """Every package and version of a lock file, with its hashes."""
    found = {}
    for entry in re.split(r"\n(?=\S)", re.sub(r"(?m)^ *#.*\n?", "", lock.read_text("utf-8"))):
        name, version = re.match(r"(\S+?)==(\S+)", entry.lstrip()).groups()  # type: ignore[union-attr]
        found[name, version] = set(re.findall(r"--hash=(sha256:[0-9a-f]{64})", entry))
    return found


def resolved(lock: Path, python: str, platform: str) -> dict[tuple[str, str], set[str]]:
    """What a resolver takes there of a lock and all that it needs: each package, with the wheels that fit."""
    answer = subprocess.run(
        [
            *(Path(sys.executable).with_name("uv"), "pip", "compile", lock, "--format", "pylock.toml"),
            # It need not look for the other Python: it knows what that one would take.
            *("--python", sys.executable, "--python-version", python, "--python-platform", platform),
            *("--only-binary", ":all:", "--no-header", *_index()),
            *(word for name in SDISTS for word in ("--no-binary", name)),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert answer.returncode == 0, answer.stderr
    return {
        (package["name"], package["version"]): {
            f"sha256:{file['hashes']['sha256']}"
            for file in (*package.get("wheels", ()), *filter(None, [package.get("sdist")]))
            if "wheels" in package or package["name"] in SDISTS
        }
        for package in tomllib.loads(answer.stdout)["packages"]
    }


def missing(lock: Path, python: str, platform: str) -> list[str]:
    """The packages of which no wheel that fits there has its hash in the lock."""
    known = pinned(lock)
    wheels = resolved(lock, python, platform)
    return [
        f"{name}=={version}"
        for (name, version), fit in wheels.items()
        if not fit & known.get((name, version), set())
    ]


@cache
def _index() -> tuple[str, ...]:
    """The index that pip is told to ask, if any: uv does not read pip.conf."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    options = {"index-url": "--default-index", "extra-index-url": "--index"}
    urls = re.findall(r"(?m)^[\w:]+\.((?:extra-)?index-url)='(.*)'$", told)
    return tuple(word for name, url in dict(urls).items() for word in (options[name], url))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lock", "python", "platform"), MACHINES, ids=lambda part: getattr(part, "stem", part)
)
def test_every_machine(lock: Path, python: str, platform: str) -> None:
    """Each Python on amd64 and arm64, Linux and macOS, finds a wheel of everything whose hash is in the lock."""
    assert not missing(lock, python, platform)


@pytest.mark.slow
def test_a_lock_of_one_machine_is_not_enough(tmp_path: Path) -> None:
    """A lock that was made on Linux alone is found out: it has no hash of the wheel that a Mac takes."""
    here, there = (
        resolved(TOOLS, "3.12", platform)["ruff", _version("ruff")] for platform in (LINUX[0], MACOS[1])
    )
    lock = tmp_path / "linux.lock"
    lock.write_text(
        f"ruff=={_version('ruff')} \\\n    " + " \\\n    ".join(f"--hash={one}" for one in here) + "\n"
    )
    assert here.isdisjoint(there)
    assert not missing(lock, "3.12", LINUX[0])
    assert missing(lock, "3.12", MACOS[1]) == [f"ruff=={_version('ruff')}"]


@pytest.mark.parametrize(
    ("lock", "projects"),
    [(TOOLS, (".", "manual-app")), (SERVICE, ("manual-app",)), (BENCH, (".",))],
    ids=["tools", "service", "bench"],
)
def test_the_lock_is_not_older_than_what_is_asked(lock: Path, projects: tuple[str, ...]) -> None:
    """Whoever changes a dependency without `make lock` is told so, in seconds and offline."""
    locked: dict[str, list[str]] = {}
    for name, version in pinned(lock):
        locked.setdefault(name, []).append(version)
    for project in projects:
        data = tomllib.loads((ROOT / project / "pyproject.toml").read_text("utf-8"))
        groups = data["dependency-groups"]
        named = [name for name in groups if (name == "bench") == (lock == BENCH)] if lock != SERVICE else ()
        own = data["project"]["dependencies"] if lock != BENCH else ()  # it comes on top of the tools
        for line in (*own, *(line for name in named for line in groups[name])):
            asked = Requirement(line)
            versions = locked.get(canonicalize_name(asked.name), [])
            assert any(asked.specifier.contains(version) for version in versions), f"{line}: make lock"


@pytest.mark.parametrize("lock", [TOOLS, SERVICE, BENCH, *GO], ids=lambda lock: lock.stem)
def test_every_package_has_hashes_and_no_place(lock: Path) -> None:
    """What is installed is what was pinned, from whichever index a machine is told to use: the lock names none."""
    assert all(pinned(lock).values())
    assert "://" not in lock.read_text("utf-8")
    assert "index" not in {
        line.strip().split()[0].strip("-") for line in lock.read_text("utf-8").splitlines()
    }


def test_one_version_of_what_both_use() -> None:
    """The service is tested on a laptop with the packages that its image has."""
    assert set(pinned(SERVICE)) <= set(pinned(TOOLS))


def test_the_bench_changes_no_version() -> None:
    """What `make bench` installs on top leaves every package as it is."""
    tools, bench = set(pinned(TOOLS)), set(pinned(BENCH))
    names = {name for name, _ in tools}
    assert {(name, version) for name, version in bench if name in names} <= tools


def test_the_pythons_are_the_ones_that_are_promised() -> None:
    """pyproject.toml and the Makefile take the Pythons that the lock is tried with, and no other."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    asked = Requirement(f"delivery {data['project']['requires-python']}").specifier
    minors = [f"3.{minor}" for minor in range(8, 20)]
    assert tuple(python for python in minors if asked.contains(f"{python}.1")) == PYTHONS
    [first, last] = re.findall(r"\((3, \d+)\)", (ROOT / "Makefile").read_text("utf-8"))
    after = int(last.split(", ")[1])
    assert [f"3.{minor}" for minor in range(int(first.split(", ")[1]), after)] == list(PYTHONS)


def _version(name: str) -> str:
    [version] = [version for found, version in pinned(TOOLS) if found == name]
    return version


def test_no_package_registry_is_named() -> None:
    """A fork behind its own mirrors finds no host name of a registry in what we commit."""
    named = re.compile(r"proxy\.golang\.org|pypi\.org|files\.pythonhosted|deb\.debian\.org|registry\.npmjs")
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    hits = [
        name
        for name in filter(None, files.split("\0"))
        if (ROOT / name).is_file()
        and named.search((ROOT / name).read_text(encoding="utf-8", errors="ignore"))
    ]
    assert hits == []
