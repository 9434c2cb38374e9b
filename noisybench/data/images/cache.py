"""Images decoded once to uint8 arrays on disk, and memory-mapped afterwards.

Mapped pages are shared by all worker processes and released under memory pressure, so a dataset larger than the memory
works too, at the speed of the disk.
"""

from __future__ import annotations

import hashlib
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

from noisybench.config.source_code import module_code
from noisybench.data.images.decoding import (
    DEFAULT_RULES,
    IMAGE_SUFFIXES,
    DecodedImage,
    DecodingRules,
    EncodedImage,
    decode,
    quiet_decoding,
)
from noisybench.data.images.facts import ImageFacts
from noisybench.data.notes import ReadingNote
from noisybench.errors import UserError
from noisybench.utils.digests import digest_files
from noisybench.utils.file_listing import FileList, list_files
from noisybench.utils.files import (
    cache_folder,
    first_line,
    remove_partial_files,
    replacing,
    set_aside_with_note,
    wrap_cache_errors,
    write_atomically,
)
from noisybench.utils.progress import report_progress

CHUNK_SIZE = 1024
"""Number of images that are decoded at a time."""

TASK_SIZE = 64
"""Number of images that a thread decodes at a time; one small image takes less time than to hand it over."""

MAX_IDLE = 3600.0
"""Seconds after which the unfinished array of a process that has ended is deleted; interrupted commands leave them."""

OnError = Literal["raise", "skip"]
"""Treatment of images that cannot be decoded: refuse the whole dataset, or skip and record them."""

MAX_LISTED = 20
"""Largest number of problems that an error message lists."""


@dataclass(frozen=True)
class DecodedImages:
    """Decoded images of a stream.

    Attributes:
        images: (N, 3, H, W) uint8, memory-mapped.
        kept: (N,) positions in the stream.
        skipped_files: reason for each image that was skipped.
        notes: facts about the decoding that a user should know, the same from the cache.
    """

    images: NDArray[np.uint8]
    kept: NDArray[np.int64]
    skipped_files: tuple[str, ...]
    notes: tuple[ReadingNote, ...] = ()


@dataclass
class _Decoding:
    """Cached result beside the pixels: rows that cannot be decoded with the reasons, and facts about the others."""

    skipped: list[tuple[int, str]]
    facts: ImageFacts


def decode_cached(
    count: int,
    images: Callable[[], Iterator[EncodedImage]],
    size: int | None,
    key: str,
    on_error: OnError = "raise",
    rules: DecodingRules = DEFAULT_RULES,
    name_of: Callable[[int], str] = "row {}".format,
) -> DecodedImages:
    """Decode a stream of images, or map the result of an earlier call.

    Args:
        count: number of images.
        images: opens the stream; not called if the result is cached.
        size: see `decode`; if None, all images must have the size of the first.
        key: identifies the content and its version; different content needs a different key.
        on_error: treatment of images that cannot be decoded.
        rules: choices that the files do not make.
        name_of: returns the name of an image in notes by its position in the stream.

    Raises:
        UserError: images cannot be decoded and ``on_error`` is ``raise``, or their sizes differ; lists them.
    """
    # All that changes the decoded bytes is part of the name, so no cached file is ever out of date.
    settings = f"{size}|{count}|{on_error}|{rules}|{decoder_version(__name__)}"
    name = hashlib.sha256(f"{key}|{settings}".encode()).hexdigest()[:32]
    path = cache_folder() / "decoded" / f"{name}.npy"
    decoding_path = path.with_suffix(".json")
    cached = _read_cached(path, decoding_path)
    if cached is None:
        with wrap_cache_errors(), replacing(path) as partial:
            remove_partial_files(path.parent, "*.npy", MAX_IDLE)
            decoding = _decode_into(partial, count, images(), size, on_error, rules)
            # Before the rename: the array marks the entry as complete, so a crash in between only repeats the decoding.
            content = {"skipped": decoding.skipped, "facts": decoding.facts.to_json()}
            write_atomically(decoding_path, json.dumps(content).encode())
        cached = _read_cached(path, decoding_path)
    if cached is None:
        raise UserError(f"{path} cannot be read after it was written; check the disk of the cache folder")
    mapped, decoding = cached
    # The file has `count` rows, allocated before it was known that some are skipped; the last ones are unused.
    kept = np.setdiff1d(np.arange(count), np.array([row for row, _ in decoding.skipped], dtype=np.int64))
    reasons = tuple(reason for _, reason in decoding.skipped)
    return DecodedImages(mapped[: len(kept)], kept, reasons, decoding.facts.notes(rules, name_of))


def _read_cached(path: Path, decoding_path: Path) -> tuple[NDArray[np.uint8], _Decoding] | None:
    """Return the result of an earlier call; None if there is none or its files are damaged."""
    if not path.exists():
        return None
    try:
        # Copy-on-write, because torch warns of read-only arrays; nothing writes.
        mapped: NDArray[np.uint8] = np.load(path, mmap_mode="c")
        content = json.loads(decoding_path.read_text())
        skipped = [(int(row), str(reason)) for row, reason in content["skipped"]]
        return mapped, _Decoding(skipped, ImageFacts.from_json(content["facts"]))
    except (OSError, EOFError, TypeError, ValueError, LookupError, AttributeError) as error:
        set_aside_with_note(path, first_line(error))
        return None


