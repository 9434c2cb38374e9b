"""Geometric path from source images to images of one size, the same for an image and its masks, and its inverse."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from noisybench.data.notes import ReadingNote, reading_note
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError

ResizeMode = Literal["resize", "letterbox", "crop", "tile"]
"""Treatment of images whose shape differs from the requested one.

- ``resize``: stretch the whole image, whatever its aspect ratio.
- ``letterbox``: keep the aspect ratio, and pad the shorter side equally at both ends.
- ``crop``: keep the aspect ratio, and cut off both ends of the longer side.
- ``tile``: keep every pixel, and cut the image into equal parts, each padded to the size at its right and lower end.
"""

PAD_VALUE = 0
"""Intensity of padded pixels; their masks have no label (`IGNORED`)."""

SMALLEST_SIDE = 8
"""Smallest side of an image in pixels."""

MIN_LOSS, MIN_STRETCH = 0.001, 0.02
"""Share of lost pixels and stretch above which a note mentions them; rounding to whole pixels alone gives less."""

Integer = TypeVar("Integer", np.uint8, np.uint16)

Shape = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Placement:
    """Rectangle of a source image, and the rectangle of the resized image that shows it.

    Attributes:
        source: height and width of the source image.
        target: height and width of the resized image.
        box: left, top, right and lower edge of the visible part of the source, in source pixels.
        area: left, top, right and lower edge of the pixels that show it; pixels outside of the area are padding.
        part: number of the tile in its source image; 0 in other modes.
        is_tile: True if it may show a part of the source image only, beside others.

    Examples:
        >>> placement = Geometry((4, 4), "letterbox").placements((4, 8))[0]
        >>> placement.mask(np.ones((4, 8), dtype=np.uint8))
        array([[255, 255, 255, 255],
               [  1,   1,   1,   1],
               [  1,   1,   1,   1],
               [255, 255, 255, 255]], dtype=uint8)
        >>> placement.restore(placement.mask(np.ones((4, 8), dtype=np.uint8))).min()
        np.uint8(1)
    """

    source: Shape
    target: Shape
    box: tuple[float, float, float, float]
    area: tuple[int, int, int, int]
    part: int = 0
    is_tile: bool = False

    @property
    def lost_share(self) -> float:
        """Share of the source image that lies outside of the box."""
        left, top, right, lower = self.box
        return 1 - (right - left) * (lower - top) / (self.source[0] * self.source[1])

    @property
    def stretch(self) -> float:
        """Ratio of the scales of both sides, the larger one divided by the smaller one; 1 keeps the aspect ratio."""
        width, height = self._area_shape
        ratio = (self.box[2] - self.box[0]) / width / ((self.box[3] - self.box[1]) / height)
        return max(ratio, 1 / ratio)

    @property
    def enlarges(self) -> bool:
        """Whether the resized image has more pixels in a direction than the part of the source that it shows."""
        width, height = self._area_shape
        return width > self.box[2] - self.box[0] or height > self.box[3] - self.box[1]

    @property
    def _area_shape(self) -> tuple[int, int]:
        return self.area[2] - self.area[0], self.area[3] - self.area[1]

    def image(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a (C, H, W) source image in the target's size, bilinear and antialiased; padding is `PAD_VALUE`."""
        from PIL import Image

        self._check(pixels.shape[1:], self.source)
        filled = np.full((len(pixels), *self.target), PAD_VALUE, dtype=np.uint8)
        left, top, right, lower = self.area
        for channel, plane in zip(pixels, filled, strict=True):
            picture = Image.fromarray(np.ascontiguousarray(channel))
            # Pillow reads target pixel i around start + (i + 0.5) * scale of the box, as `_read_positions` does.
            resized = picture.resize(self._area_shape, Image.Resampling.BILINEAR, box=self.box)
            plane[top:lower, left:right] = np.asarray(resized)
        return filled

    def mask(self, mask: NDArray[Integer], outside: int = IGNORED) -> NDArray[Integer]:
        """Return an (H, W) mask of the source image in the target's size, nearest neighbor; padding is ``outside``."""
        self._check(mask.shape, self.source)
        filled = np.full(self.target, outside, dtype=mask.dtype)
        left, top, right, lower = self.area
        # Interpolation would blend class indices into classes that occur nowhere near, so only nearest neighbor is valid.
        rows = _read_positions(self.box[1::2], lower - top, self.source[0])
        columns = _read_positions(self.box[::2], right - left, self.source[1])
        filled[top:lower, left:right] = mask[np.ix_(rows, columns)]
        return filled

    @staticmethod
    def _check(shape: tuple[int, ...], expected: Shape) -> None:
        if shape != expected:
            raise ValueError(f"expected {expected[1]}x{expected[0]} pixels, but got an array of shape {shape}")

    def restore(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return an (H, W) mask of the target's size in the source's, nearest neighbor; `IGNORED` outside of the box.

        `mask` gives the same mask again, unless the target has more pixels than the source (`enlarges`).
        """
        rows = _positions(self.source[0], self.box[1::2], self.area[1::2])
        columns = _positions(self.source[1], self.box[::2], self.area[::2])
        self._check(mask.shape, self.target)
        restored = np.full(self.source, IGNORED, dtype=np.uint8)
        inside = np.ix_(rows >= 0, columns >= 0)
        restored[inside] = mask[np.ix_(rows[rows >= 0], columns[columns >= 0])]
        return restored


def _read_positions(box: tuple[float, ...], count: int, length: int) -> NDArray[np.int64]:
    """Return the position in a source of ``length`` pixels of the center of each of ``count`` target pixels."""
    start, stop = box
    positions = np.floor(start + (np.arange(count) + 0.5) * (stop - start) / count).astype(np.int64)
    return np.asarray(np.clip(positions, 0, length - 1))


def _positions(length: int, box: tuple[float, ...], area: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the position in the target of each of ``length`` pixels of the source; -1 outside of the box."""
    (start, stop), (first, last) = box, area
    count = last - first
    positions: NDArray[np.int64] = np.floor((np.arange(length) + 0.5 - start) * count / (stop - start)).astype(np.int64)
    outside = (positions < 0) | (positions >= count)
    positions += first
    positions[outside] = -1
    # A source pixel maps back to the target pixel that is read from it, even where rounding would decide otherwise.
    positions[_read_positions(box, count, length)] = np.arange(first, last)
    return positions


@dataclass(frozen=True)
class Geometry:
    """Size and mode of a dataset's images.

    Attributes:
        size: height and width of all images; None keeps those of the source.
        mode: treatment of other shapes.

    Examples:
        >>> [placement.box for placement in Geometry((8, 8), "tile").placements((8, 12))]
        [(0, 0, 6, 8), (6, 0, 12, 8)]
        >>> Geometry((8, 8), "crop").placements((8, 12))[0].box
        (2.0, 0.0, 10.0, 8.0)
    """

    size: Shape | None
    mode: ResizeMode = "resize"

    def placements(self, source: Shape) -> tuple[Placement, ...]:
        """Return the placement of a source image of some height and width, one for each tile."""
        height, width = source
        target = self.size or source
        full, everything = (0, 0, width, height), (0, 0, target[1], target[0])
        if source == target or self.mode == "resize":
            return (Placement(source, target, full, everything, is_tile=self.mode == "tile"),)
        if self.mode == "letterbox":
            return (Placement(source, target, full, _letterbox(source, target)),)
        if self.mode == "crop":
            return (Placement(source, target, _center_crop(source, target), everything),)
        rows, columns = (_parts(side, limit) for side, limit in zip(source, target, strict=True))
        boxes = [(left, top, right, lower) for top, lower in rows for left, right in columns]
        return tuple(
            Placement(source, target, (left, top, right, lower), (0, 0, right - left, lower - top), number, True)
            for number, (left, top, right, lower) in enumerate(boxes)
        )


def _letterbox(source: Shape, target: Shape) -> tuple[int, int, int, int]:
    """Return the centered area with the aspect ratio of the source."""
    scale = min(goal / side for side, goal in zip(source, target, strict=True))
    height, width = (min(goal, max(1, round(side * scale))) for side, goal in zip(source, target, strict=True))
    top, left = (target[0] - height) // 2, (target[1] - width) // 2
    return left, top, left + width, top + height


def _center_crop(source: Shape, target: Shape) -> tuple[float, float, float, float]:
    """Return the largest centered box with the aspect ratio of the target, as `PIL.ImageOps.fit` does."""
    height, width = source
    ratio = target[1] / target[0]
    crop_width, crop_height = float(width), float(height)
    if width / height >= ratio:
        crop_width = ratio * height
    else:
        crop_height = width / ratio
    left, top = (width - crop_width) * 0.5, (height - crop_height) * 0.5
    return left, top, left + crop_width, top + crop_height


def _parts(side: int, limit: int) -> list[tuple[int, int]]:
    """Return start and end of the fewest parts of at most ``limit`` pixels, which differ by one pixel at most."""
    count = math.ceil(side / limit)
    edges = [side * number // count for number in range(count + 1)]
    return list(itertools.pairwise(edges))


def parse_geometry(size: int | list[int] | None, mode: ResizeMode, location: str = "dataset") -> Geometry:
    """Return the geometry of the parameters `size` and `resize_mode`.

    Args:
        size: side of square images, height and width, or None.
        mode: treatment of other shapes.
        location: prefix of the parameters in messages.

    Raises:
        UserError: the size is not one or two sides of at least 8 pixels, or the mode needs one.

    Examples:
        >>> parse_geometry([256, 512], "letterbox").size
        (256, 512)
        >>> parse_geometry(96, "crop").size
        (96, 96)
    """
    if mode not in get_args(ResizeMode):
        raise UserError(f"{location}.resize_mode: must be {', '.join(get_args(ResizeMode))}, but got {mode}")
    if size is None:
        if mode != "resize":
            raise UserError(f"{location}.resize_mode: {mode} needs a size; set one, such as {location}.size=256x512")
        return Geometry(None, mode)
    sides = [size, size] if isinstance(size, int) else list(size)
    if len(sides) != 2 or min(sides) < SMALLEST_SIDE:
        raise UserError(
            f"{location}.size: must be one side or height and width in pixels, such as 256 or 256x512, each at least "
            f"{SMALLEST_SIDE}, but got {size}"
        )
    return Geometry((sides[0], sides[1]), mode)


def geometry_notes(
    geometry: Geometry, placements: Sequence[Placement], names: Sequence[str]
) -> tuple[ReadingNote, ...]:
    """Return notes about images of which a geometry loses pixels or proportions.

    Args:
        geometry: the geometry.
        placements: placement of each example.
        names: name of the source image of each example.

    Examples:
        >>> crop = Geometry((8, 8), "crop")
        >>> [str(note) for note in geometry_notes(crop, crop.placements((8, 16)), ["a.png"])]
        ['dataset.resize_mode=crop cuts off up to 50 % of an image; resize, letterbox and tile lose nothing (1: a.png)']
    """
    if geometry.mode == "crop":
        lost = [placement.lost_share for placement in placements]
        return reading_note(
            "cropped",
            f"dataset.resize_mode=crop cuts off up to {max(lost, default=0):.0%} of an image; resize, letterbox and tile "
            "lose nothing".replace("%", " %"),
            [name for name, share in zip(names, lost, strict=True) if share > MIN_LOSS],
        )
    stretches = [placement.stretch for placement in placements]
    if geometry.mode != "resize":
        return ()
    return reading_note(
        "stretched",
        f"dataset.resize_mode=resize stretches images by up to {max(stretches, default=1) - 1:.0%}; letterbox, crop and tile "
        "keep their shape".replace("%", " %"),
        [name for name, stretch in zip(names, stretches, strict=True) if stretch > 1 + MIN_STRETCH],
    )
