"""Images with segmentation masks from pairs of files, decoded once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisybench.data.image_decoding import bomb_reason, decode
from noisybench.data.images import (
    OnError,
    check_unchanged,
    decoder_version,
    fingerprint,
    problem_list,
)
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.utils.files import (
    cache_folder,
    first_line,
    replacing,
    set_aside_with_note,
    wrap_cache_errors,
    write_atomically,
)

ClassValues = Mapping[int, int]
"""Class of each value in mask files, for values that are not class indices themselves."""


@dataclass(frozen=True)
class ImageMaskPairs:
    """Images and their masks.

    Attributes:
        images: (N, 3, H, W) uint8.
        masks: (N, H, W) uint8 classes and `IGNORED`.
        noisy_masks: noisy masks of the same images, if there are any.
        kept: (N,) positions among the files.
        skipped_files: reason for each pair that was skipped.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    noisy_masks: NDArray[np.uint8] | None
    kept: NDArray[np.int64]
    skipped_files: tuple[str, ...]


def read_mask(file: Path, shape: tuple[int, ...] | None = None, values: ClassValues | None = None) -> NDArray[np.uint8]:
    """Read a mask from a grayscale or palette image; the colors of a palette are ignored.

    Args:
        file: the image.
        shape: height and width to resize to (nearest neighbor, cropped at the center); None keeps the size.
        values: class of each value in the file, for values that are not class indices.

    Returns:
        (H, W) uint8 classes and `IGNORED`.

    Raises:
        UserError: the file is missing, damaged, or an RGB image.
    """
    from PIL import Image

    if not file.is_file():
        raise UserError(f"{file}: mask not found")
    try:
        with Image.open(file) as opened:
            # Pillow decodes lazily; damage must show up here, where it is turned into a message.
            opened.load()
            if opened.mode not in ("P", "L", "1", "I", "I;16"):
                raise UserError(
                    f"{file}: a mask has one value per pixel (palette or grayscale), but this image has mode {opened.mode}; "
                    "convert its colors to class indices"
                )
            pixels = np.asarray(opened)
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"{file}: {bomb_reason(error)}; replace or remove it") from None
    except Exception as error:  # decoders raise anything on damaged files
        raise UserError(f"{file}: damaged or not an image ({first_line(error)}); replace or remove it") from None
    if values:
        pixels = np.select([pixels == value for value in values], list(values.values()), pixels.astype(np.int64))
    # Before the cast, in which greater values would wrap around to valid classes.
    if pixels.max(initial=0) > IGNORED:
        raise UserError(
            f"{file}: contains the value {pixels.max()}, but classes range from 0 to 254, and 255 means no label"
        )
    mask = pixels.astype(np.uint8)
    return resize_mask(mask, shape or mask.shape)


