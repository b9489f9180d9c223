"""Which Debian packages have a newer version in the security suite, by this host's own package sources."""

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from e2e.gates.outcome import unknown

SECONDS = 30
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def pending(codename: str, installed: Mapping[str, str]) -> list[str]:
    """The packages that wait for a security update; unknown where this host cannot ask for that release."""
    if not installed:
        unknown("the image has no Debian packages that could be compared")
    suite = f"{codename}-security"
    with tempfile.TemporaryDirectory(prefix="gate-apt-") as folder:
        offered = _offered(Path(folder), suite)
    if not offered:
        unknown(f"this host's list of {suite} is empty")
    return [
        f"{name} {version} -> {newest}"
        for name, version in installed.items()
        if (newest := _newest([version, *offered.get(name, [])])) != version
    ]


def _offered(folder: Path, suite: str) -> dict[str, list[str]]:
    """All versions of the suite, fetched now into a folder of our own: the host's lists may be old."""
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    source = f"deb {signed}$(SITE) $(RELEASE) $(COMPONENT)"
    listed = _apt("indextargets", "--format", source, "Identifier: Packages", f"Release: {suite}")
    if not listed.strip():
        unknown(f"this host has no package source for {suite}")
    file = folder / "sources.list"
    file.write_text(listed, encoding="utf-8")
    (folder / "lists" / "partial").mkdir(parents=True)
    own = (
        *("-o", f"Dir::Etc::sourcelist={file}", "-o", "Dir::Etc::sourceparts=-"),
        *("-o", f"Dir::State::Lists={folder / 'lists'}", "-o", f"Dir::Cache={folder}"),
        *("-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root"),
    )
    # Any index that does not come is an error: apt would go on with what it has.
    bounded = (
        "-o",
        "APT::Update::Error-Mode=any",
        "-o",
        "Acquire::Retries=0",
        "-o",
        "Acquire::http::Timeout=10",
    )
    _apt(*own, *bounded, "--quiet", "update")
    files = _apt(*own, "indextargets", "--format", "$(FILENAME)", "Identifier: Packages").split()
    return _versions(_run("/usr/lib/apt/apt-helper", "cat-file", *files)) if files else {}


def _versions(index: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    package = ""
    for line in index.splitlines():
        if line.startswith("Package: "):
            package = line.removeprefix("Package: ")
        elif line.startswith("Version: "):
            found.setdefault(package, []).append(line.removeprefix("Version: "))
    return found


def _newest(versions: list[str]) -> str:
    newest = versions[0]
    for version in versions[1:]:
        if version != newest and not subprocess.call(["dpkg", "--compare-versions", version, "gt", newest]):
            newest = version
    return newest


def _apt(*arguments: str) -> str:
    return _run("apt-get", *arguments)


def _run(*command: str) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=True
        )
    except FileNotFoundError:
        unknown("this host is no Debian: it cannot ask for Debian's security updates")
    except subprocess.TimeoutExpired:
        unknown(f"Debian's security updates could not be listed within {SECONDS} s")
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or ["it said nothing"])[-1]
        unknown(f"Debian's security updates could not be listed: {said[:200]}")
    return done.stdout
