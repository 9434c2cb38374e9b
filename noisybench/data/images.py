"""Images decoded once: to uint8 arrays on disk, memory-mapped from then on.

Mapped pages are shared by all worker processes and dropped under memory pressure, so a set larger than the memory
works too, at the speed of the disk.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.errors import UserError
from noisybench.utils.files import cache_folder, write_atomically

PORTION = 1024
"""Images decoded at a time."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Files that count as images in a folder."""

Encoded = tuple[str, bytes]
"""Where an image came from, for messages, and its encoded bytes."""


Damaged = Literal["refuse", "skip"]
"""What to do about images that cannot be decoded: refuse the whole set, or leave them out and record it."""

SHOWN = 20
"""Damaged images that a refusal names."""


@dataclass(frozen=True)
class Decoded:
    """Images of a stream.

    Attributes:
        images: (N, 3, H, W) uint8, memory-mapped.
        kept: (N,) positions in the stream.
        skipped: what was left out, and why.
    """

    images: NDArray[np.uint8]
    kept: NDArray[np.int64]
    skipped: tuple[str, ...]


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
    if not data:
        raise UserError(f"{origin}: missing or empty; replace it, or remove it from the set")
    try:
        with Image.open(io.BytesIO(data)) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{origin}: damaged or not an image ({error}); replace or remove it") from None
    if size is not None and picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1)


def decode_all(
    count: int, images: Callable[[], Iterator[Encoded]], size: int | None, key: str, damaged: Damaged = "refuse"
) -> Decoded:
    """Decode a stream of images, or take the result of an earlier time.

    Args:
        count: how many there are.
        images: starts the stream; not called where the result is cached.
        size: as in `decode`; where None, all images must have the size of the first.
        key: names the content and its version; another content must have another key.
        damaged: what to do about images that cannot be decoded.

    Raises:
        UserError: images are damaged and `damaged` is ``refuse``, or they differ in size; names them.
    """
    name = hashlib.sha256(f"{key}|{size}|{count}|{damaged}".encode()).hexdigest()[:32]
    place = cache_folder() / "decoded" / f"{name}.npy"
    left_out = place.with_suffix(".json")
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            faults = _decode_into(partial, count, images(), size, damaged)
            write_atomically(left_out, json.dumps(faults).encode())
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
    # Copy-on-write, because torch warns of read-only arrays; nothing writes.
    mapped: NDArray[np.uint8] = np.load(place, mmap_mode="c")
    skipped: list[tuple[int, str]] = json.loads(left_out.read_text())
    kept = np.setdiff1d(np.arange(count), np.array([row for row, _ in skipped], dtype=np.int64))
    return Decoded(mapped[: len(kept)], kept, tuple(reason for _, reason in skipped))


def _decode_into(
    path: Path, count: int, images: Iterator[Encoded], size: int | None, damaged: Damaged
) -> list[tuple[int, str]]:
    """Write the images that can be decoded, one after the other. Returns row and reason of the others."""
    array: np.memmap[Any, np.dtype[np.uint8]] | None = None
    seen, row, faults = 0, 0, list[tuple[int, str]]()
    with ThreadPoolExecutor() as pool:
        # In portions, because `map` would read the whole stream ahead.
        while portion := list(itertools.islice(images, PORTION)):
            decoded = pool.map(lambda each: _attempt(each, size), portion)
            for image, pixels in zip(portion, decoded, strict=True):
                seen += 1
                if isinstance(pixels, str):
                    faults.append((seen - 1, pixels))
                    continue
                if array is None:
                    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, *pixels.shape))
                if pixels.shape != array.shape[1:]:
                    raise UserError(
                        f"{image[0]}: is {pixels.shape[2]}x{pixels.shape[1]} pixels, others are "
                        f"{array.shape[3]}x{array.shape[2]}; give dataset.size to bring all to one size"
                    )
                array[row] = pixels
                row += 1
    if faults and (damaged == "refuse" or array is None):
        more = [f"… and {len(faults) - SHOWN} more damaged images"] if len(faults) > SHOWN else []
        raise UserError(*(reason for _, reason in faults[:SHOWN]), *more)
    if array is None or seen != count:
        raise UserError(
            f"dataset: {count} images were announced, but {seen} are there; a file is cut off, fetch it again"
        )
    array.flush()
    return faults


