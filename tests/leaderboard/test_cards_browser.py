"""The views of methods, entries and published results in a real browser."""

from __future__ import annotations

from playwright.sync_api import Browser, Locator, Page

from tests.browser import watched


def names(page: Page) -> list[str]:
    return page.locator(".cards h3 a").all_inner_texts()


def search(page: Page) -> Locator:
    return page.locator("main > section:visible input[type=search]")


def test_a_card_is_found_opened_and_left_with_the_keyboard(browser: Browser, shipped_site: str) -> None:
    with watched(browser) as page:
        page.goto(f"{shipped_site}#view=methods")
        assert "elr" in names(page)
        assert "adele" not in names(page), "no run of this board has it"
        search(page).focus()
        page.keyboard.type("pixel cleanlab")
        assert names(page) == ["pixel_confident_learning"], "a search covers all cards"
        assert "cards=pixel" in page.url, "the address has the search"
        search(page).fill("zzzz")
        assert page.get_by_text("Nothing found.").is_visible()
        search(page).fill("running average")
        page.locator(".cards").get_by_role("link", name="elr", exact=True).press("Enter")
        assert page.locator(".card-name").inner_text() == "elr mitigation"
        page.get_by_role("link", name="← All").press("Enter")
        assert search(page).input_value() == "running average"


def test_a_card_links_paper_code_and_settings(browser: Browser, shipped_site: str) -> None:
    with watched(browser) as page:
        page.goto(f"{shipped_site}#view=methods&card=elr")
        view = page.locator("#view-methods")
        assert (
            view.get_by_role("link", name="Liu et al. 2020").get_attribute("href") == "https://arxiv.org/abs/2007.00151"
        )
        assert view.get_by_role("link", name="github.com/shengliu66/ELR").count() == 1
        text = view.inner_text()
        for wanted in (
            "noisybench run digits mitigations=elr",
            "log(1 − ⟨p, t⟩)",
            "Largest difference: 3.8e-6",
            "cifar100",
        ):
            assert wanted in text, wanted
        view.get_by_role("link", name="digits · pair_flip 40 %").first.click()
        assert page.locator("#view-boards").is_visible()
        assert "pair_flip" in page.locator("#view-boards").inner_text()


def test_lists_of_settings_agree_with_the_table_of_the_setting(browser: Browser, shipped_site: str) -> None:
    """The rank of a setting where a method won is 1 in the table that the card links to."""
    with watched(browser) as page:
        page.goto(f"{shipped_site}#view=methods&card=gce")
        won = page.locator(".columns > div").first
        assert won.locator("a").count() >= 1
        won.locator("a").first.click()
        row = page.locator("tr.row", has=page.locator("td.stack", has_text="gce"))
        assert row.locator("td").first.inner_text() == "1"


def test_entries_show_claim_verification_and_digest(browser: Browser, shipped_site: str) -> None:
    with watched(browser) as page:
        page.goto(f"{shipped_site}#view=entries")
        entry = page.locator(".entry", has_text="quickstart").first
        text = entry.inner_text()
        for wanted in (
            "eight mitigations under three kinds of noise",
            "noisybench maintainers",
            "a64ad51b5ce61c8d",
            "re-run",
        ):
            assert wanted in text, wanted
        entry.locator("summary").press("Enter")
        assert entry.get_by_role("link").count() == 3


def test_published_results_are_folded_until_they_are_measured(browser: Browser, shipped_site: str) -> None:
    with watched(browser) as page:
        page.goto(f"{shipped_site}#view=published")
        view = page.locator("#view-published")
        assert view.locator("h2").first.inner_text() == "KlemenVovk/noisy-labels"
        first = view.locator("details").first
        assert first.locator("tr").count() == 0, "hundreds of rows are drawn when they are asked for"
        first.locator("summary").press("Enter")
        count = int(first.locator("summary").inner_text().split()[0])
        first.locator("tbody tr").nth(count - 1).wait_for()
        assert first.locator("tbody tr").count() == count
        search(page).fill("dividemix clothing1m")
        assert all("match" in text for text in view.locator("summary").all_inner_texts())
        search(page).fill("zzzz")
        assert view.get_by_text("Nothing found.").is_visible()
