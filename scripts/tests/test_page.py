"""The report as a page: it says what the document says, and nothing that anybody wrote becomes markup."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from delivery.show import page

DIGEST = f"sha256:{'a' * 64}"


def document(**changes: Any) -> dict[str, Any]:
    """One environment, proven and tested, and the commit that asked for it."""
    container = {
        "name": "manual-app",
        "image": f"registry.local:5000/manual-app@{DIGEST}",
        "image_id": f"registry.local:5000/manual-app@{DIGEST}",
        "state": "running",
    }
    environment = {
        "environment": "dev",
        "verdict": "PROVEN",
        "mismatches": [],
        "unknowns": [],
        "notes": ["dev stands on " + "c" * 40],
        "desired": {
            "commit": "c" * 40,
            "image": f"registry.local:5000/manual-app@{DIGEST}",
            "digest": DIGEST,
            "build": "15",
            "replicas": 1,
        },
        "revision": "d" * 40,
        "argocd": {"sync": "Synced", "health": "Healthy", "revision": "c" * 40},
        "pods": [
            {
                "name": "manual-app-1",
                "ready": True,
                "job": False,
                "terminating": False,
                "containers": [container],
            }
        ],
        "answers": {"manual-app-1": {"build": "15", "environment": "dev"}},
    }
    newest = {
        "result": "PASSED",
        "suites": {"smoke": "PASSED"},
        "excused": [],
        "reasons": [],
        "finished": "2026-11-23T22:00:00+00:00",
        "hash": "e" * 64,
        "measurements": [],
        "unread": None,
    }
    change = {
        "date": "2026-11-23T21:30:00+00:00",
        "author": "Ada",
        "reason": "",
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
        "lead_times": [lead("dev", 600)],
    } | changes


def lead(environment: str, seconds: float | None, build: str = "15") -> dict[str, Any]:
    """How long a build took into an environment."""
    entered = "2026-11-23T21:30:00+00:00"
    return {
        "build": build,
        "environment": environment,
        "digest": DIGEST,
        "entered": entered,
        "seconds": seconds,
    }


def measured(**changes: Any) -> dict[str, Any]:
    """What a load test measured."""
    buckets = [{"upper": 10.0, "count": 3}, {"upper": 100.0, "count": 1}, {"upper": None, "count": 0}]
    return {
        "suite": "performance",
        "name": "GET /orders",
        "statistic": "p95",
        "unit": "ms",
        "value": 42.0,
        "at_most": 1000.0,
        "at_least": None,
        "buckets": buckets,
        "holds": True,
    } | changes


def following(**changes: Any) -> dict[str, Any]:
    """What an environment could take next."""
    return {
        "environment": "stage",
        "digest": DIGEST,
        "build": "15",
        "new": True,
        "allowed": False,
        "reasons": ["dev has no evidence"],
    } | changes


def two(**changes: Any) -> dict[str, Any]:
    """dev, and stage behind a gate that says so."""
    said = document()
    stage = said["environments"][0] | {"environment": "stage"}
    return said | {"environments": [*said["environments"], stage], "next": [following(**changes)]}


def gate(text: str) -> str:
    """What stands between dev and stage, as a reader hears it."""
    [found] = re.findall(r'<li class="gate.*?\n</li>', text, re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", found).split())


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


class Read(HTMLParser):
    """The tags and attributes that a browser would find."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"


def hostile() -> dict[str, Any]:
    """Everything that somebody else may write is markup: a pod's answer, a commit's author, reason and approver."""
    said = two(reasons=[HOSTILE])
    for one in said["environments"]:
        one |= {"mismatches": [HOSTILE], "unknowns": [HOSTILE], "notes": [HOSTILE]}
        one["answers"] = {"manual-app-1": {"error": HOSTILE}}
    said["changes"][0] |= dict.fromkeys(
        ("author", "requested_by", "reason", "approved_by", "date", "build", "evidence"), HOSTILE
    )
    said["tests"][0]["rejected"] = [HOSTILE]
    newest = said["tests"][0]["newest"]
    newest |= {"reasons": [HOSTILE], "suites": {HOSTILE: "PASSED"}, "unread": HOSTILE}
    newest["measurements"] = [
        measured(name=HOSTILE, statistic=HOSTILE, unit=HOSTILE),
        measured(buckets=[], name=HOSTILE),
    ]
    said["lead_times"] = [lead("dev", 600, build=HOSTILE)]
    return said


