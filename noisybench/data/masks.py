"""Images with segmentation masks from pairs of files, decoded once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from noisybench.config.source_code import module_code
from noisybench.data.image_decoding import decode
from noisybench.data.images import (
    OnError,
    check_unchanged,
    decoder_version,
    fingerprint,
    problem_list,
)
from noisybench.data.mask_values import MaskValues, read_values
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

CLASS_INDICES = MaskValues()
"""Values that are class indices, and 255 for no label."""


class DrawnMask(Protocol):
    """Mask that annotations such as polygons describe instead of a file."""

    @property
    def key(self) -> str:
        """Text that identifies the content."""

    def draw(self) -> NDArray[np.uint8]:
        """Return (H, W) uint8 classes and `IGNORED`.

        Raises:
            UserError: the annotations are invalid; the message begins with their origin.
        """

    def __str__(self) -> str: ...


MaskInput = Path | DrawnMask
"""File of a mask, or annotations from which it is drawn."""

MaskedImage = tuple[Path, *tuple[MaskInput, ...]]
"""Image, its mask and, if there is one, its noisy mask."""


@dataclass(frozen=True)
class MaskReader:
    """Reading of mask files in the way of a dataset, for other masks of its images.

    Attributes:
        values: class of each value or color.
        suffix: end of the names of masks that the names of images do not have.
    """

    values: MaskValues = CLASS_INDICES
    suffix: str = ""

    def read(self, file: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the (H, W) classes of a mask file in the shape of the dataset's masks.

        Raises:
            UserError: the file is missing or damaged, or contains values without a class.
        """
        return resize_mask(read_mask(file, self.values), shape)


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


def read_mask(file: Path, values: MaskValues = CLASS_INDICES) -> NDArray[np.uint8]:
    """Read the classes of a mask file.

    Args:
        file: the image; see `read_values`.
        values: class of each value or color in the file.

    Returns:
        (H, W) uint8 classes and `IGNORED`.

    Raises:
        UserError: the file is missing or damaged, or contains values without a class.
    """
    pixels = read_values(file, as_colors=values.colors is not None)
    try:
        return values.to_classes(pixels)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def resize_mask(mask: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an (H, W) mask in another size: nearest neighbor, cropped at the center like its image."""
    from PIL import Image, ImageOps

    # Interpolation would blend class indices into classes that occur nowhere near, so only nearest neighbor is valid.
    if mask.shape != tuple(shape):
        mask = np.asarray(ImageOps.fit(Image.fromarray(mask), (shape[1], shape[0]), Image.Resampling.NEAREST))
    return np.ascontiguousarray(mask, dtype=np.uint8)


def read_pairs(
    files: Sequence[MaskedImage],
    size: int | None,
    on_error: OnError,
    values: MaskValues = CLASS_INDICES,
    num_classes: int = IGNORED,
) -> ImageMaskPairs:
    """Decode images and masks; later calls map the decoded arrays.

    Args:
        files: image and mask of each example, and its noisy mask if all examples have one; masks may be drawn.
        size: shorter side after resizing, then cropped at the center to (size, size); None keeps the images as they
            are, which must then all have one size.
        on_error: treatment of pairs that cannot be used.
        values: class of each value or color in mask files.
        num_classes: number of classes C; other values except `IGNORED` are refused.

    Raises:
        UserError: pairs cannot be used and ``on_error`` is ``raise``; lists them.
    """
    width = len(files[0]) if files else 2
    code = f"{decoder_version(__name__)} {module_code('noisybench.data.mask_values')}"
    drawn = "|".join(mask.key for group in files for mask in group[1:] if not isinstance(mask, Path))
    settings = f"{size}|{on_error}|{values.key}|{num_classes}|{width}|{code}|{drawn}"
    all_files = [file for group in files for file in group if isinstance(file, Path)]
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
    files: Sequence[MaskedImage],
    size: int | None,
    on_error: OnError,
    values: MaskValues,
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
    files: MaskedImage, size: int | None, values: MaskValues, num_classes: int
) -> list[NDArray[np.uint8]] | str:
    """Return an image and its masks, or the reason why they cannot be used."""
    image_file = files[0]
    try:
        data = image_file.read_bytes() if image_file.is_file() else b""
        # At the original size first: after resizing, a mask of another size could not be recognized.
        image = decode((str(image_file), data), None).pixels
        masks = []
        for source in files[1:]:
            mask = read_mask(source, values) if isinstance(source, Path) else source.draw()
            if problem := _mask_problem(mask, image.shape[1:], image_file.name, num_classes):
                return f"{source}: {problem}"
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
