"""Markov boundary noise and noise by a distance against the authors' generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from noisybench.noise_models import markov_boundary
from noisybench.noise_models._masks import MaskContext
from noisybench.noise_models.markov_boundary import MarkovBoundary, move_boundary
from noisybench.noise_models.morph_distance import MorphDistance
from tests.golden.replay import NumpyStream, unpack
from tests.golden.vectors import load_golden
from tests.noise_models.test_mask_noise import split_of


@pytest.mark.parametrize("position", range(8))
def test_the_same_numbers_give_the_mask_of_the_authors(position: int) -> None:
    golden = load_golden("markov_boundary")
    masks, noisy = (unpack(golden[name], golden["shape"]) for name in ("masks", "noisy"))
    steps, expand, flip, speckle = golden["small_settings"][position]
    model = MarkovBoundary(steps=int(steps), expand=float(expand), flip=float(flip), speckle=float(speckle))
    context = MaskContext(NumpyStream(position, before=(0.0,)), 1.0, 2, masks)
    moved = model.corrupt_mask(masks[position], context)
    np.testing.assert_array_equal(moved, noisy[position])


@pytest.mark.parametrize("position", range(4))
def test_published_settings_have_the_dice_and_the_area_of_the_authors(position: int) -> None:
    golden = load_golden("markov_boundary")
    steps, expand, flip, speckle = golden["settings"][position]
    rows, columns = np.mgrid[:256, :256]
    ellipse = np.asarray(((rows - 127.5) / 50) ** 2 + ((columns - 127.5) / 40) ** 2 <= 1, dtype=np.uint8)
    model = MarkovBoundary(steps=int(steps), expand=float(expand), flip=float(flip), speckle=float(speckle))
    noisy = model.corrupt_masks(split_of(np.repeat(ellipse[None], 12, axis=0)), 2, 1.0)
    sizes = noisy.sum(axis=(1, 2))
    dice, area = 2 * (noisy & ellipse).sum(axis=(1, 2)) / (sizes + ellipse.sum()), sizes / ellipse.sum()
    for ours, theirs in ((dice, golden["dice"][position]), (area, golden["area"][position])):
        # The difference of two means of 12 draws, at four standard errors.
        error = np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / 12)
        assert abs(ours.mean() - theirs.mean()) < 4 * error
    published_dice, published_area = ((0.793, 1.52), (0.731, 0.59), (0.961, 1.08), (0.961, 0.94))[position]
    assert dice.mean() == pytest.approx(published_dice, abs=0.02)
    assert area.mean() == pytest.approx(published_area, abs=0.05)


@pytest.mark.parametrize("flip", [0.25, 1.0])
def test_the_simulated_box_changes_nothing(flip: float, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = unpack(load_golden("markov_boundary")["masks"], load_golden("markov_boundary")["shape"])
    boxes = []

    def whole(region: Any, margin: int) -> tuple[slice, slice]:
        boxes.append(margin)
        return slice(None), slice(None)

    for seed in range(24):
        # Small objects at random places, so that boxes lie inside, at the edge and in the corners of the image.
        row, column = np.random.default_rng(seed).integers(0, 44, 2)
        region = np.zeros((48, 48), dtype=np.uint8)
        region[row : row + 4, column : column + 4] = masks[seed % 8][20:24, 20:24] | np.eye(4, dtype=np.uint8)
        outwards = np.random.default_rng(seed).random(12) < (seed % 5) / 4
        boxed = move_boundary(region, outwards, flip, NumpyStream(seed))
        with monkeypatch.context() as patch:
            patch.setattr(markov_boundary, "bounding_box", whole)
            np.testing.assert_array_equal(move_boundary(region, outwards, flip, NumpyStream(seed)), boxed)
    assert len(boxes) == 24


def test_a_published_preset_is_the_setting_by_hand_and_excludes_it() -> None:
    mask = unpack(load_golden("markov_boundary")["masks"], load_golden("markov_boundary")["shape"])
    by_hand = MarkovBoundary(steps=180, expand=0.2, flip=0.05, speckle=0.2).corrupt_masks(split_of(mask), 2, 1.0)
    preset = MarkovBoundary(preset="jsrt_shrink").corrupt_masks(split_of(mask), 2, 1.0)
    np.testing.assert_array_equal(preset, by_hand)
    with pytest.raises(Exception, match="preset=jsrt_shrink sets steps to 180, but got 30"):
        MarkovBoundary(preset="jsrt_shrink", steps=30).corrupt_masks(split_of(mask), 2, 1.0)


@pytest.mark.parametrize(("result", "over"), [("grown", 1.0), ("shrunk", 0.0)])
def test_a_distance_changes_the_pixels_that_the_authors_change(result: str, over: float) -> None:
    golden = load_golden("morph_distance")
    masks, distances = unpack(golden["masks"], golden["shape"]), golden["distances"]
    expected = unpack(golden[result], np.array([len(distances), *golden["shape"]]))
    for distance, wanted in zip(distances.tolist(), expected, strict=True):
        noisy = MorphDistance(range=[distance, distance], over=over).corrupt_masks(split_of(masks), 2, 1.0)
        np.testing.assert_array_equal(noisy, wanted)