@pytest.mark.parametrize("make", [page.html, page.live, page.report])
def test_what_others_wrote_is_text(make: Callable[[Any], str]) -> None:
    """Nobody who writes a commit, a test or an answer can write on the page."""
    text = make(hostile())
    assert text.count("&lt;script&gt;") > 20
    read = Read()
    read.feed(text)
    assert "img" not in read.tags
    assert read.tags.count("script") == (make is page.live), "the page's own"
    assert not {name for name in read.attributes if name.startswith("on") or name == "style"}


@pytest.mark.parametrize("make", [page.html, page.live])
def test_the_page_lets_nothing_in(make: Callable[[Any], str]) -> None:
    """Its policy allows the very style and script that are in it, by their hashes, and nothing else."""
    text = make(document())
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    allowed = {
        kind: base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        for kind, inline in re.findall(r"<(style|script)>(.*?)</\1>", text, re.DOTALL)
    }
    assert set(allowed) == ({"style", "script"} if make is page.live else {"style"})
    for kind, told in allowed.items():
        assert f"{kind}-src 'sha256-{told}'" in policy
    assert ("script-src" in policy) == (make is page.live)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({}, "closed Build 15 lacks: dev has no evidence"),
        ({"allowed": True, "reasons": []}, "open Build 15 may enter: delivery promote stage"),
        ({"new": False}, "nothing new stage was asked for build 15 already."),
        ({"environment": "prod"}, "UNKNOWN What could enter is not known."),
    ],
)
def test_the_gate_says_what_is_missing(facts: dict[str, Any], says: str) -> None:
    """Between two environments I read whether the next one may take it, and what it lacks."""
    assert gate(page.html(two(**facts))).endswith(says)


def test_what_asked_for_something_else_is_not_since_when() -> None:
    """Git's newest change names another digest than what is asked now: since when this runs is not known."""
    said = document()
    assert "2026-11-23 21:30 UTC (30 min ago)" in page.report(said)
    said["changes"][0]["after"] = f"sha256:{'b' * 64}"
    assert "not known" in page.report(said)
    assert "30 min ago" not in page.report(said)


def test_only_the_apps_own_pods_are_counted_as_ready() -> None:
    """A database that is Ready makes no replica Ready; nor does one that is on its way out."""
    said = document()
    [pod] = said["environments"][0]["pods"]
    other = pod | {"name": "postgresql-0", "containers": [pod["containers"][0] | {"image": "other"}]}
    said["environments"][0]["pods"] = [pod | {"ready": False}, other, pod | {"terminating": True}]
    assert "0 of 1 ready" in page.html(said)


def test_what_was_measured_is_a_picture_and_a_table() -> None:
    """The load test's latencies: bars, the threshold, and the numbers for who cannot see them."""
    said = document()
    said["tests"][0]["newest"]["measurements"] = [
        measured(),
        measured(
            name="requests", statistic="", unit="1/s", value=9.5, at_most=None, at_least=20.0, holds=False
        )
        | {"buckets": []},
    ]
    text = page.html(said)
    assert text.count('class="bar"') == 2
    assert 'role="img" aria-labelledby="m-dev-1-t m-dev-1-d"' in text
    assert "threshold 1000 ms" in text
    assert "<td>over 10 to 100 ms</td><td>1</td>" in text
    assert "p95 42 ms, at most 1000 ms" in text
    [numbers] = re.findall(r'<ul class="numbers">.*?</ul>', text)
    assert re.sub(r"<[^>]+>", "", numbers) == "requests 9.5 per s, at least 20 per s ✕ FAILED"


def test_measurements_that_nobody_can_read_are_unknown() -> None:
    """The evidence counts all the same, and the page says that what it measured is not known."""
    said = document()
    said["tests"][0]["newest"]["unread"] = "measurements: 0.value: no number"
    assert "measurements: 0.value: no number" in page.html(said)


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
        document(
            verdict="UNKNOWN",
            one_digest=None,
            environments=[environment],
            tests=[],
            changes=[],
            lead_times=[],
        )
    )
    assert "the cluster is away" in text
    assert "PROVEN" not in text.partition("</style>")[2]


def test_half_a_page_is_no_page(tmp_path: Path) -> None:
    """When it cannot be written, the page of before stays, and nothing else is left."""
    file = tmp_path / "report.html"
    page.write(document(), file)
    assert file.read_text() == page.html(document())
    before = file.read_text()
    with pytest.raises(KeyError):
        page.write({"verdict": "PROVEN"}, file)
    assert file.read_text() == before
    assert list(tmp_path.iterdir()) == [file]
