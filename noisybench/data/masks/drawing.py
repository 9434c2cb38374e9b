"""Masks drawn from annotations: polygons and run-length codes, as COCO, YOLO and LabelMe store them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.data.targets import IGNORED
from noisybench.errors import UserError, show
from noisybench.utils.files import first_line
from noisybench.utils.places import check_file

Overlap = Literal["smallest", "last", "ignore"]
"""Class of pixels that objects of several classes cover: that of the smallest object, of the last one, or no label."""

MAX_SIDE = 2**15
"""Largest side of a mask that is drawn, in pixels."""


@dataclass(frozen=True)
class Outline:
    """Region of one object.

    Attributes:
        target: class, or `IGNORED`.
        polygons: x and y of the corners of each part, alternating, in pixels (or in shares of the sides).
        counts: lengths of runs of pixels outside and inside of the region, column by column; None for polygons.
    """

    target: int
    polygons: tuple[tuple[float, ...], ...] = ()
    counts: tuple[int, ...] | None = None

    @property
    def area(self) -> float:
        """Area of all parts, in the square of the unit of the coordinates."""
        if self.counts is not None:
            return float(sum(self.counts[1::2]))
        parts = [np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in self.polygons]
        # Gauss's shoelace formula.
        return sum(
            abs(float((part[:, 0] * np.roll(part[:, 1], -1) - part[:, 1] * np.roll(part[:, 0], -1)).sum())) / 2
            for part in parts
        )


@dataclass(frozen=True)
class DrawnObjects:
    """Mask of an image from the outlines of its objects.

    Attributes:
        origin: annotation in messages.
        image: the image, whose size counts.
        shape: height and width that the annotation states; None if it states none.
        outlines: the objects.
        overlap: class of pixels of several objects. Regions without a label lie below all others.
        normalized: True if coordinates are shares of the sides instead of pixels.
        problem: reason why the annotations cannot be used.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> image = Path(tempfile.mkdtemp()) / "000.png"
        >>> Image.new("L", (4, 4)).save(image)
        >>> square = Outline(1, ((1.0, 1.0, 3.0, 1.0, 3.0, 3.0, 1.0, 3.0),))
        >>> DrawnObjects("000.json", image, (4, 4), (square,)).draw()
        array([[0, 0, 0, 0],
               [0, 1, 1, 0],
               [0, 1, 1, 0],
               [0, 0, 0, 0]], dtype=uint8)
    """

    origin: str
    image: Path
    shape: tuple[int, int] | None
    outlines: tuple[Outline, ...]
    overlap: Overlap = "smallest"
    normalized: bool = False
    problem: str = ""

    def __str__(self) -> str:
        return self.origin

    @property
    def key(self) -> str:
        """Digest of the content."""
        content = (self.origin, self.shape, self.overlap, self.normalized, self.outlines, self.problem)
        return hashlib.sha256(repr(content).encode(errors="surrogatepass")).hexdigest()

    def draw(self) -> NDArray[np.uint8]:
        """Return (H, W) uint8 classes and `IGNORED`; pixels without an object are 0.

        Raises:
            UserError: coordinates or run lengths are invalid, or there is a `problem`.
        """
        if self.problem:
            raise UserError(f"{self.origin}: {self.problem}")
        # From the header alone, so that an annotation of enormous size takes no memory.
        shape = shown_shape(self.image)
        if self.shape is not None and self.shape != shape:
            raise UserError(
                f"{self.origin}: the annotation is for {self.shape[1]}x{self.shape[0]} pixels, but the image has "
                f"{shape[1]}x{shape[0]} as viewers show it; annotate the present image, or restore the former one"
            )
        outlines = list(self.outlines)
        if self.overlap == "smallest":
            # Stable: of objects of equal size, the last one is on top.
            outlines.sort(key=lambda outline: -outline.area)
        mask = np.zeros(shape, dtype=np.uint8)
        objects = np.full(shape, -1, dtype=np.int16)
        conflicts = np.zeros(shape, dtype=bool)
        for outline in outlines:
            try:
                region = self._region(outline, shape)
            except UserError as error:
                raise UserError(f"{self.origin}: {error}") from None
            if outline.target == IGNORED:
                mask[region] = IGNORED
                continue
            conflicts |= region & (objects >= 0) & (objects != outline.target)
            objects[region] = outline.target
        mask[objects >= 0] = objects[objects >= 0]
        if self.overlap == "ignore":
            mask[conflicts] = IGNORED
        return mask

    def _region(self, outline: Outline, shape: tuple[int, int]) -> NDArray[np.bool_]:
        if outline.counts is not None:
            return decode_runs(outline.counts, shape)
        scale = (shape[1], shape[0]) if self.normalized else (1, 1)
        region = np.zeros(shape, dtype=bool)
        for polygon in outline.polygons:
            region |= fill_polygon(np.array(polygon, dtype=np.float64).reshape(-1, 2) * scale, shape)
        return region


def fill_polygon(points: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels whose centers lie inside of a polygon, by the even-odd rule.

    The upper left corner of the image is (0, 0) and the center of its first pixel (0.5, 0.5), as in COCO. Parts outside of
    the image are clipped.

    Args:
        points: (K, 2) x and y of the corners.
        shape: height and width of the image.

    Example:
        >>> fill_polygon(np.array([[0, 0], [2, 0], [2, 1], [0, 1]], dtype=float), (2, 3)).astype(int)
        array([[1, 1, 0],
               [0, 0, 0]])
    """
    height, width = shape
    region = np.zeros(shape, dtype=bool)
    # Objects are mostly much smaller than their images, so only the bounding box is filled.
    bounds = np.ceil(np.array([points.min(axis=0), points.max(axis=0)]) - 0.5)
    (left, top), (right, lower) = np.clip(bounds, 0, (width, height)).astype(np.int64).tolist()
    toggles = np.zeros((lower - top, right - left + 1), dtype=np.int32)
    starts, ends = points, np.roll(points, -1, axis=0)
    for (x0, y0), (x1, y1) in zip(starts.tolist(), ends.tolist(), strict=True):
        if y0 == y1:
            continue
        (x0, y0), (x1, y1) = ((x0, y0), (x1, y1)) if y0 < y1 else ((x1, y1), (x0, y0))
        # Rows whose centers lie in [y0, y1): half open, so that a corner counts for one of its edges.
        first, last = (math.ceil(min(max(y, 0.0), float(height)) - 0.5) for y in (y0, y1))
        if first >= last:
            continue
        rows = np.arange(first, last)
        crossings = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        columns = np.clip(np.ceil(crossings - 0.5), left, right).astype(np.int64)
        # All rows differ, so that plain indexing adds each crossing.
        toggles[rows - top, columns - left] += 1
    region[top:lower, left:right] = np.cumsum(toggles, axis=1)[:, :-1] % 2 == 1
    return region


