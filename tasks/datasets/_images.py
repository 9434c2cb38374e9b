"""Images decoded once: to uint8 arrays on disk, memory-mapped from then on.

Mapped pages are shared by all worker processes and dropped under memory pressure, so a set larger than the memory
works too, at the speed of the disk.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.errors import UserError
from noisybench.files import cache_folder

PORTION = 1024
"""Images decoded at a time."""

Encoded = tuple[str, bytes]
"""Where an image came from, for messages, and its encoded bytes."""


def decode(image: Encoded, size: int | None) -> NDArray[np.uint8]:
    """Decode one image to (3, H, W) uint8 RGB.

    Args:
        image: its origin and bytes in any format that Pillow reads.
        size: shorter side after resizing, then cropped at the centre to (size, size); None keeps the image as it is.

    Raises:
        UserError: the bytes are no image, or damaged.
    """
    from PIL import Image, ImageOps

    origin, data = image
    try:
        with Image.open(io.BytesIO(data)) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{origin}: damaged or not an image ({error}); replace or remove it") from None
    if size is not None and picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1)


def decode_all(count: int, images: Callable[[], Iterator[Encoded]], size: int | None, key: str) -> NDArray[np.uint8]:
    """Decode a stream of images, or take the result of an earlier time.

    Args:
        count: how many there are.
        images: starts the stream; not called where the result is cached.
        size: as in `decode`; where None, all images must have the size of the first.
        key: names the content and its version; another content must have another key.

    Returns:
        (count, 3, H, W) uint8, memory-mapped.
    """
    name = hashlib.sha256(f"{key}|{size}|{count}".encode()).hexdigest()[:32]
    place = cache_folder() / "decoded" / f"{name}.npy"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            _decode_into(partial, count, images(), size)
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
    # Copy-on-write, because torch warns of read-only arrays; nothing writes.
    mapped: NDArray[np.uint8] = np.load(place, mmap_mode="c")
    return mapped


def _decode_into(path: Path, count: int, images: Iterator[Encoded], size: int | None) -> None:
    array: np.memmap[Any, np.dtype[np.uint8]] | None = None
    row = 0
    with ThreadPoolExecutor() as pool:
        # In portions, because `map` would read the whole stream ahead.
        while portion := list(itertools.islice(images, PORTION)):
            decoded = pool.map(lambda each: decode(each, size), portion)
            for image, pixels in zip(portion, decoded, strict=True):
                if array is None:
                    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, *pixels.shape))
                if pixels.shape != array.shape[1:]:
                    raise UserError(
                        f"{image[0]}: is {pixels.shape[2]}x{pixels.shape[1]} pixels, others are "
                        f"{array.shape[3]}x{array.shape[2]}; give dataset.size to bring all to one size"
                    )
                array[row] = pixels
                row += 1
    if array is None or row != count:
        raise UserError(
            f"dataset: {count} images were announced, but {row} are there; a file is cut off, fetch it again"
        )
    array.flush()


def file_key(path: Path) -> str:
    """Names a file's or a folder's present version: path, sizes and times of change."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    lines = [f"{each.resolve()} {each.stat().st_size} {each.stat().st_mtime_ns}" for each in files]
    return "\n".join(lines)


def to_channels_first(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, H, W) or (N, H, W, C) to contiguous (N, C, H, W)."""
    if images.ndim == 3:
        return np.ascontiguousarray(images[:, None])
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
