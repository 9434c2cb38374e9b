"""Drawn images of one ellipse-like object, and the shape model that draws them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import label

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.masks.ellipses import EllipseModel
from noisybench.utils.seeds import Stream


def ellipses(**values: int) -> Dataset:
    made: Dataset = get_entry("datasets", "ellipses").load_class()(**values).load()
    return made


def test_an_image_has_one_object_and_is_brighter_there() -> None:
    split = ellipses(train_images=20, validation_images=2, test_images=2).train
    assert split.inputs.shape == (20, 1, 64, 64)
    for image, mask in zip(split.inputs[:, 0], split.targets, strict=True):
        assert label(mask)[1] == 1
        assert 0.03 < mask.mean() < 0.35
        assert image[mask == 1].mean() > image[mask == 0].mean()


def test_images_do_not_depend_on_how_many_there_are() -> None:
    few, more = (ellipses(size=32, train_images=count, validation_images=2, test_images=2) for count in (3, 6))
    np.testing.assert_array_equal(few.train.inputs, more.train.inputs[:3])
    np.testing.assert_array_equal(few.train.targets, more.train.targets[:3])
    other = ellipses(size=32, train_images=3, validation_images=2, test_images=2, image_seed=1)
    assert (other.train.targets != few.train.targets).any()


@pytest.mark.parametrize("number", range(4))
def test_the_shape_model_draws_ellipses_of_its_range(number: int) -> None:
    model = EllipseModel(min_axis=0.2, max_axis=0.2, min_ratio=0.5)
    mask = model.draw(Stream("shape", number), (80, 60))
    ratio = mask.sum() / (math.pi * 12**2)
    assert 0.48 < ratio < 1.02, "the area of an ellipse with semi-axes 12 and 6 to 12"
    edges = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert not edges.any()


def test_a_wobble_changes_the_outline_but_not_the_pose() -> None:
    straight, bent = (EllipseModel(0.2, 0.2, wobble=wobble).draw(Stream("shape"), (64, 64)) for wobble in (0, 0.2))
    common = (straight & bent).sum() / (straight | bent).sum()
    assert 0.7 < common < 0.99