def check_polygon(polygon: object) -> tuple[float, ...]:
    """Return the coordinates of a polygon.

    Raises:
        UserError: they are no list of at least three pairs of finite numbers.

    Example:
        >>> check_polygon([0, 0, 4])
        Traceback (most recent call last):
        noisybench.errors.UserError: a polygon needs at least 3 pairs of coordinates, but has 3 numbers
    """
    if not isinstance(polygon, list) or not all(type(value) in (int, float) for value in polygon):
        raise UserError(f"a polygon needs a list of numbers, but is {show(polygon)}")
    if len(polygon) < 6 or len(polygon) % 2:
        raise UserError(f"a polygon needs at least 3 pairs of coordinates, but has {len(polygon)} numbers")
    try:
        values = tuple(float(value) for value in polygon)
    except OverflowError:
        values = (math.inf,)
    if not all(map(math.isfinite, values)):
        raise UserError("a polygon has a coordinate that is NaN or infinite")
    return values


def is_outside(
    polygon: Sequence[float], shape: tuple[int, int], margin: float = 1.0
) -> Literal["no", "partly", "entirely"]:
    """Return whether a polygon reaches beyond an image by more than a margin.

    Example:
        >>> is_outside((0, 0, 9, 0, 9, 3), (4, 4)), is_outside((5, 5, 9, 5, 9, 9), (4, 4))
        ('partly', 'entirely')
    """
    xs, ys = polygon[::2], polygon[1::2]
    height, width = shape
    if min(xs) >= width or min(ys) >= height or max(xs) <= 0 or max(ys) <= 0:
        return "entirely"
    reaches_out = min(*xs, *ys) < -margin or max(xs) > width + margin or max(ys) > height + margin
    return "partly" if reaches_out else "no"


