"""Images with their masks, from pairs of files, decoded once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.dataset import IGNORED
from noisybench.errors import UserError
from noisybench.files import write_atomically
from noisybench.images import SHOWN, Damaged, cache_folder, decode, files_key

Values = Callable[[NDArray[Any], Path], NDArray[np.uint8]]
"""Maps the values of a mask file to classes and `IGNORED`."""


@dataclass(frozen=True)
class Pairs:
    """Images and their masks.

    Attributes:
        images: (N, 3, H, W) uint8.
        masks: (N, H, W) uint8 classes and `IGNORED`.
        kept: (N,) positions among the files.
        skipped: what was left out, and why.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    kept: NDArray[np.int64]
    skipped: tuple[str, ...]


def as_they_are(values: NDArray[Any], file: Path) -> NDArray[np.uint8]:
    """The values of a mask file are classes already."""
    return values.astype(np.uint8)


def read_mask(file: Path, shape: tuple[int, ...] | None = None, values: Values = as_they_are) -> NDArray[np.uint8]:
    """(H, W) classes from a gray or palette image; a palette's colours do not matter.

    Args:
        file: the image.
        shape: height and width to bring it to, cropped at the centre, nearest pixels; None keeps its own.
        values: what the file's numbers mean.

    Raises:
        UserError: missing, damaged, or an image in colours.
    """
    from PIL import Image, ImageOps

    if not file.is_file():
        raise UserError(f"{file}: there is no such mask")
    try:
        with Image.open(file) as opened:
            opened.load()
            if opened.mode not in ("P", "L", "1", "I", "I;16"):
                raise UserError(
                    f"{file}: a mask has one number per pixel (palette or gray), but this is an image in {opened.mode}; "
                    "convert its colours to class numbers"
                )
            numbers = np.asarray(opened)
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{file}: damaged or not an image ({error}); replace or remove it") from None
    if numbers.max(initial=0) > 255:
        raise UserError(f"{file}: holds the value {numbers.max()}; classes go from 0 to 254, and 255 is no label")
    classes = values(numbers, file)
    if shape is not None and classes.shape != tuple(shape):
        picture = Image.fromarray(classes)
        classes = np.asarray(ImageOps.fit(picture, (shape[1], shape[0]), Image.Resampling.NEAREST))
    return np.ascontiguousarray(classes, dtype=np.uint8)


def read_pairs(
    pairs: Sequence[tuple[Path, Path]],
    size: int | None,
    damaged: Damaged,
    values: Values = as_they_are,
    classes: int = IGNORED,
) -> Pairs:
    """Decode images and masks; later calls map the decoded ones.

    Args:
        pairs: files of image and mask.
        size: shorter side after resizing, then cropped at the centre to (size, size); None keeps images as they are, which
            must then all be of one size.
        damaged: what to do about pairs that cannot be used.
        values: what the numbers in the mask files mean.
        classes: how many there are; greater numbers other than `IGNORED` are refused.

    Raises:
        UserError: pairs cannot be used and `damaged` is ``refuse``; names some.
    """
    meaning = f"{size}|{damaged}|{values.__module__}.{values.__qualname__}|{classes}"
    key = f"{files_key(each for pair in pairs for each in pair)}|{meaning}"
    place = cache_folder() / "pairs" / hashlib.sha256(key.encode()).hexdigest()[:32]
    files = {name: place / f"{name}.npy" for name in ("images", "masks")}
    if not (place / "done.json").exists():
        place.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda pair: _pair(pair, size, values, classes), pairs))
        faults = [(row, each) for row, each in enumerate(found) if isinstance(each, str)]
        good = [each for each in found if not isinstance(each, str)]
        if faults and (damaged == "refuse" or not good):
            more = [f"… and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
            raise UserError(*(reason for _, reason in faults[:SHOWN]), *more)
        shapes = {image.shape[1:] for image, _ in good}
        if len(shapes) > 1:
            told = ", ".join(f"{width}x{height}" for height, width in sorted(shapes)[:4])
            raise UserError(
                f"dataset.size: the images have {len(shapes)} sizes ({told} …); give one, such as dataset.size=256"
            )
        for name, array in zip(files, zip(*good, strict=True), strict=True):
            np.save(files[name], np.stack(array))
        write_atomically(place / "done.json", json.dumps(faults).encode())
    skipped: list[tuple[int, str]] = json.loads((place / "done.json").read_text())
    kept = np.setdiff1d(np.arange(len(pairs)), np.array([row for row, _ in skipped], dtype=np.int64))
    # Copy-on-write, because torch warns of read-only arrays; nothing writes.
    images, masks = (np.load(files[name], mmap_mode="c") for name in files)
    return Pairs(images, np.array(masks), kept, tuple(reason for _, reason in skipped))


def _pair(
    pair: tuple[Path, Path], size: int | None, values: Values, classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | str:
    """An image and its mask, or why there is none."""
    image_file, mask_file = pair
    try:
        data = image_file.read_bytes() if image_file.is_file() else b""
        image = decode((str(image_file), data), None)
        mask = read_mask(mask_file, values=values)
        if mask.shape != image.shape[1:]:
            (height, width), (own, wide) = image.shape[1:], mask.shape
            return f"{mask_file}: is {wide}x{own} pixels, but its image {image_file.name} is {width}x{height}"
        wrong = mask[(mask != IGNORED) & (mask >= classes)]
        if len(wrong):
            return f"{mask_file}: holds the value {wrong[0]}, but classes go from 0 to {classes - 1} (255: no label)"
        if (mask == IGNORED).all():
            return f"{mask_file}: has no labelled pixel"
        if size is not None:
            image, mask = decode((str(image_file), data), size), read_mask(mask_file, (size, size), values)
    except UserError as error:
        return str(error)
    return image, mask
