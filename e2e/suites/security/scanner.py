"""grype, with the database that vulnerabilities.yaml names and no setting of whoever runs it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from e2e.suites.outcome import unknown

SECONDS = 120
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Database:
    """Where it comes from: `publisher`, a mirror's address, or a file; and its age in days that is still believed."""

    source: str
    maximum_age: float


def configured(file: Path = HERE / "vulnerabilities.yaml") -> Database:
    """What the committed file says; AssertionError when that makes no sense."""
    said = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    source, days = said["database"], said["maximum_age"]
    known = source == "publisher" or source.startswith(("https://", "http://", "/"))
    assert known, f"{file.name}: database is {source!r}, not publisher, an address or an absolute path"
    assert days > 0, f"{file.name}: maximum_age is {days}, not a number of days"
    return Database(source, days)


def scan(grype: str, bill: dict[str, Any], database: Database, folder: Path) -> list[tuple[str, str]]:
    """The vulnerabilities with a fix of what is on the bill: identifier and severity, each once.

    `folder` is this run's own. Unknown, with grype's words, when the database is not to be had, or is too old.
    """
    file, settings = folder / "sbom.json", folder / "grype.yaml"
    file.write_text(json.dumps(bill), encoding="utf-8")
    # Its own file in place of those that grype would look for: one of them could leave findings out.
    settings.write_text(json.dumps(_settings(database, folder)), encoding="utf-8")
    if database.source.startswith("/"):
        if not Path(database.source).is_file():
            unknown(f"there is no vulnerability database {database.source}")
        _run(grype, settings, "db", "import", database.source)
    said = _run(grype, settings, f"sbom:{file}", "--only-fixed", "--output=json")
    try:
        matches = json.loads(said)["matches"]
    except (ValueError, KeyError):
        unknown("grype said what nobody understands")
    return sorted({(one["vulnerability"]["id"], one["vulnerability"]["severity"].upper()) for one in matches})


def program(name: str) -> str | None:
    """Where a scanner is: beside this Python, or on PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def _settings(database: Database, folder: Path) -> dict[str, Any]:
    about: dict[str, Any] = {
        "validate-age": True,
        "max-allowed-built-age": f"{database.maximum_age * 24:g}h",
        "require-update-check": True,
    }
    if database.source.startswith("/"):
        about |= {"cache-dir": str(folder / "db"), "auto-update": False}
        about["require-update-check"] = False
    elif database.source != "publisher":
        about |= {"cache-dir": str(folder / "db"), "update-url": database.source}
    return {"check-for-app-update": False, "db": about}


def _run(grype: str, settings: Path, *arguments: str) -> str:
    """What grype prints; Unknown with its last words when it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRYPE_")}
    environment["NO_COLOR"] = "1"
    try:
        done = subprocess.run(
            [grype, "--config", str(settings), *arguments],
            cwd=settings.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        unknown(f"grype did not end within {SECONDS} s: is its database to be had?")
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1].partition("ERROR ")
        unknown(
            f"grype ends with {done.returncode} (is its database to be had?): {(said[2] or said[0])[:200]}"
        )
    return done.stdout