def decode_runs(counts: Sequence[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the region of run lengths, which alternate between outside and inside, column by column.

    Raises:
        UserError: their sum is not the number of pixels.

    Example:
        >>> decode_runs([1, 2, 1], (2, 2)).astype(int)
        array([[0, 1],
               [1, 0]])
    """
    total = sum(counts)
    if min(counts, default=0) < 0:
        raise UserError("the run lengths are negative; they are damaged")
    if total != shape[0] * shape[1]:
        raise UserError(
            f"the run lengths cover {total} pixels, but {shape[1]}x{shape[0]} are {shape[0] * shape[1]}; they belong to "
            "another image or are damaged"
        )
    inside = np.arange(len(counts)) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside, counts).reshape(shape, order="F"))


def encode_runs(region: NDArray[np.bool_]) -> tuple[int, ...]:
    """Return the run lengths of an (H, W) region, from which `decode_runs` makes it again.

    Example:
        >>> encode_runs(np.array([[False, True], [True, False]]))
        (1, 2, 1)
    """
    flat = region.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes.tolist(), flat.size]).tolist()
    return (0, *counts) if flat[0] else tuple(counts)


def parse_runs(text: str) -> tuple[int, ...]:
    """Return the run lengths of COCO's compressed text.

    Every character holds five bits and a bit for "more follows"; from the fourth number on, the difference to the second
    last one is stored.

    Raises:
        UserError: the text contains other characters or ends early.

    Example:
        >>> parse_runs("06\\\\")
        Traceback (most recent call last):
        noisybench.errors.UserError: the compressed run lengths end within a number
        >>> parse_runs("132")
        (1, 3, 2)
    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise UserError(f"the compressed run lengths contain {show(character)}")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    if shift:
        raise UserError("the compressed run lengths end within a number")
    return tuple(counts)


def shown_shape(file: Path) -> tuple[int, int]:
    """Return height and width of an image as viewers show it, from its header alone.

    Raises:
        UserError: it is missing, damaged or not an image.
    """
    from PIL import Image

    from noisybench.data.images.decoding import ORIENTATION_TAG, available_formats

    check_file(file)
    try:
        with Image.open(file, formats=available_formats()) as opened:
            width, height = opened.size
            turned = opened.getexif().get(ORIENTATION_TAG, 1) in (5, 6, 7, 8)
    except Exception as error:  # decoders raise anything on damaged files
        raise UserError(f"{file}: damaged or not an image ({first_line(error)}); replace or remove it") from None
    return (width, height) if turned else (height, width)


def read_json(path: Path, location: str = "dataset.root") -> Any:
    """Return the content of a JSON file.

    Raises:
        UserError: it is missing, not in UTF-8, not JSON, or nested too deeply.
    """
    try:
        return json.loads(check_file(path, location).read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except RecursionError:
        raise UserError(f"{location}: {path} is nested too deeply for annotations") from None
    except ValueError as error:
        raise UserError(f"{location}: {path} is not JSON ({first_line(error)}); export the annotations again") from None


def check_shape(height: Any, width: Any) -> tuple[int, int]:
    """Return the height and width that an annotation states.

    Raises:
        UserError: they are no integers from 1 to `MAX_SIDE`.
    """
    # Tables of numbers may have made 640.0 of 640.
    sides = [int(side) if isinstance(side, float) and side.is_integer() else side for side in (height, width)]
    if all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides):
        return sides[0], sides[1]
    raise UserError(
        f"needs width and height as integers from 1 to {MAX_SIDE}, but has {show(width)} and {show(height)}"
    )
