"""The page as a browser shows it: at two widths, dark and light, by keyboard, and while the facts change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, expect

from delivery.build import image
from delivery.show import page, report, serve
from delivery.signed.measurements import Bucket, Measurement
from delivery.verbs import report as reporting
from scripts.tests import browser as looking
from scripts.tests.steps import deploy, promote, put
from scripts.tests.test_page import document as one_environment
from scripts.tests.test_page import hostile

if TYPE_CHECKING:
    from conftest import Shelf

    from scripts.tests.fake_cluster import FakeCluster

pytestmark = pytest.mark.slow

COUNTS = (0, 0, 3, 40, 160, 210, 120, 60, 22, 9, 4, 1, 0)
UPPERS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, None)
MEASURED = (
    Measurement(
        suite="performance",
        name="GET /orders",
        statistic="p95",
        unit="ms",
        value=28,
        at_most=1000,
        buckets=tuple(Bucket(upper=upper, count=n) for upper, n in zip(UPPERS, (*COUNTS, 0), strict=True)),
    ),
    Measurement(
        suite="performance",
        name="POST /orders <script>",
        statistic="p95",
        unit="ms",
        value=64,
        at_most=50,
        buckets=tuple(Bucket(upper=upper, count=n) for upper, n in zip(UPPERS, (0, *COUNTS), strict=True)),
    ),
    Measurement(suite="performance", name="failed requests", unit="1", value=0, at_most=0),
    Measurement(suite="performance", name="requests", unit="1/s", value=61.4, at_least=20),
)


@pytest.fixture
def document(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> dict[str, Any]:
    """Build 15 went all the way and was measured in stage; build 16 is in dev, and not yet tested there."""
    world = cluster.world
    deploy(cluster)
    promote(cluster, "stage")
    world.prove(world.context.environment("stage"), built.digest, measured=MEASURED)
    promote(cluster, "prod")
    world.prove(world.context.environment("stage"), built.digest, measured=MEASURED)
    world.git(world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    world.commit(world.checkout, "manual-app/app.py", "2\n", "two")
    put(cluster, shelf, "16")
    deploy(cluster)
    return report.report_document(world.context.site, reporting.report(world.context))


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Chromium. Playwright keeps an event loop running in this thread, so facts that need one are made before."""
    with looking.chromium() as started:
        yield started


def test_a_person_can_read_it(document: dict[str, Any], browser: Browser, tmp_path: Path) -> None:
    """Wide or narrow, dark or light, folded or not: nothing for axe or the console, and nothing leaves the window."""
    file = tmp_path / "report.html"
    page.write(document, file)
    assert looking.look(browser, file.as_uri(), tmp_path, "report") == []
    assert len(list(tmp_path.glob("report-*.png"))) == 8


def test_what_is_wrong_is_readable_too(browser: Browser, tmp_path: Path) -> None:
    """MISMATCH, UNKNOWN and markup that others wrote: shown as text, in colours that can be told and read."""
    said = hostile()
    said["verdict"] = said["environments"][0]["verdict"] = "MISMATCH"
    said["environments"][1]["verdict"] = "UNKNOWN"
    file = tmp_path / "report.html"
    page.write(said, file)
    assert looking.look(browser, file.as_uri(), tmp_path, "wrong") == []


def test_looking_finds_what_is_wrong(browser: Browser, tmp_path: Path) -> None:
    """The look itself is no rubber stamp: grey on grey, a script that fails and a page too wide are found."""
    file = tmp_path / "bad.html"
    file.write_text(
        '<!doctype html><html lang="en"><title>x</title><main><h1>x</h1>'
        '<p style="color: #999; background: #aaa; width: 5000px">grey</p><script>nothing()</script></main></html>'
    )
    found = "\n".join(looking.look(browser, file.as_uri(), tmp_path, "bad"))
    for fault in ("color-contrast", "nothing is not defined", "pixels wider than its window"):
        assert fault in found


def test_the_keyboard_reaches_everything(browser: Browser, tmp_path: Path) -> None:
    """Tab goes down the page from one fold to the next, where the eye sees it; Enter unfolds."""
    file = tmp_path / "report.html"
    page.write(hostile(), file)
    with looking.opened(browser, file.as_uri(), 1280) as (seen, faults):
        assert looking.folds_by_keyboard(seen) == [
            one.get_attribute("id") for one in seen.locator("summary").all()
        ]
        assert seen.locator("details:not([open])").count() == 0
        assert faults == []


def test_the_page_follows_while_it_is_open(browser: Browser) -> None:
    """What changes is there without a reload, and I keep my place; when the server ends, the page says so."""
    told = {"document": one_environment()}
    watch = serve.Watch(lambda: told["document"], one_environment(verdict="UNKNOWN"), every=0.1)
    with serve.Server(0, watch) as server:
        threads = [threading.Thread(target=run, daemon=True) for run in (watch.run, server.serve_forever)]
        for one in threads:
            one.start()
        with looking.opened(browser, server.url, 390) as (seen, faults):
            expect(seen.get_by_role("status")).to_have_text("Live.")
            expect(seen.locator("h1")).to_contain_text("PROVEN")
            seen.locator("#proof-dev-summary").click()
            told["document"] = one_environment(verdict="MISMATCH")
            expect(seen.locator("h1")).to_contain_text("MISMATCH")
            expect(seen).to_have_title("MISMATCH: team")
            assert seen.locator("#proof-dev[open]").count() == 1
            assert seen.evaluate("document.activeElement.id") == "proof-dev-summary"
            told["document"] = hostile()
            expect(seen.locator("h1")).to_contain_text("PROVEN")
            assert seen.locator("main script, main img").count() == 0
            assert faults == []
            watch.stop()
            server.shutdown()
            server.server_close()
            expect(seen.get_by_role("status")).to_contain_text("nothing of it is proven now")
