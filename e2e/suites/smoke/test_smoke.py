"""Smoke: the right build is up, where users look for it, and ready for orders."""

import re

import httpx

from delivery.proof.decide import runs
from e2e.suites.target import Target, name, ready


def test_starts(http: httpx.Client) -> None:
    """The service is up and says so."""
    answer = http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_right_port(http: httpx.Client, target: Target) -> None:
    """The environment's port leads to this environment and to no other."""
    assert http.get("/version").json()["environment"] == target.environment.name


def test_right_version(http: httpx.Client, target: Target) -> None:
    """The build that answers is the one that Git asks for, by build number, version and commit."""
    wanted = target.wanted
    said = http.get("/version").json()
    assert said["build"] == wanted.tag == wanted.image.build
    assert said["version"] == wanted.image.version
    assert said["revision"] == wanted.image.revision
    assert re.fullmatch("[0-9a-f]{40}", said["revision"])


def test_every_replica_runs_the_digest(target: Target) -> None:
    """Every replica is Ready and runs the digest that Git asks for, by what its node says."""
    wanted = f"{target.context.site.image.name}@{target.wanted.digest}"
    for pod in target.app_pods():
        assert ready(pod), f"{name(pod)} is not Ready"
        for status in pod["status"]["containerStatuses"]:
            assert runs(status["imageID"], wanted, target.wanted.image.children), name(pod)


def test_migrations_current(http: httpx.Client) -> None:
    """The database is there with the schema that this build needs."""
    answer = http.get("/readyz")
    assert answer.status_code == 200, answer.text
    assert re.fullmatch("[0-9]{4}", answer.json()["schema"])


def test_page(http: httpx.Client, target: Target) -> None:
    """The page shows people where they are, which build that is, and that all it needs is reachable."""
    answer = http.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = " ".join(answer.text.split())
    assert f"<title>manual-app · {target.environment.name}</title>" in page
    assert f"<dt>Build</dt><dd>{target.wanted.tag}</dd>" in page
    assert "<dt>Database</dt><dd>reachable</dd>" in page
    assert "<dt>Exchange rates</dt><dd>reachable</dd>" in page


def test_closed(http: httpx.Client) -> None:
    """Who just comes along reads neither orders nor metrics."""
    assert http.get("/orders").status_code == 401
    assert http.get("/orders/1").status_code == 401
    assert http.get("/metrics").status_code == 404
