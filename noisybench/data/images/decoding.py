"""The one decoder of image files: encoded bytes to 8-bit RGB by declared rules, with the facts that users should know.

Rules, in this order:

- The first frame counts of animations and of files with several pages.
- The EXIF orientation is applied, as viewers and annotation tools do.
- 16-bit gray values are scaled from `DecodingRules.intensity_range`, by default all that 16 bits can hold, to 0 … 255.
  Gray values of 32 bits need the range to be given. Where 0 is white (TIFF), they are inverted. Colors of 16 bits keep
  their upper 8 bits.
- Palettes, CMYK, gray and 1-bit images become RGB. Color profiles (ICC) are ignored.
- Transparent pixels are composed on `DecodingRules.transparent_color`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.errors import UserError
from noisybench.utils.files import first_line

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".avif", ".jp2",
    ".j2k", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
"""Suffixes of image files. The content decides about the format, so a PNG file named `.jpg` can be read."""

FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")
"""Formats that are decoded; Pillow would start external programs for some of the others."""

EncodedImage = tuple[str, bytes]
"""Origin of an image, for error messages, and its encoded bytes."""

TransparentColor = Literal["white", "black", "gray"]
"""Background of transparent pixels."""

UINT16_RANGE = (0.0, 65535.0)
"""Values that 16 bits can hold."""

ORIENTATION_TAG = 0x0112
"""EXIF tag of the orientation, from 1 (as stored) to 8."""

PHOTOMETRIC_TAG = 262
"""TIFF tag of the meaning of gray values."""

MIN_IS_WHITE = 0
"""Meaning of gray values in TIFF files, as of many X-ray images, in which 0 is white."""

INVERTED = range(255, -1, -1)
"""Inverted value of each value of 8 bits."""

TRANSPOSITIONS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE",
    8: "ROTATE_90",
}  # fmt: skip
"""Pillow's name of the transposition that brings each orientation upright."""


@dataclass(frozen=True)
class DecodingRules:
    """Choices that the files themselves do not make.

    Attributes:
        intensity_range: values of gray images of more than 8 bits that become 0 and 255; values outside are clipped. None
            is the whole range for 16 bits, and refuses 32 bits.
        transparent_color: background of transparent pixels.
    """

    intensity_range: tuple[float, float] | None = None
    transparent_color: TransparentColor = "white"


DEFAULT_RULES = DecodingRules()


@dataclass(frozen=True)
class DecodedImage:
    """Pixels of one image.

    Attributes:
        pixels: (3, H, W) uint8 RGB.
        facts: kinds of conversions that were made, keys of `noisybench.data.images.facts.FACTS`.
        intensities: lowest and highest value of a gray image of more than 8 bits before it was scaled.
    """

    pixels: NDArray[np.uint8]
    facts: tuple[str, ...] = ()
    intensities: tuple[float, float] | None = None


def intensity_range(value: Sequence[float] | None) -> tuple[float, float] | None:
    """Return the range that the parameter `dataset.intensity_range` gives.

    Raises:
        UserError: the value is not two increasing numbers.

    Example:
        >>> intensity_range([0, 4095])
        (0.0, 4095.0)
    """
    if value is None:
        return None
    if len(value) != 2 or not all(map(math.isfinite, value)) or not value[0] < value[1]:
        raise UserError(
            "dataset.intensity_range: must be two increasing numbers, the values that become black and white, such as "
            f"[0, 4095] for 12 bits, but got {list(value)}"
        )
    return float(value[0]), float(value[1])


def probable_range(low: float, high: float) -> str:
    """Return the setting of the range that values from ``low`` to ``high`` probably have, for a message.

    Example:
        >>> probable_range(0.2, 0.9), probable_range(-1000, 3000)
        ('dataset.intensity_range=[0, 1]', 'dataset.intensity_range=[-1000, 3000]')
    """
    for start, end in ((0, 1), (-1, 1), (0, 255)):
        if start <= low and high <= end:
            return f"dataset.intensity_range=[{start}, {end}]"
    return f"dataset.intensity_range=[{min(low, 0):g}, {high:g}]"


