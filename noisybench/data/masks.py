"""Images with their masks, from pairs of files, decoded once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisybench.data.images import SHOWN, Damaged, decode, files_key
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.utils.files import cache_folder, write_atomically

Values = Mapping[int, int]
"""What numbers in mask files mean, where it is not a class of that number."""


@dataclass(frozen=True)
class Pairs:
    """Images and their masks.

    Attributes:
        images: (N, 3, H, W) uint8.
        masks: (N, H, W) uint8 classes and `IGNORED`.
        given: the same of noisy masks, where there are some.
        kept: (N,) positions among the files.
        skipped: what was left out, and why.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    noisy_targets: NDArray[np.uint8] | None
    kept: NDArray[np.int64]
    skipped: tuple[str, ...]


def read_mask(file: Path, shape: tuple[int, ...] | None = None, values: Values | None = None) -> NDArray[np.uint8]:
    """(H, W) classes from a gray or palette image; a palette's colours do not matter.

    Args:
        file: the image.
        shape: height and width to bring it to, cropped at the centre, nearest pixels; None keeps its own.
        values: what the file's numbers mean, where they are not classes.

    Raises:
        UserError: missing, damaged, or an image in colours.
    """
    from PIL import Image

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
    if values:
        numbers = np.select([numbers == each for each in values], list(values.values()), numbers.astype(np.int64))
    if numbers.max(initial=0) > 255:
        raise UserError(f"{file}: holds the value {numbers.max()}; classes go from 0 to 254, and 255 is no label")
    classes = numbers.astype(np.uint8)
    return fitted(classes, shape or classes.shape)


def fitted(mask: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A mask in another size, cropped at the centre like its image, nearest pixels."""
    from PIL import Image, ImageOps

    if mask.shape != tuple(shape):
        mask = np.asarray(ImageOps.fit(Image.fromarray(mask), (shape[1], shape[0]), Image.Resampling.NEAREST))
    return np.ascontiguousarray(mask, dtype=np.uint8)


def read_pairs(
    files: Sequence[tuple[Path, ...]],
    size: int | None,
    damaged: Damaged,
    values: Values | None = None,
    classes: int = IGNORED,
) -> Pairs:
    """Decode images and masks; later calls map the decoded ones.

    Args:
        files: of image and mask, and of a noisy mask where all have one.
        size: shorter side after resizing, then cropped at the centre to (size, size); None keeps images as they are, which
            must then all be of one size.
        damaged: what to do about those that cannot be used.
        values: what the numbers in the mask files mean.
        classes: how many there are; greater numbers other than `IGNORED` are refused.

    Raises:
        UserError: some cannot be used and `damaged` is ``refuse``; names them.
    """
    meaning = f"{size}|{damaged}|{sorted(values.items()) if values else None}|{classes}|{len(files[0]) if files else 0}"
    key = f"{files_key(each for group in files for each in group)}|{meaning}"
    place = cache_folder() / "pairs" / hashlib.sha256(key.encode()).hexdigest()[:32]
    arrays = [place / f"{name}.npy" for name in ("images", "masks", "given")[: len(files[0]) if files else 2]]
    if not (place / "done.json").exists():
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda group: _decoded(group, size, values, classes), files))
        faults = [(row, each) for row, each in enumerate(found) if isinstance(each, str)]
        good = [each for each in found if not isinstance(each, str)]
        if faults and (damaged == "refuse" or not good):
            more = [f"… and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
            raise UserError(*(reason for _, reason in faults[:SHOWN]), *more)
        shapes = {each[0].shape[1:] for each in good}
        if len(shapes) > 1:
            told = ", ".join(f"{width}x{height}" for height, width in sorted(shapes)[:4])
            raise UserError(
                f"dataset.size: the images have {len(shapes)} sizes ({told} …); give one, such as dataset.size=256"
            )
        place.mkdir(parents=True, exist_ok=True)
        for target, array in zip(arrays, zip(*good, strict=True), strict=True):
            partial = target.with_name(f".{os.getpid()}.{target.name}")
            np.save(partial, np.stack(array))
            partial.replace(target)
        write_atomically(place / "done.json", json.dumps(faults).encode())
    skipped: list[tuple[int, str]] = json.loads((place / "done.json").read_text())
    kept = np.setdiff1d(np.arange(len(files)), np.array([row for row, _ in skipped], dtype=np.int64))
    # Copy-on-write, because torch warns of read-only arrays; nothing writes. Masks always fit in memory.
    images, *masks = (np.load(each, mmap_mode="c") for each in arrays)
    given = np.array(masks[1]) if len(masks) > 1 else None
    return Pairs(images, np.array(masks[0]), given, kept, tuple(reason for _, reason in skipped))


def _decoded(
    files: tuple[Path, ...], size: int | None, values: Values | None, classes: int
) -> list[NDArray[np.uint8]] | str:
    """An image and its masks, or why there are none."""
    image_file = files[0]
    try:
        data = image_file.read_bytes() if image_file.is_file() else b""
        image = decode((str(image_file), data), None)
        masks = []
        for file in files[1:]:
            mask = read_mask(file, values=values)
            if mask.shape != image.shape[1:]:
                (height, width), (own, wide) = image.shape[1:], mask.shape
                return f"{file}: is {wide}x{own} pixels, but its image {image_file.name} is {width}x{height}"
            wrong = mask[(mask != IGNORED) & (mask >= classes)]
            if len(wrong):
                return f"{file}: holds the value {wrong[0]}, but classes go from 0 to {classes - 1} (255: no label)"
            if (mask == IGNORED).all():
                return f"{file}: has no labelled pixel"
            masks.append(mask if size is None else fitted(mask, (size, size)))
        if size is not None:
            image = decode((str(image_file), data), size)
    except UserError as error:
        return str(error)
    return [image, *masks]
