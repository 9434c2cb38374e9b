"""Noise in masks without a background acts between neighboring classes, and every class counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from noisybench.config.registry import get_entry, list_entries
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.mitigations._mask_correction import correct_masks

SKY, BUILDING, ROAD, CAR, POLE = range(5)
NAMES = ("Sky", "Building", "Road", "Car", "Pole")
MAX_MOVE = 14
"""Number of pixels by which no default of the noise models below moves a boundary."""


def street(number: int) -> NDArray[np.uint8]:
    """Return sky above buildings, a road below them, cars on the road, and a strip without a label."""
    mask = np.full((96, 96), ROAD, dtype=np.uint8)
    mask[: 18 + number], mask[18 + number : 60] = SKY, BUILDING
    mask[70:82, 10 + 5 * number : 30 + 5 * number] = CAR
    mask[64:80, 75:80] = POLE
    mask[90:] = IGNORED
    return mask


@pytest.fixture(scope="module")
def streets() -> Dataset:
    masks = np.stack([street(number) for number in range(6)])
    images = np.zeros((6, 3, 96, 96), dtype=np.uint8)
    split = Split(images, masks, np.arange(6))
    return Dataset("streets", split, replace(split, index=np.arange(6, 12)), split, NAMES, 12, has_background=False)


def corrupt(dataset: Dataset, name: str, **parameters: Any) -> LabelSet:
    labels: LabelSet = get_entry("noise_models", name).load_class()(**parameters).apply(dataset)
    return labels


MOVING = {
    "morph_scaled": {}, "morph_distance": {}, "morph_disc": {"corrupted_fraction": 1.0}, "markov_boundary": {},
    "polygon": {}, "vertex_jitter": {}, "elastic": {"amplitude": 3.0}, "annotators": {"shares": [0, 1, 1, 0, 0]},
}  # fmt: skip


@pytest.mark.parametrize("name", MOVING)
def test_a_pixel_changes_to_the_class_of_a_neighbor_only(streets, name):
    changed_pixels = 0
    for seed in range(2):
        noisy = corrupt(streets, name, seed=seed, **MOVING[name]).train
        for mask, clean in zip(noisy, streets.train.targets, strict=True):
            assert ((mask == IGNORED) == (clean == IGNORED)).all()
            changed = mask != clean
            changed_pixels += changed.sum()
            for label in range(len(NAMES)):
                distance = distance_transform_edt(clean != label)
                assert (distance[changed & (mask == label)] <= MAX_MOVE).all(), NAMES[label]
            # Sky ends above the buildings, far from the road, the cars and the pole.
            assert not (mask[60:] == SKY).any()
    assert changed_pixels > 200


@pytest.mark.parametrize(
    "name", ["omission", "affine_shift", "coco_n", "class_swap", "inclusion", "object_noise", "pixel_flip"]
)
def test_noise_of_whole_objects_leaves_no_hole_of_class_0(streets, name):
    noisy = corrupt(streets, name, **({"rates": [0.5]} if name == "omission" else {})).train
    assert ((noisy == IGNORED) == (streets.train.targets == IGNORED)).all()
    assert (noisy != streets.train.targets).any()
    assert noisy[noisy != IGNORED].max() < len(NAMES)
    if name == "affine_shift":
        sky = (noisy == SKY) & (streets.train.targets != SKY)
        assert not sky[:, 64:].any()


def test_pseudo_labels_need_a_background(streets):
    with pytest.raises(UserError, match="needs objects on a background"):
        corrupt(streets, "pseudo_labels", source="boxes")


def test_every_noise_model_of_masks_is_covered_here():
    listed = {*MOVING, "omission", "affine_shift", "coco_n", "class_swap", "inclusion", "object_noise", "pixel_flip"}
    names = list_entries("noise_models")
    masks = {name for name in names if "segmentation" in get_entry("noise_models", name).load_class().tasks}
    assert masks - listed <= {"from_folder", "from_file", "real_world", "clean", "pseudo_labels"}


def test_the_smaller_class_moves_a_boundary_in_both_directions(streets):
    clean = streets.train.targets
    for over, sign in ((1.0, 1), (0.0, -1)):
        noisy = corrupt(streets, "morph_scaled", over=over).train
        change = [int((noisy == label).sum()) - int((clean == label).sum()) for label in range(len(NAMES))]
        assert change[CAR] * sign > 0, NAMES[CAR]
        assert change[POLE] * sign > 0, NAMES[POLE]


def test_statistics_count_every_class(streets):
    labels = corrupt(streets, "vertex_jitter", target_miou=0.8)
    found = labels.manifest["masks"]
    assert found["miou"] == pytest.approx(np.mean([value for value in found["iou"] if value is not None]))
    assert found["miou"] == pytest.approx(0.8, abs=0.011)
    assert found["area_bias"] is None
    assert labels.manifest["dataset"]["background"] is False
    with pytest.raises(UserError, match="needs a background"):
        corrupt(streets, "pixel_flip", kind="foreground")


def test_a_correction_treats_class_0_like_others():
    labels = torch.tensor([[[1, 1, 2, 2]]], dtype=torch.uint8)
    predicted = torch.tensor([[[0, 1, 0, 1]]], dtype=torch.uint8)
    confidence, memorized = torch.ones(1, 1, 4), torch.tensor([True, True, True])
    with_background = correct_masks(labels, predicted, confidence, memorized, 0.8, "both", protect_small_objects=False)
    assert with_background.tolist() == [[[0, 1, 0, 1]]]
    # Class 0 does not occur in the labels of the image, so that it may not occur in the corrected ones either.
    alike = correct_masks(labels, predicted, confidence, memorized, 0.8, "both", has_background=False)
    assert alike.tolist() == [[[1, 1, 2, 1]]]
