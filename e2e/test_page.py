"""The page that people look at, in a real browser: the live pipeline as a picture, and kept live."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from e2e.conftest import ROOT, Build
from e2e.delivery import Checkout
from scripts.tests import browser as looking

# A shell starts what is to run in the background deaf to Ctrl-C, and all that it starts, this test among it.
_HEARS = """import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
SECONDS = 120  # for a look at the whole platform on a busy machine


@pytest.fixture(scope="session")
def shots() -> Path:
    """Where pictures of the page stay, for people to look at."""
    folder = ROOT / ".ci" / "logs" / "page"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_the_report_shows_the_live_pipeline(
    platform: Checkout, prod: Build, shots: Path, tmp_path: Path
) -> None:
    """Wide or narrow, dark or light: each environment with its build, its proof and its tests, and nothing for axe."""
    file = tmp_path / "report.html"
    platform.delivery("report", "--output", str(file))
    with looking.chromium() as browser:
        assert looking.look(browser, file.as_uri(), shots, "report") == []
        with looking.opened(browser, file.as_uri(), 1280) as (page, faults):
            expect(page.locator("h1")).to_contain_text("PROVEN")
            columns = page.locator(".environment")
            expect(columns).to_have_count(len(platform.environments()))
            for column in columns.all():
                expect(column).to_contain_text(f"build {prod.number}")
                expect(column).to_contain_text(prod.digest.removeprefix("sha256:")[:12])
            expect(page.locator(".gate")).to_have_count(len(platform.environments()) - 1)
            expect(page.locator(".leads")).to_contain_text(f"build {prod.number}")
            histogram = page.locator("figure").first  # of stage's load test
            expect(histogram.locator(".bar").first).to_be_visible()
            expect(histogram).to_contain_text("threshold")
            folds = [one.get_attribute("id") for one in page.locator("summary").all()]
            assert looking.folds_by_keyboard(page) == folds
            for environment in platform.environments():
                expect(page.locator(f"#proof-{environment.name}")).to_contain_text(prod.digest)
            assert faults == []


def test_the_page_is_kept_live(platform: Checkout, prod: Build, shots: Path) -> None:
    """The page is open while dev is tested: the new evidence is there without a reload; Ctrl-C ends it well."""
    dev = platform.environments()[0].name
    with (
        _serving(platform) as (url, server),
        looking.chromium() as browser,
        looking.opened(browser, url, 1280) as (page, faults),
    ):
        expect(page.get_by_role("status")).to_have_text("Live.", timeout=SECONDS * 1000)
        expect(page.locator("h1")).to_contain_text("PROVEN", timeout=SECONDS * 1000)
        page.locator(f"#proof-{dev}-summary").click()
        tested = platform.delivery("test", dev, "--format", "json").json
        fold = page.locator(f"#proof-{dev}[open]")
        expect(fold).to_contain_text(f"sha256:{tested['evidence']}", timeout=SECONDS * 1000)
        assert looking.violations(page) == []
        page.screenshot(path=shots / "live-1280-light.png", full_page=True)
        assert faults == []
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
        expect(page.get_by_role("status")).to_contain_text("nothing of it is proven now")


@contextmanager
def _serving(platform: Checkout) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The address of `delivery report --serve`, and its process, which is gone afterwards."""
    program = str(Path(sys.executable).with_name("delivery"))
    with subprocess.Popen(
        [sys.executable, "-c", _HEARS, program, "report", "--serve"],
        cwd=platform.path,
        env={**os.environ, "DELIVERY_SITE": platform.site},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout
            line = server.stdout.readline()
            assert line.startswith("the page: http://127.0.0.1:"), line
            yield line.split()[2], server
        finally:
            server.kill()
