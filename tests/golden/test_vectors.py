"""Frozen vectors are complete, small, and belong to the components that name them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from noisybench.audit.detectors.catalog import CARDS as DETECTOR_CARDS
from noisybench.config.registry import list_entries
from noisybench.evaluation.catalog import METRICS
from tests.golden.vectors import DATA, load_golden

MAX_BYTES = 40_000
NAMES = sorted(path.stem for path in DATA.glob("*.npz"))
CARDS = {
    f"{kind}.{name}": entry.fidelity
    for kind in ("mitigations", "noise_models")
    for name, entry in list_entries(kind).items()
    if entry.module.startswith("noisybench.") and entry.fidelity
} | {f"metrics.{name}": metric.fidelity for name, metric in METRICS.items()}
CARDS |= {f"detectors.{name}": card for name, card in DETECTOR_CARDS.items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_file_is_small_and_comes_from_its_generator(name: str) -> None:
    generator: Any = importlib.import_module(f"tests.golden.generators.{name}")
    origin = load_golden(name).origin
    assert (origin["reference"], origin["commit"]) == (generator.REFERENCE, generator.COMMIT)
    assert (DATA / f"{name}.npz").stat().st_size <= MAX_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_file_is_read_by_a_test(name: str) -> None:
    tests = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    assert any(f'"{name}"' in text for text in tests)


@pytest.mark.parametrize("component", CARDS)
def test_a_card_names_frozen_files_of_its_reference(component: str) -> None:
    card = CARDS[component]
    assert card is not None
    assert bool(card.reference) == bool(card.commit) == bool(card.difference)
    for name in card.golden:
        assert (load_golden(name).origin["reference"], load_golden(name).origin["commit"]) == (
            card.reference,
            card.commit,
        )
