"""The vulnerability scanner answers from the database that the commit names: the publisher's, a mirror's, a file."""

import hashlib
import json
import shutil
import sqlite3
import sys
import tarfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from e2e.suites.outcome import Unknown
from e2e.suites.security import scanner
from e2e.suites.security.scanner import Database

FOUND = [("GHSA-aaaa-bbbb-cccc", "HIGH")]
ROWS: dict[str, tuple[Any, ...]] = {
    "providers": ("github", "1", "test", "2026-01-01 00:00:00+00:00", "xxh64:0"),
    "packages": (1, "python", "leaky"),
    "vulnerability_handles": (1, "GHSA-aaaa-bbbb-cccc", "active", None, None, None, "github", 1),
    "affected_package_handles": (1, 1, None, 1, 2),
    "package_specifier_overrides": ("pypi", "python"),
}
BLOBS = (
    {"id": "GHSA-aaaa-bbbb-cccc", "severities": [{"scheme": "CHML", "value": "high", "rank": 1}]},
    {
        "ranges": [
            {
                "version": {"type": "python", "constraint": "<1.0.1"},
                "fix": {"version": "1.0.1", "state": "fixed"},
            }
        ]
    },
)


def bill(version: str = "1.0.0") -> dict[str, Any]:
    """A bill of materials with the one package that the database knows something about."""
    leaky = {
        "type": "library",
        "name": "leaky",
        "version": version,
        "purl": f"pkg:pypi/leaky@{version}",
    }
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [leaky]}


def made(folder: Path, days: float = 0) -> Path:
    """A small database, built so many days ago."""
    file = folder / "vulnerability.db"
    built = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S+00:00")
    rows = [("db_metadata", (built, 6, 1, 10)), *ROWS.items()]
    rows += [("blobs", (number, json.dumps(blob))) for number, blob in enumerate(BLOBS, 1)]
    connection = sqlite3.connect(file)
    with connection:
        connection.executescript(Path(__file__).with_name("grype.sql").read_text())
        for table, values in rows:
            marks = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO {table} VALUES ({marks})", values)  # noqa: S608
    connection.close()
    return file


def packed(folder: Path) -> Path:
    """The same as the publisher packs it."""
    file = folder / "database.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        archive.add(made(folder), "vulnerability.db")
    return file


@pytest.fixture
def grype(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The real scanner, called by somebody whose own settings would leave everything out."""
    found = scanner.program("grype")
    if not found:
        pytest.skip("grype is not on PATH")
    ignoring = {"ignore": [{"vulnerability": "GHSA-aaaa-bbbb-cccc"}]}
    (tmp_path / ".grype.yaml").write_text(json.dumps(ignoring))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GRYPE_CONFIG", str(tmp_path / ".grype.yaml"))
    monkeypatch.setenv("GRYPE_EXCLUDE", "**")
    monkeypatch.setenv("GRYPE_DB_CACHE_DIR", "/nowhere")
    return found


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A mirror with a small database."""
    served = tmp_path / "served"
    served.mkdir()
    archive = packed(served)
    latest = {
        "status": "active",
        "schemaVersion": "v6.1.10",
        "built": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "path": archive.name,
        "checksum": f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}",
    }
    (served / "latest.json").write_text(json.dumps(latest))

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=served))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/latest.json"
    server.shutdown()
    thread.join()
    server.server_close()


def scan(grype: str, source: str | Path, tmp_path: Path, version: str = "1.0.0") -> list[tuple[str, str]]:
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return scanner.scan(grype, bill(version), Database(str(source), 5), folder)


def test_an_offline_copy(grype: str, tmp_path: Path) -> None:
    """The database's file or its archive, on a machine without the internet, finds what has a fix, and nothing else."""
    (tmp_path / "packed").mkdir()
    for source in (made(tmp_path), packed(tmp_path / "packed")):
        assert scan(grype, source, tmp_path) == FOUND
        assert scan(grype, source, tmp_path, "1.0.1") == []


def test_a_mirror(grype: str, mirror: str, tmp_path: Path) -> None:
    """A mirror's address is asked in place of the publisher's."""
    assert scan(grype, mirror, tmp_path) == FOUND


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("old", "was built .* ago"),
        ("broken", "not a database"),
        ("absent", "there is no vulnerability database"),
        ("http://127.0.0.1:9/latest.json", "unable to download"),
    ],
)
def test_a_database_that_says_nothing_is_unknown(grype: str, tmp_path: Path, source: str, says: str) -> None:
    """Too old, broken, gone, or a mirror that does not answer: unknown, with the reason, and never `nothing found`."""
    if source == "old":
        source = str(made(tmp_path, days=6))
    elif source == "broken":
        (tmp_path / "broken.db").write_text("no database")
        source = str(tmp_path / "broken.db")
    elif source == "absent":
        source = str(tmp_path / "absent.db")
    with pytest.raises(Unknown, match=says):
        scan(grype, source, tmp_path)


def test_the_callers_settings_have_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever scanner it is, it gets our settings alone, and no variable of whoever calls."""
    played, seen = tmp_path / "grype", tmp_path / "seen"
    played.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"json.dump([sys.argv[1:], dict(os.environ)], open({str(seen)!r}, 'w'))\n"
        "print('{\"matches\": []}')\n"
    )
    played.chmod(0o755)
    monkeypatch.setenv("GRYPE_DB_UPDATE_URL", "http://empty.test")
    assert scan(str(played), "publisher", tmp_path) == []
    arguments, environment = json.loads(seen.read_text())
    assert not [name for name in environment if name.startswith("GRYPE_")]
    settings = json.loads(Path(arguments[arguments.index("--config") + 1]).read_text())
    assert settings["db"] == {
        "validate-age": True,
        "max-allowed-built-age": "120h",
        "require-update-check": True,
    }


def test_what_is_committed_makes_sense() -> None:
    """The repository's own file is one that can be read."""
    assert scanner.configured() == Database("publisher", 5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{database: db.tar.gz, maximum_age: 5}", "not publisher, an address or an absolute path"),
        ("{database: publisher, maximum_age: 0}", "not a number of days"),
    ],
)
def test_a_file_that_makes_no_sense(tmp_path: Path, text: str, says: str) -> None:
    """A path that means another file on each machine, or an age that nothing has, fails the check by its name."""
    (tmp_path / "vulnerabilities.yaml").write_text(text)
    with pytest.raises(AssertionError, match=says):
        scanner.configured(tmp_path / "vulnerabilities.yaml")
