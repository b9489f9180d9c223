"""The report as a page: it says what the document says, and nothing that a pod says becomes markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from delivery.show import page

DIGEST = f"sha256:{'a' * 64}"


def document(**changes: Any) -> dict[str, Any]:
    """One environment, proven and tested, and the commit that asked for it."""
    container = {
        "name": "manual-app",
        "image_id": f"registry.local:5000/manual-app@{DIGEST}",
        "state": "running",
    }
    environment = {
        "environment": "dev",
        "verdict": "PROVEN",
        "mismatches": [],
        "unknowns": [],
        "notes": [],
        "desired": {"commit": "c" * 40, "image": f"registry.local:5000/manual-app@{DIGEST}", "build": "15"},
        "revision": "d" * 40,
        "argocd": {"sync": "Synced", "health": "Healthy", "revision": "c" * 40},
        "pods": [{"name": "manual-app-1", "ready": True, "containers": [container]}],
        "answers": {"manual-app-1": {"build": "15", "environment": "dev"}},
    }
    newest = {
        "result": "PASSED",
        "suites": {"smoke": "PASSED"},
        "excused": [],
        "reasons": [],
        "finished": "2026-11-23T22:00:00+00:00",
        "hash": "e" * 64,
    }
    change = {
        "date": "2026-11-23",
        "environment": "dev",
        "build": "15",
        "after": DIGEST,
        "before": "none",
        "commit": "c" * 40,
        "evidence": "",
        "approved_by": "",
        "requested_by": "Ada",
    }
    return {
        "schema": "delivery/report/v2",
        "site": "team",
        "verdict": "PROVEN",
        "at": "2026-11-23T22:00:01+00:00",
        "one_digest": DIGEST,
        "environments": [environment],
        "next": [],
        "tests": [{"environment": "dev", "digest": DIGEST, "newest": newest, "rejected": [], "error": None}],
        "changes": [change],
    } | changes


def test_the_page_shows_what_was_read() -> None:
    """The verdict, each pod's own imageID, the signed evidence and who asked are on the page; nothing is fetched."""
    text = page.html(document())
    for shown in (
        "PROVEN",
        f"manual-app@{DIGEST}",
        "manual-app-1",
        f"sha256:{'e' * 64}",
        "Ada",
        "build 15 in dev",
    ):
        assert shown in text
    assert "://" not in text
    assert "src=" not in text
    assert "<link" not in text


def test_what_a_pod_says_is_text() -> None:
    """A pod that answers with markup cannot write on the page."""
    hostile = document()
    hostile["environments"][0]["mismatches"] = ["pod says <script>alert(1)</script>"]
    hostile["environments"][0]["answers"]["manual-app-1"] = {"error": "<img src=x onerror=alert(1)>"}
    text = page.html(hostile)
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "<img" not in text


def test_unknown_is_on_the_page() -> None:
    """What could not be read is said, and is no reason for having no page."""
    unread = {
        "desired": None,
        "argocd": None,
        "pods": None,
        "answers": {},
        "unknowns": ["the cluster is away"],
    }
    environment = document()["environments"][0] | unread | {"verdict": "UNKNOWN"}
    text = page.html(
        document(verdict="UNKNOWN", one_digest=None, environments=[environment], tests=[], changes=[])
    )
    assert "the cluster is away" in text
    assert "PROVEN" not in text.partition("</style>")[2]


def test_half_a_page_is_no_page(tmp_path: Path) -> None:
    """When it cannot be written, the page of before stays, and nothing else is left."""
    file = tmp_path / "report.html"
    page.write(document(), file)
    before = file.read_text()
    with pytest.raises(Exception, match="undefined"):
        page.write({"verdict": "PROVEN"}, file)
    assert file.read_text() == before
    assert list(tmp_path.iterdir()) == [file]
