"""Every component and detector has a fidelity card, all data have a license, and the page of both is current."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import pytest

from noisybench.audit.detectors.catalog import CARDS, DETECTORS
from noisybench.cli.fidelity_page import fidelity_page
from noisybench.config.licenses import CUSTOM, NOT_APPLICABLE, NOT_STATED, Access, license_name
from noisybench.config.registry import list_entries
from noisybench.evaluation.cards import KINDS, fidelity_cards

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "fidelity.md"
PRESETS = ROOT / "configs" / "presets"
DATA_OF_OTHERS = ("human", "real_world", "web")
"""Noise models whose labels or images others have made."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_has_a_card(kind: str) -> None:
    missing = [name for name, card in fidelity_cards(kind).items() if card is None]
    assert not missing, f"{kind} without a fidelity card: {', '.join(missing)}"


def test_every_detector_has_a_card_with_its_formula() -> None:
    missing = [name for name in DETECTORS if name not in CARDS or not CARDS[name].formula]
    assert not missing, f"detectors without a fidelity card in their module: {', '.join(missing)}"
    unknown = [name for name in CARDS if name not in DETECTORS]
    assert not unknown, f"cards of unknown detectors: {', '.join(unknown)}"


@pytest.mark.parametrize("kind", [*KINDS, "detectors"])
def test_every_card_names_the_license_of_its_reference(kind: str) -> None:
    cards = CARDS if kind == "detectors" else fidelity_cards(kind)
    for name, card in cards.items():
        assert card is not None
        assert bool(card.license) == bool(card.reference), name
        if card.license not in ("", NOT_STATED):
            stated = card.license.partition(" (")[0]
            assert license_name(stated) == stated, name


def test_all_data_of_others_have_a_license_and_say_how_to_get_them() -> None:
    entries = {**list_entries("datasets"), **{name: list_entries("noise_models")[name] for name in DATA_OF_OTHERS}}
    for name, entry in entries.items():
        terms = entry.license
        assert terms is not None, f"{name} needs a license"
        assert terms == entry.load_class().license
        assert terms.access in typing.get_args(Access)
        if terms.name not in (CUSTOM, NOT_STATED, NOT_APPLICABLE):
            assert license_name(terms.name) == terms.name
        is_of_others = terms.access in ("bundled", "download", "registration")
        assert is_of_others == (terms.name != NOT_APPLICABLE) == bool(terms.url), name


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