@contextlib.contextmanager
def quiet_decoding() -> Iterator[None]:
    """Silence the warnings of Pillow, such as those of damaged EXIF data, for a block in which threads decode images.

    Facts and errors say the same with the names of the files.
    """
    # Around all threads, because they share the filters.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def decode_image(image: EncodedImage, rules: DecodingRules = DEFAULT_RULES) -> DecodedImage:
    """Decode one image to RGB at its own size.

    Args:
        image: origin, and bytes in one of `FORMATS`.
        rules: choices that the file does not make.

    Raises:
        UserError: the bytes are damaged or not an image, or the rules do not say what its values mean.

    Example:
        >>> from PIL import Image
        >>> data = io.BytesIO()
        >>> drawing = np.array([[[0, 0], [0, 255]]], dtype=np.uint8)
        >>> Image.fromarray(drawing, "LA").save(data, "png")
        >>> decoded = decode_image(("drawing.png", data.getvalue()))
        >>> decoded.pixels[0], decoded.facts
        (array([[255,   0]], dtype=uint8), ('transparency',))
    """
    from PIL import Image, UnidentifiedImageError

    origin, data = image
    # Pillow would report an empty file as an unknown format, which hides the actual reason.
    if not data:
        raise UserError(f"{origin}: missing or empty; replace it, or remove it from the dataset")
    try:
        with Image.open(io.BytesIO(data), formats=available_formats()) as opened:
            return _decode(opened, origin, rules)
    except (UserError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"{origin}: {bomb_reason(error)}; replace or remove it") from None
    except UnidentifiedImageError:
        raise UserError(f"{origin}: damaged or not an image (its format is unknown); replace or remove it") from None
    except Exception as error:  # decoders raise anything on damaged files
        raise UserError(f"{origin}: damaged or not an image ({first_line(error)}); replace or remove it") from None


def decode(image: EncodedImage, size: int | None, rules: DecodingRules = DEFAULT_RULES) -> DecodedImage:
    """Decode one image to RGB of a size.

    Args:
        image: origin, and encoded bytes.
        size: shorter side after resizing, then cropped at the center to (size, size); None keeps the image as it is.
        rules: choices that the file does not make.

    Raises:
        UserError: the bytes are damaged or not an image.
    """
    from PIL import Image, ImageOps

    decoded = decode_image(image, rules)
    if size is None or decoded.pixels.shape[1:] == (size, size):
        return decoded
    picture = Image.fromarray(decoded.pixels.transpose(1, 2, 0))
    resized = np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR))
    return replace(decoded, pixels=resized.transpose(2, 0, 1))


