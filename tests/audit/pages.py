"""Steps of a person on the page of an audit."""

from __future__ import annotations

import csv
import importlib.resources
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page

EVIL = '</script><img src=x onerror="alert(1)"><script>alert(2)</script>'


def names(page: Page) -> Locator:
    return page.locator(".card .name")


def downloaded(page: Page, columns: Sequence[str]) -> list[dict[str, str]]:
    with page.expect_download() as started:
        page.get_by_role("button", name="Download decisions.csv").click()
    assert started.value.suggested_filename == "decisions.csv"
    text = Path(started.value.path()).read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert text.splitlines()[0] == ",".join(columns)
    return rows


def load(page: Page, text: str) -> str:
    page.locator("#message").evaluate("node => node.textContent = ''")
    page.locator("#file").set_input_files({"name": "mine.csv", "mimeType": "text/csv", "buffer": text.encode()})
    page.locator("#message", has_text="mine.csv").wait_for()
    return page.locator("#message").inner_text()


def embedded(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="audit">(.*?)</script>', text, re.S)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


def load_axe(page: Page) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    page.evaluate((importlib.resources.files(axe) / "axe.min.js").read_text(encoding="utf-8"))


def violations(page: Page) -> list[tuple[str, str]]:
    found = page.evaluate("axe.run()")
    return [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]]
