"""Colors of methods: fixed, and distinguishable with any color vision on light and dark backgrounds."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from numpy.typing import NDArray

from noisybench.config.registry import list_entries
from noisybench.plots.method_styles import BASELINE_COLOR, COLORS, NUM_PATTERNS, method_styles
from noisybench.utils.pages.rendering import _static_file

Array = NDArray[np.float64]

# Machado, Oliveira and Fernandes (2009), severity 1, in linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# Oklab (Ottosson, 2020).
TO_CONES = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_OKLAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]


def linear(color: str) -> Array:
    values = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    low, high = sorted(float(linear(color) @ [0.2126, 0.7152, 0.0722]) for color in (first, second))
    return (high + 0.05) / (low + 0.05)


def oklab(color: str, vision: str) -> Array:
    seen = np.clip(np.array(VISIONS[vision]) @ linear(color), 0, 1)
    return np.array(np.array(TO_OKLAB) @ np.cbrt(np.array(TO_CONES) @ seen))


@pytest.mark.parametrize("vision", VISIONS)
def test_colors_differ_with_any_color_vision(vision: str) -> None:
    pairs = itertools.combinations((*COLORS, BASELINE_COLOR), 2)
    distances = {pair: float(np.linalg.norm(oklab(pair[0], vision) - oklab(pair[1], vision))) for pair in pairs}
    closest = min(distances, key=lambda pair: distances[pair])
    assert distances[closest] > 0.09, (closest, distances[closest])


def test_colors_stand_out_from_the_backgrounds_of_the_page() -> None:
    backgrounds = re.findall(r"--back: (#[0-9a-f]+)", _static_file("noisybench.utils.pages", "page.css"))
    assert len(set(backgrounds)) == 2
    for background in backgrounds:
        full = background if len(background) == 7 else "#" + "".join(2 * digit for digit in background[1:])
        assert min(contrast(color, full) for color in (*COLORS, BASELINE_COLOR)) >= 3


def test_every_registered_mitigation_has_a_style_of_its_own_that_depends_on_nothing_else() -> None:
    names = list(list_entries("mitigations"))
    styles = method_styles(names)
    assert len(set(styles.values())) == len(names) > 30
    assert all(method_styles([name])[name] == style for name, style in styles.items())


def test_stacks_of_one_color_differ_in_marker_or_dash() -> None:
    stacks = [f"el2n(offset={number})" for number in range(60)]
    styles = method_styles(stacks)
    assert len(set(styles.values())) == 60
    colors = {stack: style.color for stack, style in styles.items()}
    assert colors == {stack: method_styles([stack])[stack].color for stack in stacks}, "colors depend on the name alone"
    assert len(set(method_styles([f"a+b(c={number})" for number in range(500)]).values())) == len(COLORS) * NUM_PATTERNS
