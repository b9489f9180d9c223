"""A person's look at the report: Debian's Chromium at two widths, dark and light, with axe beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")  # as Debian, Ubuntu and Google call it
PACKAGES = ("chromium", "fonts-dejavu-core")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window; installed first where that is ours to do, else the test is skipped."""
    program = _program()
    # Its sandbox takes no root.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, url: str, width: int, scheme: str = "light") -> Iterator[tuple[Page, list[str]]]:
    """A page in a window so wide, in a scheme, and what the browser has against it while it is open."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda said: faults.append(f"{said.type}: {said.text}"))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(f"{request.url}: {request.failure}"))
    page.goto(url)
    yield page, faults
    context.close()


def look(browser: Browser, url: str, shots: Path, name: str) -> list[str]:
    """Look at a page at each width and in each scheme, folded and unfolded; a picture of each, and all faults found."""
    found = []
    for width in WIDTHS:
        for scheme in SCHEMES:
            with opened(browser, url, width, scheme) as (page, faults):
                page.screenshot(path=shots / f"{name}-{width}-{scheme}.png", full_page=True)
                faults += [*violations(page), *_overflows(page)]
                for one in page.locator("summary").all():
                    one.click()
                page.screenshot(path=shots / f"{name}-{width}-{scheme}-unfolded.png", full_page=True)
                faults += [*violations(page), *_overflows(page)]
                found += [f"{width} {scheme}: {fault}" for fault in faults]
    return found


def violations(page: Page) -> list[str]:
    """What axe finds: roles, names, contrast, keyboard."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for one in found
        for node in one["nodes"]
    ]


def folds_by_keyboard(page: Page) -> list[str]:
    """The folds that Tab reaches and Enter unfolds, in the order in which it does; each one is in sight then."""
    found: list[str] = []
    for _ in range(500):
        page.keyboard.press("Tab")
        at = page.evaluate("document.activeElement.tagName")
        if at == "BODY":
            return found
        name = page.evaluate("document.activeElement.id")
        seen = page.evaluate(
            "() => { const box = document.activeElement.getBoundingClientRect();"
            " return box.bottom > 0 && box.top < innerHeight && box.width > 0; }"
        )
        assert seen, f"{at} {name} has the focus, and is out of sight"
        if at == "SUMMARY":
            found.append(name)
            page.keyboard.press("Enter")
    raise AssertionError("Tab never leaves the page")


def _overflows(page: Page) -> list[str]:
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [f"the page is {wide} pixels wider than its window"] if wide > 0 else []


def _program() -> str:
    if found := next(filter(None, map(shutil.which, PROGRAMS)), None):
        return found
    try:
        from local import host
    except ModuleNotFoundError:  # scripts/local was deleted
        pytest.skip("no chromium on PATH")
    if lack := host.cannot_install():
        pytest.skip(f"no chromium on PATH, and it cannot be installed from here: {lack}")
    host.install(*PACKAGES)
    return shutil.which("chromium") or pytest.fail("chromium was installed, and is not on PATH")