@functools.cache
def available_formats() -> list[str]:
    """Return the names in `FORMATS` that this Pillow can decode."""
    from PIL import Image

    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _decode(opened: Picture, origin: str, rules: DecodingRules) -> DecodedImage:
    """Return the pixels and facts of an opened image."""
    from PIL import Image

    facts = []
    # Both before the pixels are loaded: Pillow then forgets the depth, and applies the orientation of TIFF files.
    is_deep_color = opened.mode in ("RGB", "RGBA", "LA") and has_16_bits(opened)
    orientation = _orientation(opened)
    opened.load()
    picture: Picture = opened
    intensities = None
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        picture, intensities, conversions = _scale_intensities(picture, opened.format, origin, rules)
        facts += conversions
        # Pillow inverts such values in 8 bits only.
        if getattr(opened, "tag_v2", {}).get(PHOTOMETRIC_TAG) == MIN_IS_WHITE:
            picture = Image.eval(picture, INVERTED.__getitem__)
            facts.append("min_is_white")
    elif is_deep_color:
        if rules.intensity_range not in (None, UINT16_RANGE):
            raise UserError(
                f"{origin}: has colors of 16 bits, which dataset.intensity_range does not scale; convert the image to "
                "gray or to 8 bits"
            )
        facts.append("color_16_bits")
        intensities = _color_extrema(picture)
    picture, is_composed = _to_rgb(picture, rules.transparent_color)
    if is_composed:
        facts.append("transparency")
    if orientation in TRANSPOSITIONS:
        facts.append("exif_orientation")
        remaining = _orientation(opened)
        if remaining in TRANSPOSITIONS:
            picture = picture.transpose(Image.Transpose[TRANSPOSITIONS[remaining]])
    elif orientation is None:
        facts.append("exif_damaged")
    # Photographs of phones contain a preview as a second frame (MPO).
    if opened.format != "MPO" and _has_frames(opened):
        facts.append("first_frame")
    pixels = np.asarray(picture, dtype=np.uint8)
    colors = pixels.reshape(-1, 3)
    # The middle first, because few images are blank, and comparing all pixels takes long.
    if len(colors) > 1 and (colors[len(colors) // 2] == colors[0]).all() and (colors == colors[0]).all():
        facts.append("blank")
    return DecodedImage(pixels.transpose(2, 0, 1), tuple(facts), intensities)


def _orientation(opened: Picture) -> int | None:
    """Return the EXIF orientation of an image, 1 if there is none; None if its EXIF data are damaged."""
    try:
        return int(opened.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # parsers of EXIF raise anything on damaged data, which say nothing about the pixels
        return None


def has_16_bits(opened: Picture) -> bool:
    """Return True for colors that Pillow reduces from 16 to 8 bits; asked before the pixels are loaded."""
    return any(";16" in str(tile[-1]) for tile in getattr(opened, "tile", ()))


def _color_extrema(picture: Picture) -> tuple[float, float]:
    """Return the lowest and highest color value, in units of 16 bits."""
    extrema = picture.getextrema()
    colors = extrema[:1] if picture.mode == "LA" else extrema[:3]
    return 257.0 * min(low for low, _ in colors), 257.0 * max(high for _, high in colors)  # type: ignore[misc]


def _scale_intensities(
    picture: Picture, file_format: str | None, origin: str, rules: DecodingRules
) -> tuple[Picture, tuple[float, float], list[str]]:
    """Return a gray image of more than 8 bits in 8 bits, its former extrema, and facts."""
    from PIL import Image

    values = np.asarray(picture)
    # Older versions of Pillow open 16-bit PNG files in the mode of 32 bits; PGM files are scaled to 16 bits.
    is_16_bits = picture.mode.startswith("I;16") or (picture.mode == "I" and file_format in ("PNG", "PPM"))
    if not np.isfinite(values).all():
        raise UserError(f"{origin}: contains NaN or infinite values; replace them, or remove the image")
    low, high = float(values.min()), float(values.max())
    limits = rules.intensity_range or (UINT16_RANGE if is_16_bits else None)
    if limits is None:
        kind = "floating-point" if picture.mode == "F" else "32-bit"
        raise UserError(
            f"{origin}: has {kind} gray values, from {low:g} to {high:g}; set dataset.intensity_range to the values of all "
            f"images that become black and white, such as {probable_range(low, high)}"
        )
    facts = ["intensity_16_bits" if rules.intensity_range is None else "intensity_range"]
    if low < limits[0] or high > limits[1]:
        facts.append("intensity_clipped")
    scaled = (values.astype(np.float64) - limits[0]) * (255 / (limits[1] - limits[0]))
    gray = Image.fromarray(np.rint(np.clip(scaled, 0, 255)).astype(np.uint8))
    # PNG files may declare one gray value to be transparent.
    if isinstance(transparent := picture.info.get("transparency"), int):
        gray.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return gray, (low, high), facts


def _to_rgb(picture: Picture, background: TransparentColor) -> tuple[Picture, bool]:
    """Return an image in RGB, and whether pixels of it are transparent."""
    from PIL import Image

    if picture.mode not in ("RGBA", "LA", "PA", "La", "RGBa") and "transparency" not in picture.info:
        return picture if picture.mode == "RGB" else picture.convert("RGB"), False
    if picture.mode == "La":
        picture = picture.convert("LA")
    transparent = picture.convert("RGBA")
    lowest_alpha = transparent.getchannel("A").getextrema()[0]
    if lowest_alpha == 255:
        return transparent.convert("RGB"), False
    ground = Image.new("RGBA", transparent.size, background)
    return Image.alpha_composite(ground, transparent).convert("RGB"), True


def _has_frames(opened: Picture) -> bool:
    """Return True if a file holds more images than the first."""
    try:
        return bool(getattr(opened, "is_animated", False))
    except Exception:  # damage behind the first frame
        return True


def bomb_reason(error: Exception) -> str:
    """Return the reason why Pillow refuses a picture whose pixels would fill the memory.

    Example:
        >>> bomb_reason(Exception("Image size (1600000000 pixels) exceeds limit of 178956970 pixels, could be ..."))
        'too large to decode (1600000000 pixels, the limit is 178956970)'
    """
    numbers = [word.strip("(") for word in str(error).split() if word.strip("(").isdigit()]
    return f"too large to decode ({numbers[0]} pixels, the limit is {numbers[1]})" if len(numbers) > 1 else str(error)
