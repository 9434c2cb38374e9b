"""Every component has a fidelity card, and the page of all cards is current."""

from __future__ import annotations

from pathlib import Path

import pytest

from noisybench.cli.fidelity_page import fidelity_page
from noisybench.evaluation.cards import KINDS, fidelity_cards

PAGE = Path(__file__).parents[2] / "docs" / "fidelity.md"


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_has_a_card(kind: str) -> None:
    missing = [name for name, card in fidelity_cards(kind).items() if card is None]
    assert not missing, f"{kind} without a fidelity card: {', '.join(missing)}"


def test_the_page_of_all_cards_is_current() -> None:
    current = PAGE.read_text(encoding="utf-8") == fidelity_page()
    assert current, "docs/fidelity.md is not current; run `noisybench fidelity -o docs/fidelity.md`"