def _decode_into(
    path: Path, count: int, images: Iterator[EncodedImage], size: int | None, on_error: OnError, rules: DecodingRules
) -> _Decoding:
    """Write the decoded images one after the other, and return what is known about them."""
    array: np.memmap[Any, np.dtype[np.uint8]] | None = None
    rows = np.empty(0, np.uint8)
    seen, row, decoding = 0, 0, _Decoding([], ImageFacts())
    first_deep = ""
    # Threads suffice, because Pillow releases the interpreter lock while it decodes.
    with quiet_decoding(), ThreadPoolExecutor() as pool:
        # In chunks, because `map` alone would read the whole stream ahead.
        while chunk := list(itertools.islice(images, CHUNK_SIZE)):
            parts = [chunk[start : start + TASK_SIZE] for start in range(0, len(chunk), TASK_SIZE)]
            decoded = pool.map(lambda part: [_try_decode(image, size, rules) for image in part], parts)
            for (origin, _), image in zip(chunk, itertools.chain.from_iterable(decoded), strict=True):
                seen += 1
                if isinstance(image, str):
                    decoding.skipped.append((seen - 1, image))
                    continue
                decoding.facts.add(seen - 1, image)
                first_deep = first_deep or (origin if image.intensities else "")
                # Allocated at the first image that can be decoded, whose size is that of all others if none is
                # requested.
                if array is None:
                    shape = (count, *image.pixels.shape)
                    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
                    _reserve(path)
                    # A plain view: indexing a memory map makes an object of its own for each row.
                    rows = np.asarray(array)
                if image.pixels.shape != array.shape[1:]:
                    raise UserError(
                        f"{origin}: has {image.pixels.shape[2]}x{image.pixels.shape[1]} pixels, but others have "
                        f"{array.shape[3]}x{array.shape[2]}; set dataset.size to resize all images"
                    )
                rows[row] = image.pixels
                row += 1
            report_progress("decode images", seen, count)
    # After the last image, so that one error lists all damaged files.
    if decoding.skipped and (on_error == "raise" or array is None):
        raise problem_list([reason for _, reason in decoding.skipped])
    if array is None or seen != count:
        raise UserError(f"dataset: expected {count} images, but found {seen}; the file is truncated, download it again")
    decoding.facts.check(rules, first_deep)
    array.flush()
    return decoding


def _reserve(path: Path) -> None:
    """Reserve the disk space of a file: on a full disk, a write to mapped memory would kill the process."""
    if hasattr(os, "posix_fallocate"):  # absent on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def problem_list(problems: Sequence[str], limit: int = MAX_LISTED) -> UserError:
    """Return an error that lists the first problems and counts the others."""
    more = [f"… and {len(problems) - limit} more"] if len(problems) > limit else []
    return UserError(*problems[:limit], *more)


def _try_decode(image: EncodedImage, size: int | None, rules: DecodingRules) -> DecodedImage | str:
    """Return the pixels, or the reason why there are none."""
    try:
        return decode(image, size, rules)
    except UserError as error:
        return str(error)


def read_files(
    files: Sequence[Path],
    size: int | None,
    on_error: OnError = "raise",
    rules: DecodingRules = DEFAULT_RULES,
    root: Path | None = None,
) -> DecodedImages:
    """Decode image files; later calls map the decoded images.

    Args:
        files: the images.
        size: see `decode`.
        on_error: treatment of images that cannot be decoded.
        rules: choices that the files do not make.
        root: folder to which the names of files in notes are relative; without it they have no folders.

    Raises:
        UserError: see `decode_cached`.
    """
    key = fingerprint(files)

    def images() -> Iterator[EncodedImage]:
        for file in files:
            yield str(file), file.read_bytes() if file.is_file() else b""
        check_unchanged(files, key)

    def name_of(row: int) -> str:
        return files[row].name if root is None else files[row].relative_to(root).as_posix()

    return decode_cached(len(files), images, size, key, on_error, rules, name_of)


def image_files(folder: Path) -> list[Path]:
    """Return all image files below a folder, sorted; hidden files and folders do not count.

    Raises:
        UserError: a folder cannot be read.
    """
    return list_files(folder, IMAGE_SUFFIXES)


def decoder_version(module: str) -> str:
    """Return the digest of the code that decodes files, and the versions of the libraries that it uses."""
    import PIL
    from PIL import features

    codecs = [str(features.version(name)) for name in ("jpg", "libjpeg_turbo", "webp", "jpg_2000", "libtiff")]
    return f"{module_code(module)} pillow {PIL.__version__} {' '.join(codecs)}"


def fingerprint(files: Iterable[Path]) -> str:
    """Return a text that identifies the content of some files in their order, and their paths.

    Paths count because the reasons for skipped files, which are cached with the decoded ones, contain them.
    """
    paths = [os.path.abspath(file) for file in files]
    content = digest_files({"files": FileList(Path(), tuple(paths))})
    order = hashlib.sha256(os.fsencode("\0".join(paths))).hexdigest()
    return f"{content} {order}"


def check_unchanged(files: Iterable[Path], key: str) -> None:
    """Check that files still have the content that `fingerprint` has seen.

    Raises:
        UserError: a file has changed, so that what was read in between may be of either version.
    """
    if fingerprint(files) != key:
        raise UserError("dataset: files changed while they were read; run the same command again when none changes")


def to_channels_first(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (N, H, W) or (N, H, W, C) images as contiguous (N, C, H, W).

    Examples:
        >>> to_channels_first(np.zeros((5, 8, 6, 3), dtype=np.uint8)).shape
        (5, 3, 8, 6)
    """
    if images.ndim == 3:
        return np.ascontiguousarray(images[:, None])
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def to_size(images: NDArray[np.uint8], size: int | None) -> NDArray[np.uint8]:
    """Return (N, 3, H, W) images resized to (size, size) pixels, bilinear; None keeps them."""
    if size is None or images.shape[2:] == (size, size):
        return images
    from PIL import Image

    resized = [
        np.asarray(Image.fromarray(image.transpose(1, 2, 0)).resize((size, size), Image.Resampling.BILINEAR))
        for image in images
    ]
    return to_channels_first(np.stack(resized))