def resize_mask(mask: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an (H, W) mask in another size: nearest neighbor, cropped at the center like its image."""
    from PIL import Image, ImageOps

    # Interpolation would blend class indices into classes that occur nowhere near, so only nearest neighbor is valid.
    if mask.shape != tuple(shape):
        mask = np.asarray(ImageOps.fit(Image.fromarray(mask), (shape[1], shape[0]), Image.Resampling.NEAREST))
    return np.ascontiguousarray(mask, dtype=np.uint8)


def read_pairs(
    files: Sequence[tuple[Path, ...]],
    size: int | None,
    on_error: OnError,
    values: ClassValues | None = None,
    num_classes: int = IGNORED,
) -> ImageMaskPairs:
    """Decode images and masks; later calls map the decoded arrays.

    Args:
        files: image and mask of each example, and its noisy mask if all examples have one.
        size: shorter side after resizing, then cropped at the center to (size, size); None keeps the images as they
            are, which must then all have one size.
        on_error: treatment of pairs that cannot be used.
        values: class of each value in the mask files, for values that are not class indices.
        num_classes: number of classes C; other values except `IGNORED` are refused.

    Raises:
        UserError: pairs cannot be used and ``on_error`` is ``raise``; lists them.
    """
    width = len(files[0]) if files else 2
    mapping = sorted(values.items()) if values else None
    settings = f"{size}|{on_error}|{mapping}|{num_classes}|{width}|{decoder_version(__name__)}"
    all_files = [file for group in files for file in group]
    key = fingerprint(all_files)
    folder = cache_folder() / "pairs" / hashlib.sha256(f"{key}|{settings}".encode()).hexdigest()[:32]
    arrays = [folder / f"{name}.npy" for name in ("images", "masks", "noisy_masks")[:width]]
    # Written last, so its presence means that all arrays are complete.
    done = folder / "done.json"
    cached = _read_cached(arrays, done)
    if cached is None:
        with wrap_cache_errors():
            problems = _decode_into(arrays, files, size, on_error, values, num_classes)
            check_unchanged(all_files, key)
            write_atomically(done, json.dumps(problems).encode())
        cached = _read_cached(arrays, done)
    if cached is None:
        raise UserError(f"{folder} cannot be read after it was written; check the disk of the cache folder")
    (images, *masks), skipped = cached
    kept = np.setdiff1d(np.arange(len(files)), np.array([row for row, _ in skipped], dtype=np.int64))
    noisy_masks = np.array(masks[1]) if len(masks) > 1 else None
    return ImageMaskPairs(images, np.array(masks[0]), noisy_masks, kept, tuple(reason for _, reason in skipped))


def _read_cached(arrays: Sequence[Path], done: Path) -> tuple[list[NDArray[np.uint8]], list[tuple[int, str]]] | None:
    """Return the arrays and the skipped rows of an earlier call; None if there are none or their files are damaged."""
    if not done.exists():
        return None
    try:
        skipped = [(int(row), str(reason)) for row, reason in json.loads(done.read_text())]
        # Copy-on-write, because torch warns of read-only arrays; nothing writes. Masks always fit in memory.
        return [np.load(path, mmap_mode="c") for path in arrays], skipped
    except (OSError, EOFError, TypeError, ValueError) as error:
        set_aside_with_note(done.parent, first_line(error))
        return None


def _decode_into(
    arrays: Sequence[Path],
    files: Sequence[tuple[Path, ...]],
    size: int | None,
    on_error: OnError,
    values: ClassValues | None,
    num_classes: int,
) -> list[tuple[int, str]]:
    """Write the decoded arrays, and return row and reason of the pairs that cannot be used."""
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(lambda group: _try_decode(group, size, values, num_classes), files))
    # All files are decoded before any problem is raised, so that one error lists all of them.
    problems = [(row, reason) for row, reason in enumerate(decoded) if isinstance(reason, str)]
    usable = [group for group in decoded if not isinstance(group, str)]
    if problems and (on_error == "raise" or not usable):
        raise problem_list([reason for _, reason in problems])
    shapes = {group[0].shape[1:] for group in usable}
    if len(shapes) > 1:
        listed = ", ".join(f"{width}x{height}" for height, width in sorted(shapes)[:4])
        raise UserError(
            f"dataset.size: the images have {len(shapes)} sizes ({listed} …); set one, such as dataset.size=256"
        )
    for path, array in zip(arrays, zip(*usable, strict=True), strict=True):
        with replacing(path) as partial:
            np.save(partial, np.stack(array))
    return problems


def _try_decode(
    files: tuple[Path, ...], size: int | None, values: ClassValues | None, num_classes: int
) -> list[NDArray[np.uint8]] | str:
    """Return an image and its masks, or the reason why they cannot be used."""
    image_file = files[0]
    try:
        data = image_file.read_bytes() if image_file.is_file() else b""
        # At the original size first: after resizing, a mask of another size could not be recognized.
        image = decode((str(image_file), data), None).pixels
        masks = []
        for file in files[1:]:
            mask = read_mask(file, values=values)
            if problem := _mask_problem(mask, image.shape[1:], image_file.name, num_classes):
                return f"{file}: {problem}"
            masks.append(mask if size is None else resize_mask(mask, (size, size)))
        if size is not None:
            image = decode((str(image_file), data), size).pixels
    except UserError as error:
        return str(error)
    return [image, *masks]


def _mask_problem(
    mask: NDArray[np.uint8], image_shape: tuple[int, ...], image_name: str, num_classes: int
) -> str | None:
    """Return the reason why a mask cannot be used, if there is one."""
    if mask.shape != image_shape:
        (height, width), (mask_height, mask_width) = image_shape, mask.shape
        return f"has {mask_width}x{mask_height} pixels, but its image {image_name} has {width}x{height}"
    invalid = mask[(mask != IGNORED) & (mask >= num_classes)]
    if len(invalid):
        return f"contains the value {invalid[0]}, but classes range from 0 to {num_classes - 1} (255: no label)"
    if (mask == IGNORED).all():
        return "has no labeled pixel"
    return None
