"""The page of an audit of masks in a real browser: overlays, decisions, and tables that give the masks back."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect

from noisybench.audit.masks import page as mask_page
from noisybench.audit.masks.confident import score_masks
from noisybench.audit.masks.inputs import MaskAuditInput
from noisybench.audit.masks.page import DECISION_COLUMNS
from noisybench.audit.masks.report import MaskAuditReport, page
from noisybench.config.resolve import resolve
from noisybench.data.masks.packed import mask_digest, unpack_mask
from noisybench.data.targets import IGNORED
from tests.audit import pages
from tests.audit.pages import EVIL, embedded, load, load_axe, names, violations
from tests.browser import watched

CLASSES = ("background", "=square", EVIL)
NUM_IMAGES, NUM_MISSING, HEIGHT, WIDTH = 20, 6, 12, 16


def audited(title: str = "photographs") -> MaskAuditReport:
    """Return an audit in which the masks of the first images lack a square, the first one the largest.

    The predictions have all squares; the last two images have no suspicious pixel.
    """
    clean = np.zeros((NUM_IMAGES, HEIGHT, WIDTH), dtype=np.uint8)
    for number, mask in enumerate(clean):
        mask[2 : 10 - number % 7, 3 : 12 - number % 7] = 1 + number % 2
    clean[:, :, 0] = IGNORED
    observed = clean.copy()
    observed[:NUM_MISSING][clean[:NUM_MISSING] != IGNORED] = 0
    probabilities = np.full((NUM_IMAGES, 3, HEIGHT, WIDTH), 0.05, dtype=np.float32)
    for label in range(3):
        probabilities[:, label][clean == label] = 0.9
    images: Any = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 3, HEIGHT, WIDTH), dtype=np.uint8)
    splits = tuple("test" if number % 3 == 2 else "train" for number in range(NUM_IMAGES))
    files = tuple(f"p{number:02}" for number in range(NUM_IMAGES))
    data = MaskAuditInput(
        title, resolve({}), images, observed, None, 100 + np.arange(NUM_IMAGES), files, splits, CLASSES, True, ()
    )
    scores = score_masks(observed, lambda: iter([(np.arange(NUM_IMAGES), probabilities)]), 3)
    assert scores.ranking[:NUM_MISSING].tolist() == sorted(range(NUM_MISSING))
    assert np.flatnonzero(scores.suspect.any((1, 2))).tolist() == list(range(NUM_MISSING))
    return MaskAuditReport(data, scores, "2 networks")


def written(folder: Path, report: MaskAuditReport) -> str:
    file = folder / "report.html"
    file.write_text(page(report), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("report"), audited())


def downloaded(tab: Page) -> list[dict[str, str]]:
    return pages.downloaded(tab, DECISION_COLUMNS)


def suspects(report: MaskAuditReport) -> list[str]:
    return [report.data.files[row] for row in report.scores.ranking[:NUM_MISSING].tolist()]


def test_masks_are_listed_filtered_and_sorted(browser: Browser, report: str) -> None:
    expected = suspects(audited())
    with watched(browser) as tab:
        tab.goto(report)
        expect(names(tab), "the most suspicious first, and none without a suspicious pixel").to_have_text(
            expected, use_inner_text=True
        )
        tab.locator("#sort").select_option("suspects")
        expect(names(tab), "the largest square is missing in the first image").to_have_text(
            sorted(expected), use_inner_text=True
        )
        tab.locator("#sort").select_option("rank")
        tab.locator("#split").select_option(label="test")
        expect(names(tab)).to_have_text([name for name in expected if name in ("p02", "p05")], use_inner_text=True)
        tab.locator("#split").select_option("any")
        expect(tab.locator("#class option")).to_have_text(
            ["any class", f"background ({NUM_MISSING})"], use_inner_text=True
        )
        tab.locator("#find").fill("p03")
        expect(names(tab)).to_have_text(["p03"], use_inner_text=True)
        tiles = tab.locator(".tiles .value").all_inner_texts()
        assert tiles[0] == str(NUM_IMAGES)
        assert tiles[3] == str(NUM_MISSING)
        cells = tab.locator("#classes tbody tr").nth(0).locator("td, th").all_inner_texts()
        assert cells[1] == "background"
        assert cells[-1] in CLASSES[1:], "the class that is suggested most often"


def expect_visible(tab: Page, where: str, *layers: str) -> None:
    """Wait until the photograph and these layers of its masks are what is visible."""
    expect(tab.locator(f"{where} img").filter(visible=True)).to_have_class(["", *layers])


def test_overlays_change_by_pointer_and_keyboard(browser: Browser, report: str) -> None:
    with watched(browser) as tab:
        tab.goto(report)
        first = ".card[data-position='0']"
        expect_visible(tab, first, "layer difference")
        tab.locator("#tool .views").get_by_role("button", name="given").click()
        expect_visible(tab, first, "layer given")
        expect(tab.locator("#tool [aria-pressed=true]")).to_have_text(re.compile("^given"), use_inner_text=True)
        tab.keyboard.press("2")
        expect_visible(tab, first, "layer predicted")
        tab.keyboard.press("4")
        expect_visible(tab, first)
        tab.keyboard.press("v")
        expect_visible(tab, first, "layer given")
        tab.locator(first).press("Enter")
        tab.keyboard.press("3")
        expect_visible(tab, "#picture", "layer difference")
        boxes = tab.locator("#picture img").evaluate_all(
            "images => images.filter(image => image.checkVisibility()).map(image => image.getBoundingClientRect().toJSON())"
        )
        assert boxes[0] == boxes[1], "the mask lies exactly over the photograph"
        expect(tab.locator("#facts"), "scores of each class").to_contain_text("of the image", use_inner_text=True)
        tab.locator("#larger .views").get_by_role("button", name="predicted").click()
        expect_visible(tab, "#picture", "layer predicted")


def pixels(tab: Page, layer: str) -> NDArray[np.uint8]:
    """Return the (H, W, 4) pixels of a layer of the first card, as the browser decodes them."""
    values = tab.locator(f".card[data-position='0'] .{layer}").evaluate(
        """image => {
            const canvas = document.createElement("canvas"), size = [image.naturalWidth, image.naturalHeight];
            [canvas.width, canvas.height] = size;
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            return [...context.getImageData(0, 0, ...size).data];
        }"""
    )
    return np.array(values, dtype=np.uint8).reshape(HEIGHT, WIDTH, 4)


def test_the_difference_shows_what_is_suspicious(browser: Browser, report: str) -> None:
    audit = audited()
    row = int(audit.scores.ranking[0])
    with watched(browser) as tab:
        tab.goto(report)
        shown = pixels(tab, "difference")
        differs = audit.scores.labeled[row] & (audit.scores.suggested[row] != audit.data.masks[row])
        assert np.array_equal(shown[..., 3] > 0, differs)
        assert np.array_equal((shown[..., 0] == 230) & (shown[..., 3] == 255), audit.scores.suspect[row])
        given = pixels(tab, "given")
        assert np.array_equal(given[..., 3] == 0, audit.data.masks[row] == IGNORED), "no color without a label"


def test_decisions_by_keyboard_give_the_masks_back(browser: Browser, report: str) -> None:
    audit = audited()
    rows = audit.scores.ranking[:4].tolist()
    with watched(browser) as tab:
        tab.goto(report)
        for key in "akxu":
            tab.keyboard.press(key)
        expect(tab.locator("#decided")).to_have_text(f"4 of {NUM_MISSING}", use_inner_text=True)
        tab.keyboard.press("a")
        tab.keyboard.press("z")
        tab.reload()
        expect(tab.locator("#decided"), "kept in the browser").to_have_text(f"4 of {NUM_MISSING}", use_inner_text=True)
        found = downloaded(tab)
    assert [line["decision"] for line in found] == ["accept", "keep", "exclude", "unsure"]
    for row, line in zip(rows, found, strict=True):
        assert (line["index"], line["file"]) == (str(100 + row), audit.data.files[row])
        assert line["given"] == mask_digest(audit.data.masks[row])
    mask = unpack_mask(found[0]["new_mask"], (HEIGHT, WIDTH))
    labeled = audit.scores.labeled[rows[0]]
    assert np.array_equal(mask[labeled], audit.scores.suggested[rows[0]][labeled])
    assert (mask[~labeled] == IGNORED).all()
    assert not any(line["new_mask"] for line in found[1:])


def test_a_table_of_decisions_is_loaded_again(browser: Browser, report: str) -> None:
    with watched(browser) as tab:
        tab.goto(report)
        tab.keyboard.press("a")
        tab.keyboard.press("x")
        saved = downloaded(tab)
    text = io.StringIO()
    writer = csv.DictWriter(text, DECISION_COLUMNS)
    writer.writeheader()
    writer.writerows(saved)
    with watched(browser) as tab:
        tab.goto(report)
        assert load(tab, text.getvalue()) == "mine.csv: 2 decisions loaded."
        assert downloaded(tab) == saved


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{index},relabel,,", "decision “relabel” is none of accept, keep, exclude, unsure"),
        ("{index},keep,,AAAA", "keep contradicts new_mask"),
        ("{index},accept,,AAAA", "new_mask is not the predicted mask of this audit"),
        ("{index},exclude,0123,", "the table belongs to other data"),
    ],
)
def test_a_table_with_an_error_changes_nothing(browser: Browser, report: str, line: str, message: str) -> None:
    index = 100 + int(audited().scores.ranking[0])
    with watched(browser) as tab:
        tab.goto(report)
        shown = load(tab, "index,decision,given,new_mask\n" + line.format(index=index))
        assert "was not loaded, and nothing has changed" in shown
        assert message in shown
        expect(tab.locator("#decided")).to_have_text(f"0 of {NUM_MISSING}", use_inner_text=True)


def test_the_page_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    full = embedded(page(audited()))
    size = sum(len(layer) for layers in full["pictures"][:2] for layer in layers)
    monkeypatch.setattr(mask_page, "MAX_BYTES", size)
    text = page(audited())
    assert embedded(text)["rows"] == full["rows"][:2]
    assert f"The first 2 of {NUM_MISSING}, because more pictures would make this page too large" in text


def test_names_are_shown_and_never_executed(browser: Browser, tmp_path: Path) -> None:
    with watched(browser) as tab:
        tab.goto(written(tmp_path, audited(EVIL)))
        expect(tab.locator("h1")).to_have_text(f"Audit of {EVIL}", use_inner_text=True)
        tab.keyboard.press("Enter")
        assert tab.evaluate("[...document.images].every(image => image.src.startsWith('data:'))")
        expect(tab.locator("#classes")).to_contain_text(EVIL, use_inner_text=True)


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1024, "dark"), (390, "light")])
def test_the_page_has_no_accessibility_violation(browser: Browser, report: str, width: int, scheme: Any) -> None:
    with watched(browser, width) as tab:
        tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        tab.goto(report)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        load_axe(tab)
        for key in ("a", "Enter"):
            tab.keyboard.press(key)
            assert violations(tab) == []
        expect(tab.locator("#larger")).to_be_visible()
