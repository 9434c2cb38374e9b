"""Every view of the page: accessible and within its width on all screens and in both themes, and without the syntax of Python."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

import noisybench
from noisybench.leaderboard.board import build_board
from noisybench.leaderboard.measurement_tables import builtin_measurements
from noisybench.leaderboard.page import project_links, to_html
from noisybench.leaderboard.rounding import fixed
from noisybench.leaderboard.setting_scores import RANKING_RULES
from noisybench.leaderboard.table import build_settings
from tests.browser import assert_accessible, watched

WIDTHS = (1440, 1024, 390)
VIEWS = {
    "site": ("answer", "boards", "boards&rule=noisy_val", "across", "stress", "guide"),
    "shipped_site": (
        "answer", "boards", "across", "methods", "methods&all=1", "methods&card=elr", "methods&card=el2n",
        "methods&card=human", "methods&card=cifar10", "methods&card=metric%3Across_entropy", "entries", "published", "excluded",
    ),
}  # fmt: skip
CASES = [(site, view) for site, views in VIEWS.items() for view in views]
MAX_UNFOLDED = 3
"""Folded parts of a view that are opened; the others are like them."""
MAX_ROWS = 20
"""Rows of a table in which accessibility is checked, evenly spaced; the others are like them."""


def opened(page: Page, address: str) -> None:
    """Show a view as if the page had just been opened there, with its first folded parts unfolded."""
    page.goto("about:blank")
    page.goto(address)
    page.locator("main > section:visible > *").first.wait_for(state="attached")
    page.evaluate(
        "count => [...document.querySelectorAll('main > section:not([hidden]) details:not([open])')].slice(0, count)"
        ".forEach(each => { each.open = true; })",
        MAX_UNFOLDED,
    )


def thin_out_tables(page: Page) -> None:
    """Remove most rows of long tables."""
    page.evaluate(
        "count => document.querySelectorAll('tbody').forEach(({ rows }) => { const step = Math.ceil(rows.length / count);"
        " [...rows].filter((_, place) => place % step).forEach(row => row.remove()); })",
        MAX_ROWS,
    )


@pytest.mark.parametrize(("site_name", "view"), CASES)
def test_a_view_is_accessible_and_fits(
    browser: Browser, request: pytest.FixtureRequest, site_name: str, view: str
) -> None:
    site = request.getfixturevalue(site_name)
    with watched(browser) as page:
        for width in WIDTHS:
            page.emulate_media(color_scheme="light", reduced_motion="reduce")
            page.set_viewport_size({"width": width, "height": 900})
            opened(page, f"{site}#view={view}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            thin_out_tables(page)
            assert_accessible(page)
            # The themes differ in their colors alone, so the page need not be opened again.
            page.emulate_media(color_scheme="dark", reduced_motion="reduce")
            assert_accessible(page, ["color-contrast"])
        assert page.evaluate("document.getAnimations().length") == 0, "nothing moves"


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light")])
def test_dialogs_and_an_empty_board_are_accessible(
    browser: Browser, site: str, tmp_path_factory: pytest.TempPathFactory, width: int, scheme: str
) -> None:
    with watched(browser, width) as page:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        page.goto(f"{site}#view=boards")
        page.get_by_role("button", name="Export table").first.click()
        assert_accessible(page)
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Cite", exact=True).click()
        assert_accessible(page)
        empty = tmp_path_factory.mktemp("empty") / "index.html"
        empty.write_text(to_html(build_board([])), encoding="utf-8")
        page.goto(empty.as_uri())
        assert_accessible(page)


PYTHON = re.compile(
    r"""
    \w\(\w+=          # parameters of a call
    | \b(True|False|None)\b
    | [\[{(]'         # lists, mappings and tuples of texts
    | '[\]})]
    | '\w+':\s        # keys of mappings
    | `               # marks of code
    """,
    re.VERBOSE,
)
"""Traces of Python values in texts for people."""


@pytest.mark.parametrize(("site_name", "view"), [*CASES, ("shipped_site", "stress")])
def test_no_text_is_in_the_syntax_of_python(
    browser: Browser, request: pytest.FixtureRequest, site_name: str, view: str
) -> None:
    site = request.getfixturevalue(site_name)
    with watched(browser) as page:
        opened(page, f"{site}#view={view}")
        # Code is what people type, and the claims of entries are theirs.
        found = page.evaluate(
            """() => {
              const root = document.querySelector("main > section:not([hidden])"), texts = [];
              const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
              while (walker.nextNode()) {
                const parent = walker.currentNode.parentElement;
                if (!parent.closest("code, .formula, script, svg title")) texts.push(walker.currentNode.data);
              }
              return texts;
            }"""
        )
    assert len(found) > 1
    assert [text for text in found if PYTHON.search(text) and "onerror" not in text] == []


def test_numbers_are_rounded_as_in_the_terminal(browser: Browser, shipped_site: str) -> None:
    ties = [(place / 16, digits) for place in range(-40, 1640, 3) for digits in range(4)]
    scores = [
        (row.stack, rule, fixed(summary.mean, 1, 100))
        for setting in build_settings(builtin_measurements())
        for row in setting.rows
        for rule in RANKING_RULES
        if (summary := row.scores[rule]) is not None
    ]
    with watched(browser) as page:
        page.goto(shipped_site)
        shown = page.evaluate("cases => cases.map(([value, digits]) => fixed(value, digits))", ties)
        texts = page.evaluate(
            """() => board.settings.flatMap(({ scores }) => Object.entries(scores).flatMap(([stack, byRule]) =>
              byRule.flatMap((score, i) => score ? [[stack, rules[i], inPoints(score[0])]] : [])))"""
        )
    # A negative number that is shown as zero has no sign.
    assert shown == [f"{round(value, digits) + 0.0:.{digits}f}" for value, digits in ties]
    assert sorted(map(tuple, texts)) == sorted(scores)


def test_the_links_of_the_page_are_those_of_the_package(tmp_path: Path) -> None:
    package = tmp_path / "noisybench-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: noisybench\nVersion: 1\nHome-page: https://noisy.example\n"
        "Project-URL: Documentation, https://noisy.example/docs/\nProject-URL: Mail, mailto:a@noisy.example\n"
        "Project-URL: Script, javascript:alert(1)\n"
    )
    links = [("Home page", "https://noisy.example"), ("Documentation", "https://noisy.example/docs/")]
    assert project_links(importlib.metadata.Distribution.at(package).metadata) == links
    # Without an address, the page has no link in its place.
    (package / "METADATA").write_text("Metadata-Version: 2.4\nName: noisybench\nVersion: 1\n")
    assert project_links(importlib.metadata.Distribution.at(package).metadata) == []
    footer = to_html(build_board([])).partition("<footer>")[2].partition("</footer>")[0]
    assert f"<span>noisybench {noisybench.__version__}</span>" in footer
    assert "license Apache-2.0" in footer
    assert footer.count("<a ") == len(project_links(importlib.metadata.metadata("noisybench")))
