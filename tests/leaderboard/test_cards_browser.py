"""The views of methods, entries and published results in a real browser."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Locator, Page, expect

from noisybench.config.registry import list_entries
from noisybench.leaderboard.cards import stack_members
from noisybench.leaderboard.entries import builtin_entries
from noisybench.leaderboard.measurement_tables import builtin_measurements
from tests.browser import watched


def names(page: Page) -> Locator:
    return page.locator(".cards h3 a")


def search(page: Page) -> Locator:
    return page.locator("main > section:visible input[type=search]")


def test_a_card_is_found_opened_and_left_with_the_keyboard(browser: Browser, shipped_site: str) -> None:
    with watched(browser) as page:
        page.goto(f"{shipped_site}#view=methods")
        expect(names(page).get_by_text("elr", exact=True)).to_have_count(1)
        measured = {name for run in builtin_measurements() for name in stack_members(run.stack)}
        without = next(name for name in list_entries("mitigations") if name not in measured)
        expect(names(page).get_by_text(without, exact=True), "no run of this board has it").to_have_count(0)
        search(page).focus()
        page.keyboard.type("pixel out-of-sample")
        expect(names(page), "a search covers all cards").to_have_text(["pixel_confident_learning"], use_inner_text=True)
        expect(page, "the address has the search").to_have_url(re.compile("cards=pixel"))
        search(page).fill("zzzz")
        expect(page.get_by_text("Nothing found.")).to_be_visible()
        search(page).fill("running average")
        page.locator(".cards").get_by_role("link", name="elr", exact=True).press("Enter")
        expect(page.locator(".card-name")).to_have_text("elr mitigation", use_inner_text=True)
        page.get_by_role("link", name="← All").press("Enter")
        expect(search(page)).to_have_value("running average")


def test_a_card_links_paper_code_and_settings(browser: Browser, shipped_site: str) -> None:
    with watched(browser) as page:
        page.goto(f"{shipped_site}#view=methods&card=elr")
        view = page.locator("#view-methods")
        expect(view.get_by_role("link", name="Liu et al. 2020")).to_have_attribute(
            "href", "https://arxiv.org/abs/2007.00151"
        )
        expect(view.get_by_role("link", name="github.com/shengliu66/ELR")).to_have_count(1)
        text = view.inner_text()
        for wanted in (
            "noisybench run digits mitigations=elr",
            "log(1 − ⟨p, t⟩)",
            "Largest difference: 3.8e-6",
            "cifar100",
        ):
            assert wanted in text, wanted
        view.get_by_role("link", name="digits · pair_flip 20 %").first.click()
        expect(page.locator("#view-boards")).to_be_visible()
        expect(page.locator("#view-boards")).to_contain_text("pair_flip", use_inner_text=True)


def test_lists_of_settings_agree_with_the_table_of_the_setting(browser: Browser, shipped_site: str) -> None:
    """The rank of a setting where a method won is 1 in the table that the card links to."""
    with watched(browser) as page:
        page.goto(f"{shipped_site}#view=methods&card=gce")
        won = page.locator(".columns > div").first
        expect(won.locator("a")).not_to_have_count(0)
        won.locator("a").first.click()
        row = page.locator("tr.row", has=page.locator("td.stack", has_text="gce"))
        expect(row.locator("td").first).to_have_text("1", use_inner_text=True)


def test_entries_show_claim_verification_and_digest(browser: Browser, shipped_site: str) -> None:
    with watched(browser) as page:
        page.goto(f"{shipped_site}#view=entries")
        info = next(each for each in builtin_entries() if each.name == "pseudo-labels")
        entry = page.locator(".entry", has_text=info.name).first
        text = entry.inner_text()
        for wanted in (
            info.claim,
            "noisybench maintainers",
            info.digest[:16],
            "re-run",
        ):
            assert wanted in text, wanted
        entry.locator("summary").press("Enter")
        settings = {run.setting for run in builtin_measurements() if run.entry == info.name}
        expect(entry.get_by_role("link")).to_have_count(len(settings))


def test_published_results_are_folded_until_they_are_measured(browser: Browser, shipped_site: str) -> None:
    with watched(browser) as page:
        page.goto(f"{shipped_site}#view=published")
        view = page.locator("#view-published")
        expect(view.locator("h2").first).to_have_text("KlemenVovk/noisy-labels", use_inner_text=True)
        first = view.locator("details").first
        expect(first.locator("tr"), "hundreds of rows are drawn when they are asked for").to_have_count(0)
        first.locator("summary").press("Enter")
        count = int(first.locator("summary").inner_text().split()[0])
        first.locator("tbody tr").nth(count - 1).wait_for()
        expect(first.locator("tbody tr")).to_have_count(count)
        search(page).fill("dividemix clothing1m")
        expect(view.locator("summary").filter(has_not_text="match")).to_have_count(0)
        search(page).fill("zzzz")
        expect(view.get_by_text("Nothing found.")).to_be_visible()
