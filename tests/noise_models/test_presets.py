"""Published settings of noise models for masks, as the papers print them."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from noisybench.config.registry import list_entries
from noisybench.noise_models._masks import with_preset
from noisybench.noise_models.coco_n import LEVELS
from tests.noise_models.test_mask_noise import model

# Yao et al. 2023, Table 1; Zhang et al. 2020; Kimhi et al. 2024.
PUBLISHED: dict[str, dict[str, dict[str, Any]]] = {
    "markov_boundary": {
        "jsrt_expand": {"steps": 180, "expand": 0.8, "flip": 0.05, "speckle": 0.2},
        "jsrt_shrink": {"steps": 180, "expand": 0.2, "flip": 0.05, "speckle": 0.2},
        "jsrt_clavicle_expand": {"steps": 100, "expand": 0.8, "flip": 0.02, "speckle": 0.2},
        "jsrt_clavicle_shrink": {"steps": 100, "expand": 0.2, "flip": 0.02, "speckle": 0.2},
        "isic_expand": {"steps": 200, "expand": 0.8, "flip": 0.05, "speckle": 0.2},
        "isic_shrink": {"steps": 200, "expand": 0.2, "flip": 0.05, "speckle": 0.2},
    },
    "morph_distance": {
        "jsrt": {"range": [7, 9]},
        "jsrt_clavicle": {"range": [3, 5]},
        "isic": {"range": [7, 9]},
    },
    "morph_disc": {
        "jsrt_clavicle": {"radius": [5, 10]},
        "jsrt_heart": {"radius": [14, 20]},
        "jsrt_lung": {"radius": [20, 30]},
    },
    "polygon": {"easy": {"tolerance": 5}, "medium": {"tolerance": 10}, "hard": {"tolerance": 15}},
    "vertex_jitter": {"easy": {"deviation": 2}, "medium": {"deviation": 3}, "hard": {"deviation": 4}},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_published_values(name: str) -> None:
    presets = importlib.import_module(f"noisybench.noise_models.{name}").PRESETS
    assert {preset: with_preset(model(name, preset=preset), presets) for preset in presets} == PUBLISHED[name]


def test_all_presets_are_checked() -> None:
    modules = {name: importlib.import_module(entry.module) for name, entry in list_entries("noise_models").items()}
    assert {name for name, module in modules.items() if hasattr(module, "PRESETS")} == PUBLISHED.keys()


def test_levels_of_coco_n_are_published() -> None:
    # Probability of each kind, tolerance, deviation, side of the square, and probability of another class.
    assert {name: tuple(level) for name, level in LEVELS.items()} == {
        "easy": (0.2, 5, 2, 3, 0.2),
        "medium": (0.25, 10, 3, 5, 0.3),
        "hard": (0.3, 15, 4, 7, 0.4),
    }
