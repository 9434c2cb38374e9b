"""Every component has a fidelity card, and the page of all cards is current."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from noisybench.cli.fidelity_page import fidelity_page
from noisybench.evaluation.cards import KINDS, fidelity_cards

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "fidelity.md"
PRESETS = ROOT / "configs" / "presets"


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_has_a_card(kind: str) -> None:
    missing = [name for name, card in fidelity_cards(kind).items() if card is None]
    assert not missing, f"{kind} without a fidelity card: {', '.join(missing)}"


def test_presets_cite_the_commit_that_was_compared() -> None:
    cards = [card for kind in KINDS for card in fidelity_cards(kind).values() if card and card.reference]
    compared = {(card.reference, card.commit[:7]) for card in cards}
    cited = {
        (reference, commit[:7])
        for path in PRESETS.glob("*.yaml")
        for reference, commit in re.findall(r"(https://[\w./-]+) @ (\w+)", path.read_text(encoding="utf-8"))
        if reference in {card.reference for card in cards}
    }
    assert len(cited) > 10
    assert cited <= compared


def test_the_page_of_all_cards_is_current() -> None:
    current = PAGE.read_text(encoding="utf-8") == fidelity_page()
    assert current, "docs/fidelity.md is not current; run `noisybench fidelity -o docs/fidelity.md`"
