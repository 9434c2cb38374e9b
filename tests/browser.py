"""A real browser for tests."""

from __future__ import annotations

import importlib.resources
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

# A busy machine needs seconds for what takes a moment otherwise.
expect.set_options(timeout=30_000)

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium of the system while inside; the test is skipped where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs a browser: none of {', '.join(NAMES)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def watched(browser: Browser, width: int = 1300, height: int = 900) -> Iterator[Page]:
    """A page of which nothing may go wrong in the console, and nothing may be loaded from elsewhere."""
    page, wrong = browser.new_page(viewport={"width": width, "height": height}), list[str]()
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    yield page
    page.close()
    assert not wrong, wrong


def assert_accessible(page: Page, rules: Sequence[str] = ()) -> None:
    """What is shown has no violation that axe finds, of all its rules or some."""
    axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    if not page.evaluate("'axe' in window"):
        page.evaluate((importlib.resources.files(axe) / "axe.min.js").read_text(encoding="utf-8"))
    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    found = page.evaluate("options => axe.run(options)", options)["violations"]
    assert not found, [(each["id"], [node["html"] for node in each["nodes"][:3]]) for each in found]
