"""The page in a real browser: what it shows, how it is used, and what it does not execute."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from flask import Flask
from playwright.sync_api import Browser, Locator, Page, expect
from werkzeug.serving import make_server

from noisybench.leaderboard.board import Board, BoardCache, build_board
from noisybench.leaderboard.measurements import measure
from noisybench.leaderboard.mlflow_app import mount
from noisybench.leaderboard.page import to_html
from noisybench.runs import runner
from noisybench.tracking.presentation import HEADLINE
from noisybench.tracking.store import Store
from tests.browser import watched
from tests.helpers import toy_spec
from tests.leaderboard.pages import EVIL, runs
from tests.leaderboard.test_board import keep
from tests.leaderboard.test_codes import coded, equivalence
from tests.leaderboard.test_leaderboard import board_of, record
from tests.postgres import free_port
from tests.tracking_server import wait_for

BOARDS = "#view=boards"


def stacks(page: Page) -> Locator:
    return page.locator("tbody#body tr.row td.stack")


def test_the_page_sorts_and_filters(browser: Browser, site: str) -> None:
    with watched(browser) as page:
        page.goto(site + BOARDS)
        expect(stacks(page)).to_have_text(["gce", "elr", "co_teaching", "cross_entropy", EVIL], use_inner_text=True)
        expect(page.locator("th[aria-sort=ascending]")).to_have_text("rank", use_inner_text=True)
        page.get_by_role("button", name="time (s)").click()
        expect(stacks(page).last).to_have_text("elr", use_inner_text=True)
        page.get_by_role("button", name="time (s)").press("Enter")
        expect(stacks(page).first, "the keyboard sorts as well").to_have_text("elr", use_inner_text=True)
        page.get_by_role("button", name="stack", exact=True).click()
        for place, stack in ((1, "co_teaching"), (2, "cross_entropy")):
            expect(stacks(page).nth(place)).to_have_text(stack, use_inner_text=True)
        page.get_by_text("Filter methods").click()
        page.locator("#stack").fill("co_")
        expect(stacks(page)).to_have_text(["co_teaching"], use_inner_text=True)
        expect(page.locator("#shown")).to_have_text("1 of 5 stacks", use_inner_text=True)
        page.locator("#stack").fill("")
        page.locator("#privileged").select_option("none")
        expect(stacks(page)).to_have_text([EVIL, "cross_entropy", "elr", "gce"], use_inner_text=True)
        page.locator("#privileged").select_option("any")
        page.locator("#seeds").fill("3")
        expect(stacks(page)).to_have_text(["co_teaching", "cross_entropy", "elr", "gce"], use_inner_text=True)
        page.locator("#cost").fill("5")
        expect(stacks(page)).to_have_text(["co_teaching", "cross_entropy", "gce"], use_inner_text=True)


def test_settings_and_rules_are_chosen_and_linked_to(browser: Browser, site: str) -> None:
    with watched(browser) as page:
        page.goto(site + BOARDS)
        first = page.locator("#about").inner_text()
        boards = page.locator("#view-boards")
        boards.locator("[data-facet=rate]").select_option("60 %")
        expect(page.locator("#settings option")).to_have_text(["digits · pair_flip 60 %"], use_inner_text=True)
        boards.locator("select.rule").select_option("noisy_val")
        expect(page.locator("#about")).not_to_have_text(first, use_inner_text=True)
        expect(page.locator("#footnote code")).to_have_text("noisy_val", use_inner_text=True)
        with watched(browser) as second:
            second.goto(page.url)
            expect(second.locator("#about")).to_have_text(page.locator("#about").inner_text(), use_inner_text=True)
            expect(second.locator("#view-boards select.rule")).to_have_value("noisy_val")
            expect(second.locator("#view-boards [data-facet=rate]")).to_have_value("60 %")
        boards.get_by_role("button", name="Show all").click()
        expect(page.locator("#settings option")).to_have_count(3)


def test_everything_is_drawn(browser: Browser, site: str) -> None:
    with watched(browser) as page:
        page.goto(site + BOARDS)
        titles = page.locator("#plots figcaption").all_inner_texts()
        for wanted in (
            "95 % intervals", "test accuracy", "memorized incorrect labels", "against noise rate", "against cost", "AUROC",
            "(ROC curve)",
        ):  # fmt: skip
            assert any(wanted in each for each in titles), wanted
        expect(page.locator("#pair")).to_contain_text("minus elr", use_inner_text=True)
        page.locator("#second").select_option(label="cross_entropy")
        expect(page.locator("#pair")).to_contain_text("The difference is significant.", use_inner_text=True)
        page.get_by_role("link", name="Across settings").click()
        expect(page.locator("#view-across")).to_contain_text("3 settings, by last")
        expect(page.locator("#view-across svg")).to_have_count(1)
        page.get_by_role("link", name="Stress cards").click()
        expect(page.locator("#view-stress tbody tr")).to_have_count(5)
        expect(page.locator("#view-stress svg"), "one for each stack but cross-entropy").to_have_count(4)
        page.get_by_role("link", name="Methods").click()
        page.get_by_role("link", name="elr", exact=True).click()
        page.get_by_text("github.com/shengliu66/ELR, commit 934af53434a3, license MIT").wait_for()
        page.get_by_role("link", name="← All").click()
        page.get_by_role("link", name="digits", exact=True).click()
        page.get_by_text("CC-BY-4.0, access: bundled").wait_for()
        page.get_by_role("link", name="Guide").click()
        page.get_by_text("This is selection on the test split").wait_for()
        page.get_by_role("link", name="Excluded runs").click()
        expect(page.get_by_text("No run is excluded.")).to_be_visible()


def test_marks_and_long_names_can_be_distinguished(browser: Browser, tmp_path: Path) -> None:
    """Scores that are nearly equal, of stacks that begin alike."""
    pretrained = "simclr(epochs=60, batch_size=64, learning_rate=0.05)+lsa(warmup_epochs=9, detector_cycle=['{}'])"
    names = [pretrained.format(each) for each in ("loss", "linear", "oracle")]
    found = [record(name, seed, 0.996 + 0.001 * k) for k, name in enumerate(names) for seed in range(3)]
    file = tmp_path / "index.html"
    file.write_text(to_html(board_of(found)), encoding="utf-8")
    with watched(browser) as page:
        page.goto(file.as_uri() + BOARDS)
        names_there = page.locator("#plots svg").first.locator("text.name")
        shown = names_there.evaluate_all(
            "found => found.map(each => each.firstChild.textContent)"
        )  # then comes the whole name
        assert len({*shown}) == 3
        assert all(len(each) <= 28 for each in shown)
        for figure in page.locator("#plots svg").all():
            for side in ("end", "middle"):
                marks = figure.locator(f"text[text-anchor={side}]:not(.name)").all_text_contents()
                assert len({*marks}) == len(marks)


def test_runs_of_a_stack_open_by_the_keyboard(browser: Browser, site: str) -> None:
    with watched(browser) as page:
        page.goto(site + BOARDS)
        button = page.locator("td.stack button").first
        button.press("Enter")
        expect(page.locator("tr.runs div")).to_have_count(3)
        expect(page.locator("tr.runs div a"), "without MLflow beside it there is nothing to link to").to_have_count(0)
        button.press("Enter")
        expect(page.locator("tr.runs")).to_have_count(0)


def test_the_page_names_the_code_and_shows_warnings(browser: Browser, tmp_path: Path) -> None:
    old = [coded("a", stack, seed) for stack in ("gce", "elr") for seed in range(3)]
    new = [coded("b", stack) for stack in ("gce", "elr")]
    noted = dataclasses.replace(new[0].rows[0], warnings=["gce: <b>schedule incomplete</b>"])
    new[0] = dataclasses.replace(new[0], rows=[noted, *new[0].rows[1:]])
    board = build_board(map(measure, [*old, *new]), equivalences=[equivalence((old[0], new[0]))])
    file = tmp_path / "index.html"
    file.write_text(to_html(board), encoding="utf-8")
    with watched(browser) as page:
        page.goto(file.as_uri() + BOARDS)
        page.locator("#warnings summary").click()
        expect(page.locator("#warnings p.note").first).to_be_visible()
        notes = page.locator("#warnings p.note").all_inner_texts()
        assert notes[0] == "joined by equivalence engine aaaaaaaa = bbbbbbbb (1 run compared, bit-identical)"
        assert notes[1].startswith("same settings, other code: 3 runs of elr, version 0 (engine aaaaaaaa -> bbbbbbbb)")
        expect(
            page.locator("#warnings p.warning").get_by_text("gce: <b>schedule incomplete</b> (1 run)")
        ).to_be_visible()
        expect(page.locator("td.stack .flag")).to_have_attribute("title", "gce: <b>schedule incomplete</b> (1 run)")
        expect(page.locator("#about")).to_contain_text(
            re.compile(r"Code [0-9a-f]{16} \(version 0\)\."), use_inner_text=True
        )
        page.locator("td.stack button", has_text="gce").click()
        expect(page.locator("tr.runs div.warning")).to_have_count(1)
        lines = page.locator("tr.runs div:not(.warning)").all_inner_texts()
        assert len(lines) == 3
        assert sum("code" in line for line in lines) == 2, "runs of the other code that the row joins"


def test_light_dark_and_a_phone(browser: Browser, site: str) -> None:
    with watched(browser, 390, 800) as page:
        page.goto(site + BOARDS)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, "the table scrolls, the page does not"
        back = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(back)
        page.locator("#theme").click()
        expect(page.locator("body")).not_to_have_css("background-color", light)


def test_what_runs_say_is_shown_and_never_executed(browser: Browser, site: str) -> None:
    with watched(browser) as page:
        page.goto(site + BOARDS)
        expect(stacks(page).filter(has_text=EVIL)).to_have_count(1)
        expect(page.locator("img")).to_have_count(0)


def test_names_of_properties_of_all_objects_are_names_like_others(browser: Browser, tmp_path: Path) -> None:
    names = ["constructor", "toString", "__proto__", "cross_entropy"]
    board = board_of([record(name, seed, 0.9 - 0.1 * place) for place, name in enumerate(names) for seed in range(3)])
    (tmp_path / "index.html").write_text(to_html(board), encoding="utf-8")
    with watched(browser) as page:
        page.goto((tmp_path / "index.html").as_uri())
        expect(page.locator(".matrix tbody th span")).to_have_text(names, use_inner_text=True)
        expect(page.locator(".matrix small"), "none has privileged information").to_have_count(0)
        page.goto((tmp_path / "index.html").as_uri() + BOARDS)
        expect(stacks(page)).to_have_text(names, use_inner_text=True)
        expect(page.locator("figure svg").nth(1)).to_be_attached()


def test_a_script_that_got_into_the_page_would_not_run(browser: Browser, tmp_path: Path) -> None:
    """The last line of defence: the policy in the page allows its own script alone."""
    file = tmp_path / "index.html"
    page_text = to_html(board_of(runs()))
    file.write_text(page_text.replace("</body>", "<script>document.title = 'taken'</script></body>"), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri() + BOARDS)
    assert page.title() == "noisybench leaderboard"
    page.close()


def test_the_comparison_in_mlflow_has_the_runs_of_the_setting_by_their_score(
    browser: Browser, store: Store, tmp_path: Path
) -> None:
    client, scores = store.connection.client, {}
    for stack, seed, noise in (("elr", 0, "clean"), ("gce", 0, "clean"), ("elr", 0, "pair_flip(rate=0.2)")):
        run_id = keep(store, record(stack, seed, 0.5, label_set=f"{len(noise):064x}", noise=noise))
        scores[run_id] = {"elr": 0.4, "gce": 0.8}[stack]
        client.log_metric(run_id, HEADLINE, scores[run_id])
    board = BoardCache(store, f"./#/experiments/{store.connection.experiment}/runs/").board()
    (tmp_path / "index.html").write_text(to_html(board), encoding="utf-8")
    summary = next(each for each in board.settings if each["stacks"] == 2)
    with watched(browser) as page:
        page.goto(f"{(tmp_path / 'index.html').as_uri()}{BOARDS}&setting={summary['key']}")
        address = page.get_by_role("link", name="Compare the runs in MLflow").get_attribute("href")
    place, _, query = str(address).partition("?")
    assert place == f"./#/experiments/{store.connection.experiment}/runs"
    asked = dict(urllib.parse.parse_qsl(query, strict_parsing=True))
    assert asked["compareRunsMode"] == "CHART"
    order = f"{asked['orderByKey']} {'ASC' if asked['orderByAsc'] == 'true' else 'DESC'}"
    found = client.search_runs([store.connection.experiment], asked["searchFilter"], order_by=[order])
    assert [scores[run.info.run_id] for run in found] == [0.8, 0.4]


def test_a_visitor_sees_that_the_board_is_being_computed(browser: Browser, store: Store) -> None:
    computed = threading.Event()

    class Slow(BoardCache):
        def board(self) -> Board:
            computed.wait()
            return board_of(runs())

    app = Flask("server")
    mount(app, "/leaderboard", Slow(store))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with watched(browser) as page:
            page.goto(f"http://127.0.0.1:{server.port}/leaderboard#view=boards&rule=last10")
            expect(page.get_by_role("status")).to_be_visible()
            expect(page.locator("tr.row")).to_have_count(0)
            computed.set()
            page.locator("tr.row").first.wait_for()
            expect(page.locator("#view-boards select.rule"), "what the address says is kept").to_have_value("last10")
    finally:
        computed.set()
        server.shutdown()
        server.server_close()


def test_the_page_beside_mlflow(browser: Browser, store: Store) -> None:
    for stack in ("cross_entropy", "gce"):
        spec = toy_spec(stack, dataset={"name": "digits", "train_size": 100, "test_size": 50})
        runner.execute(spec, store, lambda kind, data: None, lambda: False)
    failed = store.start(toy_spec("elr"), {})
    failed.fail("<b>it broke</b>")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "noisybench", "leaderboard", "serve", "--port", str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "MLFLOW_TRACKING_URI": store.connection.uri},
    )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/health", server)
        with watched(browser) as page:
            page.goto(f"{address}/leaderboard{BOARDS}")
            page.locator("tr.row").first.wait_for()
            expect(stacks(page)).to_have_count(2)
            assert {*stacks(page).all_inner_texts()} == {"cross_entropy", "gce"}
            page.get_by_role("link", name="Excluded runs").click()
            expect(page.get_by_text("failed: <b>it broke</b>")).to_be_visible()
            page.get_by_role("link", name="Boards", exact=True).click()
            page.locator("td.stack button").first.click()
            link = page.locator("tr.runs div a").first
            run_id = (link.get_attribute("href") or "").rsplit("/", 1)[-1].partition("?")[0]
        mlflow = browser.new_page()
        mlflow.goto(f"{address}/leaderboard{BOARDS}")
        mlflow.locator("td.stack button").first.click()
        mlflow.locator("tr.runs div a").first.click()
        mlflow.get_by_text(run_id).first.wait_for(timeout=60_000)
        mlflow.close()
        request = urllib.request.Request(f"{address}/leaderboard", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=10)
    finally:
        server.terminate()
        server.communicate(timeout=30)


def test_no_axis_of_a_fraction_goes_beyond_one(browser: Browser, tmp_path: Path) -> None:
    wide = [record(stack, seed, level) for stack, level in (("gce", 0.97), ("elr", 0.18)) for seed in range(3)]
    (tmp_path / "index.html").write_text(to_html(board_of(wide)), encoding="utf-8")
    with watched(browser) as page:
        page.goto((tmp_path / "index.html").as_uri() + BOARDS)
        labels = page.locator("#plots svg text").all_text_contents()
    percents = [float(label.removesuffix(" %")) for label in labels if label.endswith(" %")]
    assert len(percents) > 10
    assert 0 <= min(percents) <= max(percents) <= 100
