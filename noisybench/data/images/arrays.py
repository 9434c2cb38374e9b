"""Images in NumPy arrays of any layout and type, as (N, C, H, W) uint8 by declared rules."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.data.images.decoding import UINT16_RANGE, DecodingRules, probable_range
from noisybench.data.images.facts import SMALLEST_SHARE
from noisybench.data.notes import ReadingNote
from noisybench.errors import UserError

Channels = Literal["first", "last"]
"""Position of the color channels: (N, C, H, W) or (N, H, W, C)."""

FourthChannel = Literal["alpha", "drop"]
"""Meaning of a fourth channel: transparency, or one that is not used, such as infrared."""

BACKGROUNDS = {"white": 255, "gray": 128, "black": 0}
"""Value of each color on which transparent images are composed."""

CHUNK_SIZE = 1024
"""Number of images that are converted at a time."""


def array_images(
    array: NDArray[Any],
    location: str,
    rules: DecodingRules,
    channels: Channels | None = None,
    fourth_channel: FourthChannel | None = None,
) -> tuple[NDArray[np.uint8], tuple[ReadingNote, ...]]:
    """Return the images of an array and the conversions.

    Args:
        array: (N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels; 8 or 16 bits, truth values, or other
            numbers of which the rules give the range.
        location: name of the array for messages.
        rules: range of the values, and background of transparent pixels.
        channels: position of the channels; None if the shape shows it.
        fourth_channel: meaning of a fourth channel.

    Returns:
        (N, 1, H, W) or (N, 3, H, W) images, and notes.

    Raises:
        UserError: the layout has two meanings or none, or the meaning of the values is not declared.

    Examples:
        >>> images, notes = array_images(np.full((2, 5, 6, 3), 65535, np.uint16), "images", DecodingRules())
        >>> images.shape, int(images.max()), notes[0].text
        ((2, 3, 5, 6), 255, 'images: 16-bit values were scaled from 0 … 65535 to 0 … 255')
        >>> array_images(np.zeros((2, 3, 5, 3), np.uint8), "images", DecodingRules())
        Traceback (most recent call last):
        noisybench.errors.UserError: images has the shape (2, 3, 5, 3), in which the channels could be first or last; set ...
    """
    if array.dtype.kind not in "buif" or array.dtype.names is not None:
        raise UserError(f"{location} must be an array of numbers, but is {array.dtype}; save the pixels as numbers")
    ordered = _channels_first(array, location, channels)
    scaled, notes = _scale(ordered, location, rules)
    if scaled.shape[1] < 4:
        return np.ascontiguousarray(scaled), notes
    if fourth_channel is None:
        raise UserError(
            f"{location} has the shape {array.shape} with four channels; set dataset.fourth_channel=alpha if the fourth is "
            "transparency, or dataset.fourth_channel=drop to use the first three"
        )
    if fourth_channel == "drop":
        note = ReadingNote("fourth_channel", f"{location}: the fourth channel was not used", len(scaled))
        return np.ascontiguousarray(scaled[:, :3]), (*notes, note)
    transparent = int((scaled[:, 3] < 255).any(axis=(1, 2)).sum())
    text = f"{location}: transparent pixels were composed on {rules.transparent_color}"
    composed = (ReadingNote("transparency", text, transparent),) if transparent else ()
    return _compose(scaled, BACKGROUNDS[rules.transparent_color]), (*notes, *composed)


def _channels_first(array: NDArray[Any], location: str, channels: Channels | None) -> NDArray[Any]:
    """Return a view of the shape (N, C, H, W)."""
    shape = array.shape
    if array.ndim == 2:
        raise UserError(
            f"{location} has the shape {shape}, one row of values for each example; reshape the images to (N, H, W), or use "
            "the dataset `features` for vectors"
        )
    if array.ndim == 3:
        if min(shape[1:]) < 4 <= max(shape[1:]):
            raise UserError(
                f"{location} has the shape {shape}, which would be {shape[0]} images of {shape[2]}x{shape[1]} pixels; reshape "
                "it to (N, H, W) or (N, H, W, C)"
            )
        return array[:, None]
    possible = [name for name, axis in (("first", 1), ("last", 3)) if array.ndim == 4 and shape[axis] in (1, 3, 4)]
    if channels is not None and array.ndim == 4:
        if channels not in possible:
            raise UserError(
                f"dataset.channels: is {channels}, but {location} has the shape {shape}; images have 1, 3 or 4 channels"
            )
        possible = [channels]
    if not possible:
        raise UserError(
            f"{location} must have the shape (N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels, but has {shape}"
        )
    if len(possible) > 1:
        raise UserError(
            f"{location} has the shape {shape}, in which the channels could be first or last; set dataset.channels=first or "
            "dataset.channels=last"
        )
    return array if possible == ["first"] else array.transpose(0, 3, 1, 2)


def _scale(
    images: NDArray[Any], location: str, rules: DecodingRules
) -> tuple[NDArray[np.uint8], tuple[ReadingNote, ...]]:
    """Return (N, C, H, W) images with values from 0 to 255."""
    # In the byte order of this machine: files of others may have another.
    count, dtype, given = len(images), images.dtype.newbyteorder("="), rules.intensity_range
    if dtype.kind == "b":
        note = ReadingNote("truth_values", f"{location}: truth values were read as black and white", count)
        return images.astype(np.uint8) * np.uint8(255), (note,)
    if not images.size:
        return images.astype(np.uint8), ()
    if dtype.kind == "f" and not all(
        np.isfinite(images[start : start + CHUNK_SIZE]).all() for start in _starts(images)
    ):
        raise UserError(f"{location} contains NaN or infinite values; replace them, or remove these images")
    low, high = images.min().item(), images.max().item()
    if dtype == np.uint8 and given is None:
        text = (
            f"{location}: all values are at most {high} of 255; dataset.intensity_range=[0, {high}] would use the range"
        )
        return images, (ReadingNote("dark_images", text, count),) if 0 < high < SMALLEST_SHARE * 255 else ()
    if dtype == np.uint16 and given is None and high < SMALLEST_SHARE * UINT16_RANGE[1]:
        bits = max(8, int(high).bit_length())
        raise UserError(
            f"{location}: 16-bit values go from {low} to {high} of 65535 only, and the images would become almost black; set "
            f"dataset.intensity_range to the values that become black and white, such as [0, {2**bits - 1}] for {bits} bits, "
            "or to [0, 65535] if they are meant to be dark"
        )
    limits = given or (UINT16_RANGE if dtype == np.uint16 else None)
    if limits is None:
        raise UserError(
            f"{location} has values of the type {dtype} from {low:g} to {high:g}; set dataset.intensity_range to the values "
            f"that become black and white, such as {probable_range(low, high)}"
        )
    from_low, from_high = limits
    kind = "16-bit values" if given is None else "values"
    text = f"{location}: {kind} were scaled from {from_low:g} … {from_high:g} to 0 … 255"
    notes = [ReadingNote("intensity_16_bits" if given is None else "intensity_range", text, count)]
    if low < from_low or high > from_high:
        text = f"{location}: values outside of {from_low:g} … {from_high:g} were clipped"
        clipped = (images < from_low) | (images > from_high)
        notes.append(ReadingNote("intensity_clipped", text, int(clipped.any(axis=(1, 2, 3)).sum())))
    scaled = np.empty(images.shape, np.uint8)
    for start in _starts(images):
        part = (images[start : start + CHUNK_SIZE].astype(np.float64) - from_low) * (255 / (from_high - from_low))
        scaled[start : start + CHUNK_SIZE] = np.rint(np.clip(part, 0, 255))
    return scaled, tuple(notes)


def _starts(images: NDArray[Any]) -> range:
    return range(0, len(images), CHUNK_SIZE)


def _compose(images: NDArray[np.uint8], background: int) -> NDArray[np.uint8]:
    """Return (N, 3, H, W) images from RGBA on a background of one gray value."""
    composed = np.empty((len(images), 3, *images.shape[2:]), np.uint8)
    for start in _starts(images):
        part = images[start : start + CHUNK_SIZE].astype(np.float64)
        alpha = part[:, 3:] / 255
        composed[start : start + CHUNK_SIZE] = np.rint(part[:, :3] * alpha + background * (1 - alpha))
    return composed
