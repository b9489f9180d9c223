"""Security: what is in the image, and whether the world knows something bad about it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from e2e.suites.outcome import unknown
from e2e.suites.security import sbom, scanner
from e2e.suites.security.asked import Asked

SECONDS = 60


def test_sbom(asked: Asked, packages: dict[str, Any]) -> None:
    """The image has a signed bill of materials, and every package that is really in there is on it."""
    bill = asked.bill.result()
    assert packages["python"]
    missing = [
        *_missing(packages["debian"], sbom.names(bill, "deb")),
        *_missing(packages["python"], sbom.names(bill, "pypi")),
    ]
    assert not missing, f"not on it: {', '.join(missing)}"


def test_no_pip(packages: dict[str, Any]) -> None:
    """No python3 of the image can install a package: neither the service's nor the one that came with the image."""
    left = {path: names for path, names in packages["installers"].items() if names}
    assert packages["installers"]
    assert not left, "; ".join(f"{path} has {', '.join(names)}" for path, names in left.items())


def test_debian_updates(asked: Asked) -> None:
    """No Debian package in the image waits for a security update."""
    pending = asked.updates.result()
    assert not pending, f"{len(pending)} wait, a new build takes them in: {', '.join(pending)}"


def test_python_advisories(packages: dict[str, Any], tmp_path: Path) -> None:
    """No Python package in the image has a known vulnerability."""
    program = scanner.program("pip-audit")
    if not program:
        unknown("pip-audit is not installed")
    listed = tmp_path / "requirements.txt"
    listed.write_text("".join(f"{name}=={version}\n" for name, version in packages["python"].items()))
    options = ("--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json", "--timeout=5")
    found = _json(program, *options, "--requirement", str(listed))
    audited = found["dependencies"]
    vulnerable = [f"{one['name']} {one['version']}" for one in audited if one.get("vulns")]
    assert not vulnerable, ", ".join(vulnerable)
    skipped = [one["name"] for one in audited if "skip_reason" in one]
    if skipped:
        unknown(f"the advisories know nothing of {len(skipped)} of {len(audited)} packages: {skipped[0]}, …")
    assert {_canonical(one["name"]) for one in audited} == {_canonical(name) for name in packages["python"]}


def test_vulnerability_scan(asked: Asked, tmp_path: Path) -> None:
    """A vulnerability scanner finds nothing high or critical in the image that has a fix."""
    grype, trivy = scanner.program("grype"), scanner.program("trivy")
    database = scanner.configured()
    if grype:
        about = scanner.scan(grype, asked.bill.result(), database, tmp_path)
    elif trivy and database.source == "publisher":
        file = tmp_path / "sbom.json"
        file.write_text(json.dumps(asked.bill.result()), encoding="utf-8")
        found = _json(trivy, "sbom", "--quiet", "--ignore-unfixed", "--format=json", str(file))
        listed = [one for part in found.get("Results", []) for one in part.get("Vulnerabilities", [])]
        about = [(one["VulnerabilityID"], one["Severity"]) for one in listed]
    else:
        unknown("grype is not installed" if trivy else "neither grype nor trivy is installed")
    bad = [f"{name} ({severity})" for name, severity in about if severity in ("HIGH", "CRITICAL")]
    assert not bad, ", ".join(bad)


def _missing(there: dict[str, str], listed: dict[str, str]) -> list[str]:
    known = {(_canonical(name), version) for name, version in listed.items()}
    return [
        f"{name} {version}" for name, version in there.items() if (_canonical(name), version) not in known
    ]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _json(program: str, *arguments: str) -> Any:
    """What a scanner found. It exits non-zero for findings too, so only its JSON counts."""
    name = Path(program).name
    try:
        done = subprocess.run(
            [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
        )
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        unknown(f"{name} did not end within {SECONDS} s: is its database to be had?")
    except ValueError:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        unknown(f"{name} found no answer (is its database to be had?): {said[:200]}")
