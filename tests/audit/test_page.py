"""The page of an audit in a real browser: review by keyboard, tables of decisions, and names that are never executed."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from noisybench.audit import page as audit_page
from noisybench.audit.findings import AuditResult, analyze
from noisybench.audit.inputs import AuditInput
from noisybench.audit.page import largest_confusions, to_html
from noisybench.audit.scores import DECISION_COLUMNS
from noisybench.audit.signals import AuditSignals
from noisybench.config.resolve import resolve
from noisybench.utils.cells import plain_cell
from tests.audit import pages
from tests.audit.pages import EVIL, embedded, load, load_axe, names, violations
from tests.browser import watched

CLASSES = ("cat", "dog", '=SUM("A1"),b', EVIL)
SIZE = 160
FEATURES = resolve(
    {"dataset": {"name": "features", "path": "x.npz"}, "task": "transfer", "budget": {"network": "features"}}
)


def audited(classes: tuple[str, ...] = CLASSES, **changes: Any) -> tuple[AuditInput, AuditResult]:
    """Every fifth label is incorrect, with rising confidence of the suggestion from the first to the last."""
    count, clean = len(classes), np.arange(SIZE) % len(classes)
    incorrect = np.arange(SIZE) % 5 == 0
    observed = np.where(incorrect, (clean + 1) % count, clean)
    share = 0.8 + 0.1 * np.arange(SIZE) / SIZE
    predicted = np.full((SIZE, count), 0.0) + ((1 - share) / (count - 1))[:, None]
    predicted[np.arange(SIZE), clean] = share
    # The second detector has the opposite order, and finds only every second one.
    neighbors = np.where(incorrect & (np.arange(SIZE) % 2 == 0), 1.0 - np.arange(SIZE) / 1000, 0.0)
    images: Any = np.random.default_rng(0).integers(0, 256, (SIZE, 3, 8, 8), dtype=np.uint8)
    files = tuple(f"{'=' if row % 10 == 0 else ''}{row:03},é.png" for row in range(SIZE))
    data = AuditInput(
        "images", resolve({}), images, observed, 1000 + np.arange(SIZE), files, None, classes, in_test=np.arange(SIZE) >= 120
    )  # fmt: skip
    return dataclasses.replace(data, **changes), analyze(observed, AuditSignals(predicted, None, neighbors))


def written(folder: Path, data: AuditInput, result: AuditResult) -> str:
    file = folder / "report.html"
    file.write_text(to_html(data, result, ["a line"], [("heading", ["entry"])]), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("report"), *audited())


def downloaded(page: Page) -> list[dict[str, str]]:
    return pages.downloaded(page, DECISION_COLUMNS)


def test_tiles_and_histogram_sum_up_the_audit(browser: Browser, report: str) -> None:
    _, result = audited()
    with watched(browser) as page:
        page.goto(report)
        tiles = dict(
            zip(
                page.locator(".tiles dt").all_inner_texts(),
                page.locator(".tiles .value").all_inner_texts(),
                strict=True,
            )
        )
        assert tiles["Examples"] == "160"
        assert tiles["Noise rate"] == "20.0\u00a0%"
        assert tiles["Labels to review"] == str(result.num_suspects) == "32"
        assert tiles["Decided"] == "0 of 32"
        bars = page.locator("#histogram rect title").all_text_contents()
        assert sum(int(re.match(r"\d+", bar)[0]) for bar in bars) == SIZE
        suspects = page.locator("#histogram rect.suspect title").all_text_contents()
        assert sum(int(re.match(r"\d+", bar)[0]) for bar in suspects) == 32
        expect(page.get_by_text("a line")).to_be_visible()


def test_the_page_says_why_there_is_no_estimate(browser: Browser, tmp_path: Path) -> None:
    data, _ = audited()
    unable = analyze(data.observed, AuditSignals(np.full((SIZE, 4), 0.25), None, None))
    with watched(browser) as page:
        page.goto(written(tmp_path, data, unable))
        expect(page.locator(".tiles").get_by_text("no estimate")).to_be_visible()
        expect(page.locator("p.warning")).to_contain_text(
            "the models have not learned the classes", use_inner_text=True
        )
        expect(page.locator("table.matrix")).to_have_count(0)


def test_labels_are_filtered_and_sorted(browser: Browser, report: str) -> None:
    data, result = audited()
    expected = [data.files[row] for row in result.suspects]
    with watched(browser) as page:
        page.goto(report)
        expect(names(page), "the most suspicious first").to_have_text(expected, use_inner_text=True)
        page.locator("#sort").select_option("name")
        expect(names(page), "signs before digits").to_have_text(
            sorted(expected, key=lambda name: (name[0] != "=", name)), use_inner_text=True
        )
        page.locator("#sort").select_option("rank")
        page.locator("#pair").select_option(label="dog → cat (8)")
        expect(names(page)).to_have_text(
            [name for name in expected if int(name.lstrip("=")[:3]) % 4 == 0], use_inner_text=True
        )
        page.locator("#pair").select_option("any")
        page.locator("#split").select_option(label="test")
        in_test = [name for name in expected if int(name.lstrip("=")[:3]) >= 120]
        expect(names(page)).to_have_text(in_test, use_inner_text=True)
        expect(page.locator("#shown")).to_have_text("8 of 32 labels", use_inner_text=True)
        page.locator("#find").fill("155 PNG")
        expect(names(page)).to_have_text(["155,é.png"], use_inner_text=True)
        page.locator("#find").fill("nothing")
        expect(page.locator("#dock")).to_be_hidden()
        page.keyboard.press("a")
        page.locator("#find").fill("")
        page.locator("#split").select_option("any")
        flagged = np.argsort(-result.error_score["neighbors"], kind="stable")[: result.num_suspects]
        found = [data.files[row] for row in result.suspects if row in flagged]
        assert 16 <= len(found) < 32
        page.locator("#detector").select_option(label=f"neighbors ({len(found)})")
        expect(names(page)).to_have_text(found, use_inner_text=True)
        page.locator("#detector").select_option(label="all detectors")
        expect(names(page), "the other detector flags all of them").to_have_text(found, use_inner_text=True)
        expect(page.locator(".mark span"), "typing in a field decides nothing").to_have_count(0)


def test_labels_are_decided_by_keyboard(browser: Browser, report: str) -> None:
    data, result = audited()
    rows = result.suspects[:5].tolist()
    with watched(browser) as page:
        page.goto(report)
        page.keyboard.press("a")
        expect(page.locator(".card[data-position='1']"), "the next label is current").to_be_focused()
        page.keyboard.press("k")
        page.keyboard.press("x")
        page.keyboard.press("u")
        page.keyboard.press("r")
        expect(page.locator("#typed")).to_be_focused()
        page.keyboard.type("sum")
        expect(page.locator("#matches [role=option]")).to_have_text([CLASSES[2]], use_inner_text=True)
        page.locator("#typed").fill("zzz")
        expect(page.get_by_text("No class has this in its name.")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator(".card[data-position='4']"), "the focus returns").to_be_focused()
        page.keyboard.press("r")
        other = next(number for number in range(4) if number not in (data.observed[rows[4]], result.suggested[rows[4]]))
        for _ in range(other):
            page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.locator("#decided")).to_have_text("5 of 32", use_inner_text=True)
        page.keyboard.press("a")
        page.keyboard.press("z")
        page.keyboard.press("z")
        expect(page.locator("#decided")).to_have_text("4 of 32", use_inner_text=True)
        page.keyboard.press("r")
        page.locator("#matches [role=option]").nth(other).click()
        found = downloaded(page)
    new = [result.suggested[rows[0]], data.observed[rows[1]], None, None, other]
    for row, kind, label, line in zip(
        rows, ("accept", "keep", "exclude", "unsure", "relabel"), new, found, strict=True
    ):
        assert line == {
            "index": str(1000 + row), "file": plain_cell(data.files[row]), "split": data.splits[row],
            "label": plain_cell(CLASSES[data.observed[row]]), "suggested": plain_cell(CLASSES[result.suggested[row]]),
            "decision": kind, "new_label": "" if label is None else plain_cell(CLASSES[label]),
        }  # fmt: skip


def test_a_typed_suggestion_is_accepted_and_a_typed_given_label_kept(browser: Browser, report: str) -> None:
    data, result = audited()
    with watched(browser) as page:
        page.goto(report)
        for number in (result.suggested[result.suspects[0]], data.observed[result.suspects[1]]):
            page.keyboard.press("r")
            page.locator("#matches [role=option]").nth(number).click()
        assert [line["decision"] for line in downloaded(page)] == ["accept", "keep"]


def test_arrows_move_between_rows_and_shortcuts_can_be_switched_off(browser: Browser, report: str) -> None:
    with watched(browser) as page:
        page.goto(report)
        page.locator(".card").first.focus()
        page.keyboard.press("ArrowDown")
        assert (page.locator(".card[aria-current]").bounding_box() or {})["x"] == (
            page.locator(".card").first.bounding_box() or {}
        )["x"]
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowRight")
        expect(page.locator(".card").nth(1)).to_have_attribute("aria-current", "true")
        page.locator("#shortcuts").uncheck()
        page.keyboard.press("a")
        expect(page.locator("#decided")).to_have_text("0 of 32", use_inner_text=True)


def test_a_label_that_leaves_the_filtered_list_hands_its_place_to_the_next(browser: Browser, report: str) -> None:
    with watched(browser) as page:
        page.goto(report)
        before = names(page).all_inner_texts()
        page.locator("#decision").select_option("none")
        page.locator(".card").nth(2).focus()
        page.keyboard.press("x")
        expect(names(page)).to_have_text([*before[:2], *before[3:]], use_inner_text=True)
        expect(page.locator(".card[aria-current] .name")).to_have_text(before[3], use_inner_text=True)
        page.keyboard.press("z")
        expect(names(page)).to_have_text(before, use_inner_text=True)


def test_the_larger_picture_opens_and_returns_the_focus(browser: Browser, report: str) -> None:
    with watched(browser) as page:
        page.goto(report)
        page.locator(".card").nth(3).press("Enter")
        picture = page.locator("#picture img")
        expect(picture).to_have_js_property("naturalWidth", 8)
        assert (picture.bounding_box() or {})["width"] > 300
        expect(page.locator("#larger-title")).to_have_text(re.compile("^4 of 32"), use_inner_text=True)
        page.keyboard.press("x")
        expect(page.locator("#larger-title"), "the next one, in the same dialog").to_have_text(
            re.compile("^5 of 32"), use_inner_text=True
        )
        expect(page.locator("#larger-message")).to_contain_text("exclude", use_inner_text=True)
        page.keyboard.press("Escape")
        expect(page.locator("#larger")).to_be_hidden()
        page.locator(".card[data-position='4']:focus").wait_for()
        expect(page.locator(".card").nth(3).locator(".mark")).to_have_text("exclude", use_inner_text=True)


def test_decisions_outlive_a_reload_and_stay_with_their_audit(browser: Browser, report: str, tmp_path: Path) -> None:
    context = browser.new_context()
    page, second = context.new_page(), context.new_page()
    page.goto(report)
    second.goto(report)
    page.keyboard.press("a")
    page.keyboard.press("x")
    page.reload()
    expect(page.locator("#decided")).to_have_text("2 of 32", use_inner_text=True)
    second.locator("#decided", has_text="2 of 32").wait_for()
    second.goto(written(tmp_path, *audited(("cat", "dog", "cow", "pig"))))
    expect(second.locator("#decided")).to_have_text("0 of 32", use_inner_text=True)
    context.close()


@pytest.mark.parametrize(
    "refusal",
    [
        "get localStorage() { throw new Error('denied') }",
        "get localStorage() { return { getItem: () => null, setItem() { throw new Error('full') } } }",
    ],
)
def test_the_page_works_where_the_browser_refuses_to_store(browser: Browser, report: str, refusal: str) -> None:
    with watched(browser) as page:
        page.add_init_script(f"Object.defineProperties(window, Object.getOwnPropertyDescriptors({{ {refusal} }}))")
        page.goto(report)
        expect(page.locator("#storage.warning")).to_contain_text(
            "This browser does not store decisions", use_inner_text=True
        )
        page.keyboard.press("a")
        page.keyboard.press("x")
        assert len(downloaded(page)) == 2


def test_a_table_of_decisions_is_loaded_again(browser: Browser, report: str) -> None:
    data, result = audited()
    first, second, third = (int(data.index[row]) for row in result.suspects[:3])
    with watched(browser) as page:
        page.goto(report)
        page.keyboard.press("x")
        rows = [
            {"index": first, "decision": "", "new_label": CLASSES[result.suggested[result.suspects[0]]]},
            {"index": second, "decision": "unsure", "new_label": ""},
            {"index": third, "decision": "", "new_label": ""},
            {"index": 999, "decision": "relabel", "new_label": CLASSES[2]},
        ]
        text = io.StringIO()
        writer = csv.DictWriter(text, ["new_label", "index", "decision"], delimiter=";", lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
        message = load(page, "\ufeff" + text.getvalue())
        assert message == (
            "mine.csv: 2 decisions loaded, 1 in place of earlier ones; 1 more about labels that are not on this page are "
            "kept for the download."
        )
        saved = downloaded(page)
        assert [(line["index"], line["decision"]) for line in saved] == [
            (str(first), "accept"), (str(second), "unsure"), ("999", "relabel"),
        ]  # fmt: skip
        assert saved[-1]["new_label"] == plain_cell(CLASSES[2]), "no cell is a formula"
        page.get_by_role("button", name="Undo").click()
        assert [line["decision"] for line in downloaded(page)] == ["exclude"], "a loaded table is undone as a whole"
    again = io.StringIO()
    writer = csv.DictWriter(again, DECISION_COLUMNS)
    writer.writeheader()
    writer.writerows(saved)
    with watched(browser) as page:
        page.goto(report)
        load(page, again.getvalue())
        assert downloaded(page) == saved


def test_a_table_with_an_error_changes_nothing(browser: Browser, report: str) -> None:
    data, result = audited()
    row = next(row for row in result.suspects.tolist() if data.class_names[data.observed[row]] == "dog")
    errors = (
        ("{index},perhaps,", "row 2: decision “perhaps” is none of accept, relabel, keep, exclude, unsure"),
        ("{index},,horse", "row 2: new_label “horse” is not a class of this audit"),
        ("{index},accept,{label}", "row 2: accept contradicts new_label"),
        ("{index},relabel,", "row 2: relabel needs a new_label"),
        ("{index},exclude,\n{index},unsure,", "two different decisions"),
        ("x,exclude,", "index “x” is not a number"),
        ('{index},"exclude', "a quotation mark is not closed"),
    )
    with watched(browser) as page:
        page.goto(report)
        for line, message in errors:
            shown = load(page, "index,decision,new_label\n" + line.format(index=data.index[row], label="dog"))
            assert "was not loaded, and nothing has changed" in shown
            assert message in shown
            expect(page.locator("#decided")).to_have_text("0 of 32", use_inner_text=True)
        shown = load(page, f"index,decision,new_label\n{data.index[row]},accept,\n")
        assert shown == "mine.csv: 1 decision loaded."


def test_a_table_of_another_audit_is_refused(browser: Browser, report: str) -> None:
    data, result = audited()
    index = data.index[result.suspects[0]]
    with watched(browser) as page:
        page.goto(report)
        assert "the table belongs to other data" in load(page, f"index,file,decision\n{index},other.png,exclude\n")
        assert "must name the columns" in load(page, "name,label\na,b\n")


def test_rows_of_two_splits_are_distinguished(browser: Browser, tmp_path: Path) -> None:
    """Training and test examples of sources of their own are both counted from zero."""
    data, result = audited(index=np.arange(SIZE) % 120)
    twice = next(row for row in result.suspects.tolist() if row >= 120 and row - 120 in result.suspects) - 120
    indices = data.index[result.suspects].tolist()
    first = next(row for row in result.suspects.tolist() if indices.count(data.index[row]) == 1)
    other = data.index[first]
    with watched(browser) as page:
        page.goto(written(tmp_path, data, result))
        load(page, f"index,split,decision\n{twice},test,exclude\n{twice},train,unsure\n")
        assert {line["split"]: line["decision"] for line in downloaded(page)} == {"train": "unsure", "test": "exclude"}
        twofold = f"index,split,decision\n{other},,keep\n{other},{data.splits[first]},exclude\n"
        assert "two different decisions" in load(page, twofold), "a row with and without its split is the same one"
        assert "is in several splits" in load(page, f"index,decision\n{twice},exclude\n")


def test_names_are_shown_and_never_executed(browser: Browser, tmp_path: Path) -> None:
    data, result = audited()
    hostile = dataclasses.replace(data, title=EVIL, files=(EVIL,) * SIZE)
    address = written(tmp_path, hostile, result)
    with watched(browser) as page:
        page.goto(address)
        expect(names(page).first).to_be_visible()
        assert {*names(page).all_inner_texts()} == {EVIL}
        expect(page.locator("h1")).to_have_text(f"Audit of {EVIL}", use_inner_text=True)
        page.keyboard.press("Enter")
        assert page.evaluate("[...document.images].every(image => image.src.startsWith('data:'))")
    file = tmp_path / "report.html"
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    file.write_text(text.replace("</body>", "<script>document.title = 'taken'</script></body>"), encoding="utf-8")
    page = browser.new_page()
    page.goto(address)
    assert page.title() == f"Audit of {EVIL}", "the policy allows no other script"
    page.close()


def test_examples_without_pictures_are_rows_of_text(browser: Browser, tmp_path: Path) -> None:
    texts = tuple(f"the film number {row} was long" for row in range(SIZE))
    features: Any = np.zeros((SIZE, 5, 1, 1), np.float32)
    data, result = audited(spec=FEATURES, images=features, files=texts, in_test=None)
    with watched(browser) as page:
        page.goto(written(tmp_path, data, result))
        expect(page.locator("img")).to_have_count(0)
        expect(page.locator("#splits")).to_be_hidden()
        expect(names(page)).to_have_text([texts[row] for row in result.suspects], use_inner_text=True)
        page.locator(".card").first.click()
        expect(page.locator("#picture p")).to_have_text(texts[result.suspects[0]], use_inner_text=True)


def test_the_page_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    data, result = audited()
    full = embedded(to_html(data, result, [], []))
    monkeypatch.setattr(audit_page, "MAX_PICTURE_BYTES", sum(map(len, full["pictures"][:7])))
    monkeypatch.setattr(audit_page, "MAX_ROW_BYTES", len(json.dumps(full["rows"][:20])))
    text = to_html(data, result, [], [])
    assert embedded(text)["rows"] == full["rows"][:20]
    assert embedded(text)["pictures"] == full["pictures"][:7]
    assert "The first 20 of 32; <code>scores.csv</code> beside this page has all of them." in text
    assert "With pictures of the first 7" in text


def test_verified_labels_are_counted_apart() -> None:
    data, result = audited()
    verified = dataclasses.replace(result, num_verified=140)
    text = to_html(data, verified, [], [])
    assert "without 140 verified ones" in text
    assert len(embedded(text)["rows"]) == 20, "fewer than the estimate gives"


def test_large_pictures_are_reduced() -> None:
    images: Any = np.zeros((SIZE, 1, 400, 300), np.uint8)
    data, result = audited(images=images)
    content = embedded(to_html(data, result, [], []))
    assert not content["sharp"]
    assert all(len(picture) < 1000 for picture in content["pictures"])


def test_an_audit_without_suspects_says_so(browser: Browser, tmp_path: Path) -> None:
    clean = np.arange(SIZE) % 4
    data, _ = audited(observed=clean)
    result = analyze(clean, AuditSignals(0.96 * np.eye(4)[clean] + 0.01, None, None))
    assert result.num_suspects == 0
    with watched(browser) as page:
        page.goto(written(tmp_path, data, result))
        expect(page.get_by_text("No label is suspicious")).to_be_visible()
        expect(page.locator("#tool")).to_be_hidden()


def test_paper_shows_the_labels_and_no_tools(browser: Browser, report: str) -> None:
    with watched(browser) as page:
        page.goto(report)
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", (
            "paper is white"
        )
        expect(page.locator(".card").first).to_be_visible()
        for hidden in ("nav", "#dock", "#download", ".keys"):
            expect(page.locator(hidden), hidden).to_be_hidden()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1024, "dark"), (390, "light")])
def test_the_page_has_no_accessibility_violation(browser: Browser, report: str, width: int, scheme: Any) -> None:
    with watched(browser, width) as page:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.goto(report)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        load_axe(page)
        for keys in ("ak", ("Enter", "r")):
            for key in keys:
                page.keyboard.press(key)
            assert violations(page) == []
        expect(page.locator("#chooser")).to_be_visible()
        running = "document.getAnimations().length"
        assert page.evaluate(running) == 0, "nothing moves"


def test_the_largest_confusions_have_no_diagonal() -> None:
    matrix = np.array([[0.5, 0.2, 0.3], [0.1, 0.9, 0.0], [0.0, 0.4, 0.6]])
    assert largest_confusions("abc", matrix, 2) == [("c", "b", 0.4), ("a", "c", 0.3)]
    assert largest_confusions("abc", None, 2) == []