def _attempt(image: Encoded, size: int | None) -> NDArray[np.uint8] | str:
    try:
        return decode(image, size)
    except UserError as error:
        return str(error)


def read_files(files: Sequence[Path], size: int | None, damaged: Damaged = "refuse") -> Decoded:
    """Decode image files; later calls map the decoded ones."""

    def images() -> Iterator[Encoded]:
        for file in files:
            yield str(file), file.read_bytes() if file.is_file() else b""

    return decode_all(len(files), images, size, files_key(files), damaged)


def image_files(folder: Path) -> list[Path]:
    """All image files below a folder, sorted."""
    return sorted(each for each in folder.rglob("*") if each.suffix.lower() in IMAGE_SUFFIXES)


def read_parquet(path: Path, place: str, size: int | None, label: str | None = None) -> tuple[Decoded, Any]:
    """Decode the images of a parquet file with the usual hub schema, row group by row group.

    Args:
        path: the file; it has a column `img` or `image` of structs {bytes, path}.
        place: where the path stands in the specification, for messages.
        size: as in `decode`.
        label: name of an integer column.

    Returns:
        The images, and a table with the label's column and the file's metadata.

    Raises:
        UserError: missing, damaged, or of another schema.
    """
    import pyarrow
    import pyarrow.parquet

    if not path.is_file():
        raise UserError(f"{place}: {path}: there is no such file")
    try:
        file = pyarrow.parquet.ParquetFile(path)
        columns = file.schema_arrow.names
        image = next((name for name in ("img", "image") if name in columns), None)
        if image is None or (label is not None and label not in columns):
            wanted = f" and a column `{label}`" if label else ""
            raise UserError(f"{place}: {path} needs a column `img` or `image`{wanted}, but has {', '.join(columns)}")
        table = file.read(columns=[label] if label else [])

        def images() -> Iterator[Encoded]:
            row = 0
            for batch in file.iter_batches(batch_size=1024, columns=[image]):
                for each in batch.column(0).field("bytes"):
                    yield f"{path}, row {row}", each.as_py() or b""
                    row += 1

        return decode_all(file.metadata.num_rows, images, size, file_key(path)), table
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OSError) as error:
        raise UserError(
            f"{place}: {path} is damaged or not a parquet file of images ({str(error).splitlines()[0]}); fetch it again"
        ) from None


def file_key(path: Path) -> str:
    """Names a file's or a folder's present version: path, sizes and times of change."""
    return files_key([path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file()))


def files_key(files: Iterable[Path]) -> str:
    """Names the present version of some files; one that is missing counts as empty."""
    lines = []
    for each in files:
        status = each.stat() if each.exists() else None
        lines.append(
            f"{each.absolute()} {status.st_size} {status.st_mtime_ns}" if status else f"{each.absolute()} missing"
        )
    return "\n".join(lines)


def to_channels_first(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, H, W) or (N, H, W, C) to contiguous (N, C, H, W)."""
    if images.ndim == 3:
        return np.ascontiguousarray(images[:, None])
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def to_size(images: NDArray[np.uint8], size: int | None) -> NDArray[np.uint8]:
    """(N, 3, H, W) images resized to (size, size) pixels, bilinear; None keeps them."""
    if size is None or images.shape[2:] == (size, size):
        return images
    from PIL import Image

    resized = [
        np.asarray(Image.fromarray(each.transpose(1, 2, 0)).resize((size, size), Image.Resampling.BILINEAR))
        for each in images
    ]
    return to_channels_first(np.stack(resized))
