"""Classes of the values and colors in mask files: every value is declared, or a class index itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.images.decoding import available_formats, bomb_reason, has_16_bits
from noisybench.data.targets import IGNORED
from noisybench.data.volumes.volumes import to_integers
from noisybench.errors import UserError, show
from noisybench.utils.files import first_line

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".jpg", ".jpeg", ".webp", ".pgm", ".ppm")
"""Suffixes of mask files."""

LOSSY_SUFFIXES = (".jpg", ".jpeg")
"""Suffixes of mask files whose compression changes values."""

MAX_TOLERANCE = 127
"""Largest tolerance: half of the distance between black and white."""

Color = tuple[int, int, int]
"""Red, green and blue from 0 to 255."""

_VALUE_MODES = ("1", "P", "PA", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F", "RGB", "RGBA")
_COLOR_MODES = ("1", "P", "L", "RGB", "RGBA", "LA", "PA")


@dataclass(frozen=True)
class MaskValues:
    """Class of each value, or of each color, in mask files.

    Attributes:
        classes: class of each value; None if values are class indices. A value 0 that is not listed is class 0.
        colors: class of each color; None if masks have one value per pixel.
        tolerance: largest difference at which a value (or a channel of a color) counts as the nearest declared one.

    Raises:
        UserError: a class is invalid, or the tolerance does not separate the declared values.

    Example:
        >>> MaskValues({255: 1}).to_classes(np.array([[0, 255]], dtype=np.uint8))
        array([[0, 1]], dtype=uint8)
        >>> MaskValues({0: 0, 255: 1}, tolerance=20).to_classes(np.array([[7, 250]], dtype=np.uint8))
        array([[0, 1]], dtype=uint8)
        >>> MaskValues({0: 0, 255: 1}).to_classes(np.array([[7, 255]], dtype=np.uint8))
        Traceback (most recent call last):
        noisybench.errors.UserError: contains the undeclared value 7 (50 % of its pixels)
    """

    classes: Mapping[int, int] | None = None
    colors: Mapping[Color, int] | None = None
    tolerance: int = 0

    def __post_init__(self) -> None:
        if self.classes is not None and self.colors is not None:
            raise UserError("dataset: `values` and `colors` exclude each other; remove one of them")
        if self.classes is not None and 0 not in self.classes:
            # Last, because `to_values` writes the first value of a class.
            object.__setattr__(self, "classes", {**self.classes, 0: 0})
        name, table = ("colors", self.colors) if self.colors is not None else ("values", self.classes)
        if table is None:
            if self.tolerance:
                raise UserError(
                    "dataset.value_tolerance: needs declared values, such as dataset.values={0: 0, 255: 1}, or dataset.colors"
                )
            return
        for key, target in table.items():
            if not 0 <= target <= IGNORED:
                raise UserError(
                    f"dataset.{name}: {show(key)} has the class {target}, but classes range from 0 to 254, and 255 means no label"
                )
        keys = np.array(list(table), dtype=np.int64).reshape(len(table), -1)
        if self.tolerance and len(keys) > 1 and 2 * self.tolerance >= (gap := _smallest_distance(keys)):
            raise UserError(
                f"dataset.value_tolerance: must be below half of the smallest distance between declared {name} ({gap}), but "
                f"got {self.tolerance}"
            )

    @property
    def declared(self) -> bool:
        """True if there is a table of values or colors."""
        return self.classes is not None or self.colors is not None

    @property
    def targets(self) -> tuple[int, ...]:
        """Sorted classes of the table, without `IGNORED`."""
        table = self.colors if self.colors is not None else self.classes or {}
        return tuple(sorted({target for target in table.values() if target != IGNORED}))

    @property
    def key(self) -> str:
        """Text that identifies the table and the tolerance."""
        values = None if self.classes is None else sorted(self.classes.items())
        colors = None if self.colors is None else sorted(self.colors.items())
        return f"{values} {colors} {self.tolerance}"

    def class_of(self, value: int | Color) -> int | None:
        """Return the class of a value or a color; None if there is none."""
        return self.classes_of([value])[0]

    def classes_of(self, values: Sequence[int | Color]) -> list[int | None]:
        """Return the class of each of some values or colors; None for those without.

        Example:
            >>> MaskValues({0: 0, 255: 1}, tolerance=20).classes_of([7, 100, 250])
            [0, None, 1]
        """
        table: Mapping[Any, int] | None = self.classes if self.colors is None else self.colors
        if table is None:
            return [value if isinstance(value, int) and 0 <= value <= IGNORED else None for value in values]
        if not self.tolerance or not values:
            return [table.get(value) for value in values]
        wanted = np.array(values, dtype=np.int64).reshape(len(values), -1)
        targets = np.full(len(values), -1, dtype=np.int64)
        nearest = np.full(len(values), self.tolerance + 1, dtype=np.int64)
        # One declared value at a time, because a color photograph has 100,000 colors.
        for key, target in table.items():
            distance = np.abs(wanted - np.array(key, dtype=np.int64)).max(axis=1)
            closer = distance < nearest
            targets[closer], nearest[closer] = target, distance[closer]
        return [None if target < 0 else target for target in targets.tolist()]

    def to_classes(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the class of each pixel.

        Args:
            pixels: (H, W) integers or (H, W, 3) uint8 colors, as `read_values` returns them.

        Returns:
            (H, W) uint8 classes and `IGNORED`.

        Raises:
            UserError: a pixel has a value or a color without a class; the message names the most frequent ones.
        """
        if pixels.ndim == 3 and self.colors is None:
            raise UserError(
                "a mask has one value per pixel (palette or grayscale), but this image has colors; declare their classes, such "
                'as dataset.colors={"128,0,0": 1}'
            )
        counts = count_values(pixels)
        classes = dict(zip(counts, self.classes_of(list(counts)), strict=True))
        unknown = [value for value in counts if classes[value] is None]
        if unknown:
            raise UserError(self._describe(unknown, counts))
        packed = pack(pixels) if pixels.ndim == 3 else pixels
        targets = np.array([target for target in classes.values() if target is not None], dtype=np.uint8)
        if pixels.dtype == np.uint8 and pixels.ndim == 2:
            table = np.zeros(256, dtype=np.uint8)
            table[np.array(list(counts), dtype=np.int64)] = targets
            return np.asarray(table[pixels])
        keys = np.array([_packed(value) for value in counts], dtype=np.int64)
        order = np.argsort(keys)
        return targets[order][np.searchsorted(keys[order], packed)]

    def _describe(self, unknown: list[int | Color], counts: Mapping[int | Color, int]) -> str:
        """Return the problem of values without a class."""
        listed = sorted(unknown, key=lambda value: -counts[value])[:5]
        share = 100 * sum(counts[value] for value in unknown) / max(1, sum(counts.values()))
        many = len(unknown) > 1
        names = ", ".join(map(show_value, listed)) + (" …" if len(unknown) > len(listed) else "")
        if not self.declared:
            return f"contains the value{'s' * many} {names}, but classes range from 0 to 254, and 255 means no label"
        kind = "color" if self.colors is not None else "value"
        return f"contains the undeclared {kind}{'s' * many} {names} ({share:.3g} % of its pixels)"

    def to_values(self, mask: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the values or colors of a file from which `to_classes` reads a mask.

        Args:
            mask: (H, W) uint8 classes and `IGNORED`.

        Returns:
            (H, W) uint8, uint16 or int32 values, or (H, W, 3) uint8 colors: the first declared ones of each class.

        Raises:
            UserError: a class of the mask has no value, as for pixels without a label if no value means that.

        Example:
            >>> MaskValues({0: 0, 255: 1}).to_values(np.array([[0, 1]], dtype=np.uint8))
            array([[  0, 255]], dtype=uint8)
        """
        table: Mapping[Any, int] | None = self.colors if self.colors is not None else self.classes
        if table is None:
            return mask
        first: dict[int, Any] = {}
        for value, target in table.items():
            first.setdefault(target, value)
        missing = sorted(set(np.unique(mask).tolist()) - set(first))
        if missing:
            raise UserError(
                f"dataset.{'values' if self.colors is None else 'colors'}: no value stands for the class {missing[0]}, so that "
                "the mask cannot be written"
            )
        highest, lowest = (0, 0) if self.colors is not None else (max(first.values()), min(first.values()))
        dtype = (
            np.uint8 if lowest >= 0 and highest < 256 else np.uint16 if lowest >= 0 and highest < 2**16 else np.int32
        )
        lookup = np.zeros((256, 3) if self.colors is not None else 256, dtype=dtype)
        for target, value in first.items():
            lookup[target] = value
        return lookup[mask]


def read_values(file: Path, as_colors: bool = False) -> NDArray[Any]:
    """Read the value of each pixel of a mask file.

    An image whose three channels are equal has gray values. The values of a palette image are its indices, but in GIF
    files, whose encoders choose the indices, its colors. Opaque alpha channels and transparent black are ignored. The EXIF
    orientation is applied, as in images.

    Args:
        file: the image.
        as_colors: return the colors of every kind of image.

    Returns:
        (H, W) integers, or (H, W, 3) uint8 colors.

    Raises:
        UserError: the file is missing, damaged, animated, half transparent, or has values that are not whole numbers.
    """
    from PIL import Image, ImageOps

    if not file.is_file():
        raise UserError(f"{file}: mask not found")
    try:
        with Image.open(file, formats=available_formats()) as opened:
            if getattr(opened, "n_frames", 1) > 1:
                raise UserError(f"{file}: has {getattr(opened, 'n_frames', 1)} pages or frames, but a mask has one")
            if opened.mode in ("RGB", "RGBA", "LA") and has_16_bits(opened):
                raise UserError(
                    f"{file}: has colors of 16 bits, but a mask has 8; save it as a gray image or with 8 bits"
                )
            # Pillow decodes lazily; damage must show up here, where it is turned into a message.
            opened.load()
            is_gif = opened.format == "GIF"
            picture = ImageOps.exif_transpose(opened)
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"{file}: {bomb_reason(error)}; replace or remove it") from None
    except Exception as error:  # decoders raise anything on damaged files
        raise UserError(f"{file}: damaged or not an image ({first_line(error)}); replace or remove it") from None
    if picture.mode not in (_COLOR_MODES if as_colors else _VALUE_MODES):
        raise UserError(f"{file}: a mask cannot have the mode {picture.mode}; save it as a grayscale or RGB image")
    if picture.mode in ("LA", "PA", "RGBA"):
        _check_alpha(picture, file)
    if as_colors:
        return np.asarray(picture.convert("RGB"))
    if picture.mode == "P" and is_gif:
        picture = picture.convert("RGB")
    if picture.mode in ("LA", "PA"):
        return np.ascontiguousarray(np.asarray(picture)[..., 0])
    if picture.mode == "RGBA":
        picture = picture.convert("RGB")
    pixels = np.asarray(picture)
    if pixels.ndim == 3 and (pixels[..., :1] == pixels).all():
        pixels = np.ascontiguousarray(pixels[..., 0])
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8)
    if pixels.dtype.kind == "f":
        return to_integers(pixels, file)
    return pixels


def _check_alpha(picture: Any, file: Path) -> None:
    """Refuse transparency that hides colors."""
    alpha = np.asarray(picture.getchannel("A"))
    if (alpha == 255).all():
        return
    colors = np.asarray(picture.convert("RGBA"))
    if ((alpha != 0) & (alpha != 255)).any() or colors[alpha == 0][:, :3].any():
        raise UserError(
            f"{file}: has pixels that are transparent but not black, so that their class is not certain; save it without "
            "transparency"
        )


def count_values(pixels: NDArray[Any]) -> dict[int | Color, int]:
    """Return the number of pixels of each value or color.

    Example:
        >>> count_values(np.array([[0, 3], [3, 3]], dtype=np.uint8))
        {0: 1, 3: 3}
    """
    if pixels.ndim == 3:
        found, counts = np.unique(pack(pixels), return_counts=True)
        return {unpack(value): count for value, count in zip(found.tolist(), counts.tolist(), strict=True)}
    if pixels.dtype in (np.uint8, np.uint16):
        histogram = np.bincount(pixels.ravel())
        found = np.flatnonzero(histogram)
        counts = histogram[found]
    else:
        found, counts = np.unique(pixels, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def pack(colors: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return (H, W, 3) colors as (H, W) numbers."""
    return np.asarray(colors.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1]))


def _packed(value: int | Color) -> int:
    return value if isinstance(value, int) else (value[0] << 16) | (value[1] << 8) | value[2]


def unpack(value: int) -> Color:
    """Return the color of a number."""
    return value >> 16, value >> 8 & 255, value & 255


def show_value(value: int | Color) -> str:
    """Return a value or a color for a message.

    Example:
        >>> show_value((128, 0, 0)), show_value(7)
        ('(128,0,0)', '7')
    """
    return str(value) if isinstance(value, int) else f"({','.join(map(str, value))})"


def _smallest_distance(keys: NDArray[np.int64]) -> int:
    """Return the smallest distance between two rows, by their largest difference."""
    distances = np.abs(keys[:, None] - keys[None]).max(axis=2)
    return int(distances[~np.eye(len(keys), dtype=bool)].min())
