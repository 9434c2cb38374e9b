"""The page of noisy traces in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from noisybench.utils.pages.rendering import render_page
from tests.browser import assert_accessible, chromium, watched

EVIL = "</td><script>alert(1)</script>"


def test_the_page_is_accessible_and_fits(tmp_path: Path) -> None:
    observed = [("4", "corrupted"), (" so 9", "propagated"), (EVIL, "correct")]
    traces: list[dict[str, Any]] = [
        {"prompt": "1 + 2 =", "clean": "3" * 200, "observed": observed},
        {"prompt": "2 + 2 =", "clean": "4", "observed": []},
    ]
    file = tmp_path / "traces.html"
    page_text = render_page("noisybench.plots", "traces.html", styles=("traces.css",), title=EVIL, traces=traces)
    file.write_text(page_text, encoding="utf-8")
    with chromium() as browser, watched(browser) as page:
        for width in (1440, 1024, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(file.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.emulate_media(color_scheme="light")
            assert_accessible(page)
            page.emulate_media(color_scheme="dark")
            assert_accessible(page, ["color-contrast"])
        expect(page.locator("tbody td").nth(2)).to_have_text(f"4 so 9{EVIL}", use_inner_text=True)
        expect(page.locator("tbody mark")).to_have_text(["4", " so 9"], use_inner_text=True)
        expect(page.locator("tbody i")).to_have_text("cut", use_inner_text=True)


@pytest.mark.fast
def test_the_page_runs_no_script() -> None:
    page = render_page("noisybench.plots", "traces.html", styles=("traces.css",), title="t", traces=[])
    assert "default-src 'none'" in page
    assert "<script" not in page
