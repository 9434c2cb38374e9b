"""Augmentation of masks: the ranges that the documentation states, measured from where pixels come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from noisybench.tasks._mask_augmentation import _AugmentedImages, build_pipeline
from noisybench.utils.seeds import stable_hash

SIDE, DRAWS = 64, 200


def maps_back(kind: str) -> NDArray[np.float64]:
    """Return the (DRAWS, 2, 3) affine maps from places in augmented images to places in the original, from its center."""
    images = _AugmentedImages(torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8), kind)
    places = np.indices((SIDE, SIDE)).reshape(2, -1) - (SIDE - 1) / 2
    design = np.vstack([places, np.ones(SIDE * SIDE)]).T
    maps = []
    for seed in range(DRAWS):
        moved = images[0, stable_hash("image", seed)][1].numpy().ravel()
        inside = moved >= 0
        maps.append(np.linalg.lstsq(design[inside], places[:, moved[inside]].T, rcond=None)[0].T)
    return np.array(maps)


def places_of_centers(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (N, 2) places at which the centers of the originals are seen, from the center, in sides."""
    return np.asarray(-np.linalg.solve(maps[:, :, :2], maps[:, :, 2:])[:, :, 0] / SIDE)


def is_mirrored(maps: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.linalg.det(maps[:, :, :2]) < 0)


def assert_unrelated(first: NDArray[Any], second: NDArray[Any]) -> None:
    """Check that two draws are not correlated: over 5 standard deviations of the correlation of independent ones."""
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(len(first))


def assert_fills(values: NDArray[np.float64], low: float, high: float, tolerance: float) -> None:
    """Check that values lie in a range and come near to both of its ends."""
    assert low - tolerance <= values.min() <= low + 0.15 * (high - low)
    assert high - 0.15 * (high - low) <= values.max() <= high + tolerance


@pytest.fixture(scope="module")
def affine() -> NDArray[np.float64]:
    return maps_back("affine")


@pytest.fixture(scope="module")
def scale_crop() -> NDArray[np.float64]:
    return maps_back("scale_crop")


def test_affine_scales_by_four_fifths_to_three_halves(affine: Any) -> None:
    assert_fills(1 / np.linalg.svd(affine[:, :, :2], compute_uv=False), 0.8, 1.5, 0.02)


def test_affine_rotates_by_up_to_45_degrees_and_mirrors_half_of_the_images(affine: Any) -> None:
    linear, mirrored = affine[:, :, :2].copy(), is_mirrored(affine)
    assert 0.35 < mirrored.mean() < 0.65
    linear[mirrored, :, 1] *= -1
    # The rotation nearest to the map; scales that differ by direction do not turn it.
    left, _, right = np.linalg.svd(linear)
    turn = left @ right
    assert_fills(np.degrees(np.arctan2(turn[:, 1, 0], turn[:, 0, 0])), -45, 45, 2)


def test_affine_translates_by_up_to_a_tenth_in_both_directions(affine: Any) -> None:
    for axis in range(2):
        assert_fills(places_of_centers(affine)[:, axis], -0.1, 0.1, 0.015)


def test_mirroring_depends_on_no_other_draw(affine: Any, scale_crop: Any) -> None:
    for maps in (affine, scale_crop):
        mirrored, seen = is_mirrored(maps), places_of_centers(maps)
        assert_unrelated(mirrored, np.abs(np.linalg.det(maps[:, :, :2])))
        assert_unrelated(mirrored, seen[:, 0])
        # Before the image is mirrored.
        assert_unrelated(mirrored, np.where(mirrored, -1, 1) * seen[:, 1])


def test_scale_crop_scales_by_a_half_to_three_halves_and_keeps_the_axes(scale_crop: Any) -> None:
    linear = scale_crop[:, :, :2]
    assert_fills(1 / linear[:, 0, 0], 0.5, 1.5, 0.03)
    np.testing.assert_allclose(np.abs(linear[:, 1, 1]), linear[:, 0, 0], atol=0.05)
    np.testing.assert_allclose(linear[:, [0, 1], [1, 0]], 0, atol=0.02)
    assert 0.35 < is_mirrored(scale_crop).mean() < 0.65


def test_scale_crop_moves_small_and_large_images_in_both_directions(scale_crop: Any) -> None:
    scale = 1 / scale_crop[:, 0, 0]
    for chosen in (scale < 0.8, scale > 1.2):
        seen = places_of_centers(scale_crop[chosen])
        assert (seen.min(0) < -0.1).all()
        assert (seen.max(0) > 0.1).all()
        for axis in range(2):
            assert_unrelated(scale[chosen], seen[:, axis])


def test_scale_crop_changes_colors_slightly_and_affine_does_not() -> None:
    image = np.full((SIDE, SIDE, 3), (90, 120, 150), dtype=np.uint8)
    for kind, least in (("affine", 0), ("scale_crop", 5)):
        pipeline, changes = build_pipeline(kind, SIDE, SIDE), []
        for seed in range(40):
            pipeline.set_random_seed(seed)
            seen = pipeline(image=image, mask=np.zeros((SIDE, SIDE), dtype=np.int32))
            inside = seen["image"][seen["mask"] >= 0].astype(int)
            changes.append(np.abs(np.median(inside, axis=0) - image[0, 0]).max())
        assert least <= max(changes) <= 40 * (least > 0)
