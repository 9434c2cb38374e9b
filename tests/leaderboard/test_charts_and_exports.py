"""Charts and exports of the page in a real browser: what they contain, how they are read, and what they look like."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser, Download, Page, expect

from noisybench.leaderboard.board import build_board
from noisybench.leaderboard.columns import TABLE, parse_columns
from noisybench.leaderboard.measurement_tables import builtin_measurements
from noisybench.leaderboard.page import to_html
from noisybench.leaderboard.table import Setting, build_settings
from noisybench.leaderboard.text_tables import to_csv, to_latex, to_markdown
from noisybench.plots.method_styles import method_styles
from tests.browser import watched
from tests.leaderboard.pages import runs
from tests.leaderboard.test_leaderboard import settings_of

BOARDS = "#view=boards"


@pytest.fixture(scope="module")
def shipped() -> Setting:
    return next(each for each in build_settings(builtin_measurements()) if "pair_flip" in each.title)


@pytest.fixture(scope="module")
def setting_site(tmp_path_factory: pytest.TempPathFactory, shipped: Setting) -> str:
    """Page of one shipped setting of several rows without curves."""
    file = tmp_path_factory.mktemp("shipped") / "index.html"
    measurements = [measurement for row in shipped.rows for measurement in row.measurements]
    file.write_text(to_html(build_board(measurements)), encoding="utf-8")
    return file.as_uri()


def exported(page: Page, format: str, table: str = "#table") -> str:
    """Text of the export dialog of a table."""
    page.locator(f".scroll:has({table}) + .tools").get_by_role("button", name="Export table").click()
    dialog = page.get_by_role("dialog", name="Export table")
    dialog.get_by_role("radio", name=format, exact=True).check()
    return dialog.get_by_label("Text", exact=True).input_value()


def content(download: Download) -> bytes:
    return Path(download.path()).read_bytes()


@pytest.mark.parametrize("rule", ["last", "noisy_val"])
def test_exports_of_a_setting_are_those_of_the_terminal(
    browser: Browser, setting_site: str, shipped: Setting, rule: str
) -> None:
    measurements = [measurement for row in shipped.rows for measurement in row.measurements]
    (setting,) = build_settings(measurements, rule)
    with watched(browser) as page:
        page.goto(f"{setting_site}{BOARDS}&rule={rule}")
        # Files are in the order of the scores.
        page.locator("#head").get_by_role("button", name=rule, exact=True).click()
        titles = page.locator("#head th button").all_inner_texts()
        shown = [column for column in TABLE if column.title in titles]
        assert exported(page, "LaTeX") == to_latex([setting], columns=shown)
        page.keyboard.press("Escape")
        assert to_markdown([setting], columns=shown).split("\n\n")[1] + "\n" == exported(page, "Markdown")
        page.keyboard.press("Escape")
        rows = list(csv.DictReader(io.StringIO(exported(page, "CSV"))))
    expected = list(csv.DictReader(io.StringIO(to_csv([setting]))))
    assert [row["stack"] for row in rows] == [row["stack"] for row in expected]
    assert {"last_mean", "last_std", "last_low", "last_high", "wall_seconds"} < rows[0].keys() <= expected[0].keys()
    for row, other in zip(rows, expected, strict=True):
        for name, text in row.items():
            if re.fullmatch(r"[\d.e-]+", text):
                assert float(text) == pytest.approx(float(other[name]), abs=1e-6), name
            else:
                assert text == other[name]


def test_an_export_has_the_rows_and_columns_that_were_chosen(
    browser: Browser, setting_site: str, shipped: Setting
) -> None:
    with watched(browser) as page:
        page.goto(f"{setting_site}{BOARDS}&stack=co")
        page.locator(".scroll:has(#table) + .tools").get_by_role("button", name="Export table").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("radio", name="LaTeX").check()
        for box in dialog.get_by_role("checkbox").all():
            box.set_checked((box.get_attribute("value") or "") in ("stack", "last", "seeds"))
        text = dialog.get_by_label("Text", exact=True).input_value()
        with page.expect_download() as saved:
            dialog.get_by_role("button", name="Save file").click()
        assert content(saved.value).decode() == text
        assert saved.value.suggested_filename.endswith(".tex")
        expect(dialog.get_by_role("status")).to_have_text(re.compile("^Saved as "), use_inner_text=True)
    (kept,) = [re.findall(r"^(.*) \\\\$", text, re.MULTILINE)]
    chosen = parse_columns("stack,last,seeds")
    assert kept[0] == " & ".join(column.title for column in chosen)
    names = [row.stack.replace("_", r"\_") for row in shipped.rows if "co" in row.stack]
    assert [line.split(" & ")[0] for line in kept[1:]] == names


def test_what_is_copied_is_announced(browser: Browser, setting_site: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{setting_site}{BOARDS}")
    text = exported(page, "Markdown")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Copy").click()
    dialog.get_by_role("status").filter(has_text="Copied 8 rows as Markdown.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == text
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    context.close()


def test_every_table_and_figure_can_be_exported(browser: Browser, site: str) -> None:
    with watched(browser) as page:
        page.goto(site)
        names = page.locator("#nav a").evaluate_all("links => links.map(link => link.dataset.view)")
        assert {"answer", "boards", "across", "stress", "published"} <= set(names)
        for view in names:
            page.goto(f"{site}#view={view}")
            page.wait_for_function("view => !document.getElementById(`view-${view}`).hidden", arg=view)
            section = page.locator(f"#view-{view}")
            buttons = section.get_by_role("button", name="Export table", include_hidden=True)
            expect(section.locator("table"), view).to_have_count(buttons.count())
            figures = section.locator("figure").count()
            expect(section.locator("button[aria-label^='Save'][aria-label$='SVG']"), view).to_have_count(figures)
        page.goto(f"{site}#view=stress")
        head, *lines = csv.reader(io.StringIO(exported(page, "CSV", "table:visible")))
        assert head[0] == "stack"
        expect(page.locator("#view-stress tbody tr")).to_have_count(len(lines))


def test_differences_are_numbers_in_a_csv_file(browser: Browser, site: str) -> None:
    with watched(browser) as page:
        page.goto(site)
        page.get_by_text("How sure is this?").first.click()
        table = page.locator("details[open]:has(summary:text-is('How sure is this?')) table").first
        expect(table, "on the page, with the minus sign of typography").to_contain_text("−", use_inner_text=True)
        table.evaluate("table => { table.id = 'evidence'; }")
        head, *lines = csv.reader(io.StringIO(exported(page, "CSV", "#evidence")))
    place = next(number for number, title in enumerate(head) if title.startswith("points against"))
    assert [line[place] for line in lines[:1]] == [""], "the leader itself"
    assert all(float(line[place]) < 0 for line in lines[1:-1])


def test_figures_are_saved_as_svg_and_png_in_light_colors(browser: Browser, site: str) -> None:
    with watched(browser) as page:
        page.emulate_media(color_scheme="dark")
        page.goto(site + BOARDS)
        figure = page.locator("#plots figure", has_text="test accuracy").first
        with page.expect_download() as saved:
            figure.get_by_role("button", name="SVG").click()
        svg = content(saved.value).decode()
        with page.expect_download() as picture:
            figure.get_by_role("button", name="PNG").click()
        png = content(picture.value)
        page.locator("output.hidden", has_text="Saved test-accuracy.png").wait_for(state="attached")
        assert page.evaluate("document.documentElement.dataset.theme") is None, "the theme is as before"
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in svg
    assert "<title>" not in svg or "alert" in svg
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"elr", "gce", "cross_entropy", "epoch"} <= set(texts)
    strokes = {each.get("stroke") for each in root.iter("{http://www.w3.org/2000/svg}path")}
    color = method_styles(["elr"])["elr"].color
    assert f"rgb({', '.join(str(int(color[start : start + 2], 16)) for start in (1, 3, 5))})" in strokes
    assert png.startswith(b"\x89PNG")
    width = int.from_bytes(png[16:20], "big")
    assert width == 3 * int(root.get("width", "0"))


def test_values_are_read_by_the_keyboard(browser: Browser, site: str) -> None:
    (setting, *_) = settings_of(runs())
    with watched(browser) as page:
        page.goto(site + BOARDS)
        figure = page.locator("#plots figure").first
        chart, readout = figure.locator("svg"), figure.locator("output")
        chart.focus()
        read = []
        for _ in setting.rows:
            page.keyboard.press("ArrowDown")
            read.append(readout.inner_text())
        page.keyboard.press("Escape")
        expect(readout).to_have_text("", use_inner_text=True)
    best = setting.rows[0].scores["last"]
    assert best is not None
    assert best.low is not None
    assert best.high is not None
    assert read[0] == f"gce: {100 * best.mean:.1f} % ({100 * best.low:.1f} % to {100 * best.high:.1f} %)"
    assert [text.split(":")[0] for text in read] == [row.stack for row in setting.rows]


def test_curves_are_read_along_and_across(browser: Browser, site: str) -> None:
    with watched(browser) as page:
        page.goto(site + BOARDS)
        figure = page.locator("#plots figure", has_text="test accuracy").first
        figure.locator("svg").focus()
        readout = figure.locator("output")
        page.keyboard.press("End")
        page.keyboard.press("End")
        expect(readout).to_have_text(
            re.compile(r"^gce: [\d.]+ % \([\d.]+ % to [\d.]+ %\) at epoch 11$"), use_inner_text=True
        )
        page.keyboard.press("ArrowDown")
        expect(readout).to_have_text(re.compile("^elr: "), use_inner_text=True)
        page.keyboard.press("ArrowLeft")
        expect(readout).to_have_text(re.compile("at epoch 10$"), use_inner_text=True)
        expect(figure.locator("g.faded")).to_have_count(4)
        page.mouse.move(0, 0)
        figure.locator("svg").blur()
        expect(figure.locator("g.faded")).to_have_count(0)


def test_values_are_read_by_the_pointer(browser: Browser, site: str) -> None:
    with watched(browser) as page:
        page.goto(site + BOARDS)
        figure = page.locator("#plots figure").first
        figure.scroll_into_view_if_needed()
        mark = figure.locator("svg g path").first.bounding_box()
        assert mark is not None
        page.mouse.move(mark["x"] + mark["width"] / 2, mark["y"] + mark["height"] / 2)
        expect(figure.locator("output")).to_have_text(re.compile("^gce: "), use_inner_text=True)


def test_a_stack_has_one_color_wherever_it_is_drawn(browser: Browser, site: str) -> None:
    color = method_styles(["elr"])["elr"].color
    with watched(browser) as page:
        for setting in (0, 1, 2):
            page.goto(site + BOARDS)
            page.locator("#settings").select_option(index=setting)
            row = page.locator("tr.row[data-stack=elr]")
            expect(row.locator(".swatch line")).to_have_attribute("stroke", color)
            expect(page.locator("#plots g:has(text:text-is('elr')) path[fill]").last).to_have_attribute("stroke", color)


def test_citations_are_bibtex(browser: Browser, setting_site: str) -> None:
    with watched(browser) as page:
        page.goto(setting_site)
        page.get_by_role("button", name="Cite", exact=True).click()
        dialog = page.get_by_role("dialog", name="Cite")
        text = dialog.get_by_label("Text", exact=True)
        expect(text).to_have_value(re.compile(r"^@software\{noisybench,"))
        for box in dialog.get_by_role("checkbox").all():
            box.check()
        entries = re.findall(r"^@(\w+)\{([\w-]+),$", text.input_value(), re.MULTILINE)
        assert ("misc", "Liuetal2020") in entries
        assert len({key for _, key in entries}) == len(entries) > 5
        dialog.get_by_role("button", name="Close").click()
        page.locator("dialog").wait_for(state="detached")


def test_an_answer_is_cited_with_everything_behind_it(browser: Browser, shipped_site: str) -> None:
    """Methods, noise models, datasets and entries of the settings of one answer, and of no other."""
    with watched(browser) as page:
        page.goto(shipped_site)
        page.get_by_role("button", name="Cite everything behind cifar10 ·").first.click()
        dialog = page.get_by_role("dialog", name="Cite")
        works = dialog.get_by_role("checkbox").evaluate_all("boxes => boxes.map(box => [box.value, box.checked])")
        text = dialog.get_by_label("Text", exact=True).input_value()
    assert all(checked for _, checked in works)
    names = [name for name, _ in works]
    assert names[0] == "noisybench"
    assert "entry cifar10n-board" in names
    assert "entry quickstart" not in names
    assert any(name.startswith("human: ") for name in names), "the noise model"
    assert any(re.fullmatch(r"elr\b.*: Liu et al. 2020", name) for name in names)
    assert not any("simclr" in name for name in names), "a method of another answer"
    assert text.count("@") == len(names)


def test_paper_shows_the_charts_without_their_tools(browser: Browser, site: str) -> None:
    with watched(browser) as page:
        page.goto(site + BOARDS)
        page.emulate_media(media="print", color_scheme="dark")
        expect(page.locator("#plots svg.chart").first).to_be_visible()
        for hidden in (".tool", ".readout", ".tools"):
            expect(page.locator(f"#view-boards {hidden}").first, hidden).to_be_hidden()
