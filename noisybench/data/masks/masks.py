"""Images with segmentation masks from pairs of files, decoded once."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from noisybench.config.source_code import module_code
from noisybench.data.geometry import Geometry, Placement, geometry_notes
from noisybench.data.images.cache import (
    OnError,
    check_unchanged,
    decoder_version,
    fingerprint,
    problem_list,
)
from noisybench.data.images.decoding import DEFAULT_RULES, DecodedImage, DecodingRules, decode_image, quiet_decoding
from noisybench.data.images.facts import ImageFacts
from noisybench.data.masks.values import MaskValues, read_values
from noisybench.data.notes import ReadingNote, reading_note
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

MaskedImage = tuple[Path, MaskInput, *tuple[MaskInput, ...]]
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

    def read(self, file: Path, shape: tuple[int, ...], placement: Placement | None = None) -> NDArray[np.uint8]:
        """Return the (H, W) classes of a mask file, as they lie in an example of the dataset.

        Args:
            file: mask of the size of its source image, or of the example's unless the example is a tile.
            shape: height and width of the example.
            placement: place of the example in its source image; None if the example is the image.

        Raises:
            UserError: the file is missing or damaged, has another size, or contains values without a class.
        """
        mask = read_mask(file, self.values)
        if placement is not None and mask.shape == placement.source:
            return placement.mask(mask)
        if mask.shape == tuple(shape) and (placement is None or not placement.is_tile):
            return mask
        height, width = shape if placement is None else placement.source
        raise UserError(
            f"{file}: has {mask.shape[1]}x{mask.shape[0]} pixels, but its image {width}x{height}; resize it with nearest "
            "neighbor"
        )


@dataclass(frozen=True)
class ImageMaskPairs:
    """Images and their masks, several examples of a file if it is cut into tiles.

    Attributes:
        images: (N, 3, H, W) uint8.
        masks: (N, H, W) uint8 classes and `IGNORED`.
        noisy_masks: noisy masks of the same images, if there are any.
        kept: (N,) position of each example's file among the files.
        placements: place of each example in its source image.
        skipped_files: reason for each pair that was skipped.
        notes: facts about the reading that a user should know.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    noisy_masks: NDArray[np.uint8] | None
    kept: NDArray[np.int64]
    placements: tuple[Placement, ...]
    skipped_files: tuple[str, ...]
    notes: tuple[ReadingNote, ...]


@dataclass(frozen=True)
class _Decoded:
    """Facts about decoded pairs, stored beside their arrays.

    Attributes:
        skipped: row and reason of each pair that cannot be used.
        examples: row among the files, height and width of the source image, and number of the tile of each example.
        unlabeled_tiles: rows of the files of tiles without a labeled pixel, which are left out.
        facts: conversions of the images.
    """

    skipped: list[tuple[int, str]]
    examples: list[tuple[int, int, int, int]]
    unlabeled_tiles: list[int]
    facts: ImageFacts


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


def read_pairs(
    files: Sequence[MaskedImage],
    geometry: Geometry,
    on_error: OnError,
    values: MaskValues = CLASS_INDICES,
    num_classes: int = IGNORED,
    rules: DecodingRules = DEFAULT_RULES,
) -> ImageMaskPairs:
    """Decode images and masks; later calls map the decoded arrays.

    Args:
        files: image and mask of each example, and its noisy mask if all examples have one; masks may be drawn.
        geometry: size of all examples and treatment of other shapes; without a size, the images must all have one.
        on_error: treatment of pairs that cannot be used.
        values: class of each value or color in mask files.
        num_classes: number of classes C; other values except `IGNORED` are refused.
        rules: choices about images that their files do not make.

    Raises:
        UserError: pairs cannot be used and ``on_error`` is ``raise``; lists them.
    """
    width = len(files[0]) if files else 2
    drawn = "|".join(mask.key for group in files for mask in group[1:] if not isinstance(mask, Path))
    settings = f"{geometry}|{on_error}|{values.key}|{num_classes}|{rules}|{width}|{_code_version()}|{drawn}"
    all_files = [file for group in files for file in group if isinstance(file, Path)]
    key = fingerprint(all_files)
    folder = cache_folder() / "pairs" / hashlib.sha256(f"{key}|{settings}".encode()).hexdigest()[:32]
    arrays = [folder / f"{name}.npy" for name in ("images", "masks", "noisy_masks")[:width]]
    # Written last, so its presence means that all arrays are complete.
    done = folder / "done.json"
    cached = _read_cached(arrays, done)
    if cached is None:
        with wrap_cache_errors():
            decoded = _decode_into(arrays, files, geometry, on_error, values, num_classes, rules)
            check_unchanged(all_files, key)
            write_atomically(done, json.dumps({**vars(decoded), "facts": decoded.facts.to_json()}).encode())
        cached = _read_cached(arrays, done)
    if cached is None:
        raise UserError(f"{folder} cannot be read after it was written; check the disk of the cache folder")
    (images, *masks), decoded = cached
    placements = tuple(geometry.placements((height, width))[part] for _, height, width, part in decoded.examples)
    tiles = [files[row][0].name for row in decoded.unlabeled_tiles]
    return ImageMaskPairs(
        images,
        np.array(masks[0]),
        np.array(masks[1]) if len(masks) > 1 else None,
        np.array([row for row, *_ in decoded.examples], dtype=np.int64),
        placements,
        tuple(reason for _, reason in decoded.skipped),
        decoded.facts.notes(rules, lambda row: files[row][0].name)
        + geometry_notes(geometry, placements, [files[row][0].name for row, *_ in decoded.examples])
        + reading_note("unlabeled_tiles", "Tiles without a labeled pixel were left out", tiles),
    )


