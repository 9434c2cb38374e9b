"""Image and mask take the same geometric path, and masks find their way back."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from noisybench.data.geometry import PAD_VALUE, Geometry, parse_geometry
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError

SHAPES = [(40, 40), (37, 53), (53, 37), (120, 65), (12, 9), (64, 200)]
SIZES = [(32, 32), (33, 47), (64, 24), (90, 96)]
MODES = ["resize", "letterbox", "crop", "tile"]


def scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a bright ellipse on a dark image, and its mask."""
    rows, columns = np.mgrid[:height, :width]
    inside = ((rows - 0.47 * height) / (0.3 * height)) ** 2 + ((columns - 0.52 * width) / (0.28 * width)) ** 2 <= 1
    mask = inside.astype(np.uint8)
    return np.repeat((50 + 150 * mask)[None], 3, axis=0).astype(np.uint8), mask


@pytest.mark.parametrize("mode", MODES)
def test_area_and_centroid_of_an_object_agree_in_image_and_mask(mode):
    for shape in SHAPES:
        pixels, mask = scene(*shape)
        for size in SIZES:
            for placement in Geometry(size, mode).placements(shape):
                image, target = placement.image(pixels), placement.mask(mask)
                assert image.shape == (3, *size)
                assert target.shape == size
                assert set(np.unique(target)) <= {0, 1, IGNORED}
                assert (image[:, target == IGNORED] == PAD_VALUE).all()
                bright, inside = image[0] > 125, target == 1
                if inside.sum() < 20:  # a corner of the object in a tile
                    continue
                # Pixels of the rim may fall on either side of the threshold, so one pixel along it may differ.
                rim = 4 * np.sqrt(inside.sum())
                assert abs(int(bright.sum()) - int(inside.sum())) <= rim
                for ours, theirs in zip(np.nonzero(bright), np.nonzero(inside), strict=True):
                    assert abs(ours.mean() - theirs.mean()) < 0.75, (shape, size)


@pytest.mark.parametrize("mode", MODES)
def test_a_restored_mask_gives_the_same_mask_again(mode):
    noise = np.random.default_rng(0)
    for shape in SHAPES:
        for size in SIZES:
            for placement in Geometry(size, mode).placements(shape):
                if placement.enlarges:
                    continue
                seen = placement.mask(np.zeros(shape, dtype=np.uint8)) != IGNORED
                mask = np.where(seen, noise.integers(0, 5, size), IGNORED).astype(np.uint8)
                restored = placement.restore(mask)
                assert restored.shape == shape
                np.testing.assert_array_equal(placement.mask(restored), mask)


def test_an_enlarged_mask_comes_back_unchanged():
    mask = np.random.default_rng(0).integers(0, 5, (12, 9)).astype(np.uint8)
    for mode in ("resize", "letterbox"):
        (placement,) = Geometry((90, 96), mode).placements(mask.shape)
        assert placement.enlarges
        np.testing.assert_array_equal(placement.restore(placement.mask(mask)), mask)


def test_tiles_show_every_pixel_once():
    source = np.arange(37 * 53).reshape(37, 53) % 251
    tiles = Geometry((16, 16), "tile").placements((37, 53))
    assert len(tiles) == 12
    restored = [tile.restore(tile.mask(source.astype(np.uint8))) for tile in tiles]
    assert ((np.stack(restored) != IGNORED).sum(0) == 1).all()
    np.testing.assert_array_equal(np.min(restored, axis=0), source)


def test_a_crop_is_that_of_pillow_and_its_loss_is_known():
    pixels, mask = scene(48, 64)
    (placement,) = Geometry((24, 24), "crop").placements((48, 64))
    expected = ImageOps.fit(Image.fromarray(pixels.transpose(1, 2, 0)), (24, 24), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(placement.image(pixels), np.asarray(expected).transpose(2, 0, 1))
    assert placement.lost_share == pytest.approx(0.25)
    restored = placement.restore(placement.mask(mask))
    assert (restored[:, :8] == IGNORED).all()
    assert (restored[:, 8:56] != IGNORED).all()


def test_sizes_are_one_or_two_sides():
    assert parse_geometry(96, "resize").size == (96, 96)
    assert parse_geometry([64, 96], "tile").size == (64, 96)
    for size in (7, [4, 64], [64], [64, 64, 3]):
        with pytest.raises(UserError, match=r"dataset\.size: must be one side or height and width"):
            parse_geometry(size, "resize")
    with pytest.raises(UserError, match=r"dataset\.resize_mode: tile needs a size"):
        parse_geometry(None, "tile")