@functools.cache
def _code_version() -> str:
    """Return the digest of the code that decides the arrays, which a process has loaded once."""
    modules = " ".join(map(module_code, (MaskValues.__module__, Geometry.__module__)))
    return f"{decoder_version(__name__)} {modules}"


def _read_cached(arrays: Sequence[Path], done: Path) -> tuple[list[NDArray[np.uint8]], _Decoded] | None:
    """Return the arrays and the facts of an earlier call; None if there are none or their files are damaged."""
    if not done.exists():
        return None
    try:
        facts = json.loads(done.read_text())
        decoded = _Decoded(
            [(int(row), str(reason)) for row, reason in facts["skipped"]],
            [(int(row), int(height), int(width), int(part)) for row, height, width, part in facts["examples"]],
            [int(row) for row in facts["unlabeled_tiles"]],
            ImageFacts.from_json(facts["facts"]),
        )
        # Copy-on-write, because torch warns of read-only arrays; nothing writes. Masks always fit in memory.
        return [np.load(path, mmap_mode="c") for path in arrays], decoded
    except (OSError, EOFError, KeyError, TypeError, ValueError) as error:
        set_aside_with_note(done.parent, first_line(error))
        return None


def _decode_into(
    arrays: Sequence[Path],
    files: Sequence[MaskedImage],
    geometry: Geometry,
    on_error: OnError,
    values: MaskValues,
    num_classes: int,
    rules: DecodingRules,
) -> _Decoded:
    """Write the decoded arrays, and return facts about them."""
    with quiet_decoding(), ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda group: _try_decode(group, geometry, values, num_classes, rules), files))
    decoded = [result if isinstance(result, str) else result[1] for result in results]
    facts = ImageFacts()
    for row, result in enumerate(results):
        if not isinstance(result, str):
            facts.add(row, result[0])
    # All files are decoded before any problem is raised, so that one error lists all of them.
    problems = [(row, reason) for row, reason in enumerate(decoded) if isinstance(reason, str)]
    usable = [(row, *tile) for row, tiles in enumerate(decoded) if not isinstance(tiles, str) for tile in tiles]
    if problems and (on_error == "raise" or not usable):
        raise problem_list([reason for _, reason in problems])
    facts.check(rules, "dataset.root")
    labeled = [(row, place, group) for row, place, group in usable if _is_labeled(group)]
    shapes = {group[0].shape[1:] for _, _, group in labeled}
    if len(shapes) > 1:
        listed = ", ".join(f"{width}x{height}" for height, width in sorted(shapes)[:4])
        raise UserError(
            f"dataset.size: the images have {len(shapes)} sizes ({listed} …, as width x height); set one, such as "
            "dataset.size=256 (a square) or dataset.size=256x512 (height x width)"
        )
    for path, array in zip(arrays, zip(*(group for _, _, group in labeled), strict=True), strict=True):
        with replacing(path) as partial:
            np.save(partial, np.stack(array))
    return _Decoded(
        problems,
        [(row, *place.source, place.part) for row, place, _ in labeled],
        [row for row, _, group in usable if not _is_labeled(group)],
        facts,
    )


def _is_labeled(arrays: Sequence[NDArray[np.uint8]]) -> bool:
    """Return True if every mask beside an image has a labeled pixel."""
    return all(bool((mask != IGNORED).any()) for mask in arrays[1:])


def _try_decode(
    files: MaskedImage, geometry: Geometry, values: MaskValues, num_classes: int, rules: DecodingRules
) -> tuple[DecodedImage, list[tuple[Placement, list[NDArray[np.uint8]]]]] | str:
    """Return facts about an image, and its placements with its pixels and masks there, or the reason why it is unusable."""
    image_file = files[0]
    try:
        data = image_file.read_bytes() if image_file.is_file() else b""
        # At the original size first: after resizing, a mask of another size could not be recognized.
        decoded = decode_image((str(image_file), data), rules)
        image = decoded.pixels
        masks = []
        for source in files[1:]:
            mask = read_mask(source, values) if isinstance(source, Path) else source.draw()
            if problem := _mask_problem(mask, image.shape[1:], image_file.name, num_classes):
                return f"{source}: {problem}"
            masks.append(mask)
    except UserError as error:
        return str(error)
    placements = geometry.placements((image.shape[1], image.shape[2]))
    tiles = [(place, [place.image(image), *map(place.mask, masks)]) for place in placements]
    if not any(_is_labeled(arrays) for _, arrays in tiles):
        return f"{image_file}: has no labeled pixel in the part that dataset.resize_mode={geometry.mode} shows"
    return replace(decoded, pixels=image[:, :0]), tiles


def _mask_problem(
    mask: NDArray[np.uint8], image_shape: tuple[int, ...], image_name: str, num_classes: int
) -> str | None:
    """Return the reason why a mask cannot be used, if there is one."""
    if mask.shape != image_shape:
        (height, width), (mask_height, mask_width) = image_shape, mask.shape
        return (
            f"has {mask_width}x{mask_height} pixels, but its image {image_name} has {width}x{height}; resize it with nearest "
            "neighbor"
        )
    invalid = mask[(mask != IGNORED) & (mask >= num_classes)]
    if len(invalid):
        return f"contains the value {invalid[0]}, but classes range from 0 to {num_classes - 1} (255: no label)"
    if (mask == IGNORED).all():
        return "has no labeled pixel"
    return None
