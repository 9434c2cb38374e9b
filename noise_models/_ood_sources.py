"""Sources of out-of-distribution images: synthetic, permuted images of the dataset, or files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset
from noisybench.data.images.cache import image_files, read_files, to_size
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.parquet.files import find_parquet
from noisybench.data.parquet.images import open_parquet_images
from noisybench.errors import UserError
from noisybench.utils.file_listing import FileTree, Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream

ImageArray = NDArray[np.uint8]
"""(N, C, H, W)."""

BRIGHTNESS_LEVELS = 64
"""Levels of synthetic patterns before coloring."""

PATTERNS_AT_ONCE = 256
"""Number of synthetic patterns that are drawn at a time; a multiple of the four kinds."""

GRAY_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in Pillow's conversion to grayscale (ITU-R 601)."""


def synthetic_patterns(count: int, shape: tuple[int, ...], stream: Stream) -> ImageArray:
    """Draw stripes, checks, blobs and ramps in equal parts, each with a random direction, phase and colors.

    Args:
        count: number of images.
        shape: channels, height and width.
        stream: source of randomness.
    """
    # One row of numbers per image, so the first images do not depend on how many are drawn.
    drawn = stream.uniform(count, 5 + 2 * shape[0])
    images = np.empty((count, *shape), dtype=np.uint8)
    # Intermediate values take 50 times the memory of the images.
    for start in range(0, count, PATTERNS_AT_ONCE):
        images[start : start + PATTERNS_AT_ONCE] = _patterns(drawn[start : start + PATTERNS_AT_ONCE], shape)
    return images


def _patterns(drawn: NDArray[np.float64], shape: tuple[int, ...]) -> ImageArray:
    """Return the (N, C, H, W) patterns of (N, 5 + 2 C) random numbers, beginning with the first kind."""
    channels, height, width = shape
    count = len(drawn)
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    angle, period, phase, across, down = drawn[:, :5].T[:, :, None, None]
    # (2, N, C, 1, 1): the color at either end of the brightness range.
    colors = drawn[:, 5:].reshape(count, 2, channels, 1, 1).swapaxes(0, 1)
    along = np.cos(2 * np.pi * angle) * rows + np.sin(2 * np.pi * angle) * columns
    orthogonal = np.cos(2 * np.pi * angle) * columns - np.sin(2 * np.pi * angle) * rows
    waves = 2 * np.pi * (2 + 3 * period)
    stripes = np.sin(waves * along + 2 * np.pi * phase)
    checks = stripes * np.sin(waves * orthogonal + 2 * np.pi * phase)
    distance = (rows - 0.2 - 0.6 * across) ** 2 + (columns - 0.2 - 0.6 * down) ** 2
    blobs = 2 * np.exp(-distance / (0.01 + 0.06 * period)) - 1
    low, high = along.min((1, 2), keepdims=True), along.max((1, 2), keepdims=True)
    ramps = 2 * (along - low) / (high - low) - 1
    # By position instead of at random, so that every four consecutive images have all four kinds.
    kind = (np.arange(count) % 4)[:, None, None]
    brightness = (np.choose(kind, [stripes, checks, blobs, ramps])[:, None] + 1) / 2
    # Sines may differ in their last bit between machines; rounding to far fewer levels gives the same bytes.
    brightness = np.rint(np.clip(brightness, 0, 1) * (BRIGHTNESS_LEVELS - 1)) / (BRIGHTNESS_LEVELS - 1)
    pixels = np.rint(255 * (colors[0] + (colors[1] - colors[0]) * brightness))
    return np.asarray(pixels, dtype=np.uint8)


def pixel_permuted(images: ImageArray, stream: Stream) -> ImageArray:
    """Return the images under one random permutation of their pixels: no structure, but the same pixel values."""
    count, channels, height, width = images.shape
    # One permutation for all images and channels keeps the correlation of pixels over images.
    order = stream.permutation(height * width)
    return np.ascontiguousarray(images.reshape(count, channels, -1)[:, :, order].reshape(images.shape))


def ood_files(kind: str, path: Path) -> dict[str, Source]:
    """Return the files that a source on disk reads; nothing for sources without files."""
    if kind in ("image_folder", "places365"):
        return {"path": FileTree(path, IMAGE_SUFFIXES)}
    if kind == "imagenet32":
        return {file.name: file for file in _batches(path)} or {"path": path}
    return {"path": path} if kind == "parquet" else {}


def from_files(kind: str, path: Path, dataset: Dataset, resize: bool) -> Any:
    """Read all images of a source on disk.

    Args:
        kind: image_folder, parquet, imagenet32 or places365.
        path: folder or file of the source.
        dataset: the dataset in which they replace images.
        resize: convert images to the size and channels of the dataset.

    Raises:
        UserError: the source is missing or damaged, or its images have another shape than the dataset's.
    """
    channels, height, width = dataset.train.inputs.shape[1:]
    # The published sets with Places365 use its photographs resized to the dataset's size.
    size = height if (resize or kind == "places365") and height == width else None
    if kind == "imagenet32":
        images = to_size(read_imagenet32(path), size)
    elif kind == "parquet":
        images = open_parquet_images(find_parquet(path, "noise.path"), "noise.path").decode(size).images
    else:
        if not path.is_dir():
            raise UserError(f"noise.path: {path}: folder not found")
        files = image_files(path)
        if not files:
            raise UserError(f"noise.path: {path} contains no images")
        images = read_files(files, size).images
    if resize and channels == 1:
        images = np.rint(np.tensordot(images, GRAY_WEIGHTS, (1, 0)))[:, None].astype(np.uint8)
    if images.shape[1:] != (channels, height, width):
        actual, expected = ("x".join(map(str, shape)) for shape in (images.shape[1:], (channels, height, width)))
        raise UserError(
            f"noise.path: the images in {path} have {actual} values (channels x height x width), but the dataset's have "
            f"{expected}; set noise.resize=true to convert them"
        )
    return images


def read_imagenet32(folder: Path) -> ImageArray:
    """Read downsampled ImageNet (Chrabaszcz et al. 2017): pickles `train_data_batch_1` to `_10` of channel-major pixels.

    Raises:
        UserError: there are no batches, or one is damaged.
    """
    files = _batches(folder)
    if not files:
        raise UserError(
            f"noise.path: {folder} contains no train_data_batch_1 to _10; expected the folder of ImageNet32"
        )
    batches = []
    for file in files:
        try:
            with file.open("rb") as opened:
                # With latin1 Python 3 can read NumPy arrays that Python 2 has pickled.
                content = _ArrayUnpickler(opened, encoding="latin1").load()
            batches.append(np.asarray(content["data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
        except Exception as error:  # unpicklers raise anything on damaged files
            reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            raise UserError(f"noise.path: {file} is damaged or not a batch of ImageNet32 ({reason})") from None
    return np.concatenate(batches)


def _batches(folder: Path) -> list[Path]:
    """Return the batches of downsampled ImageNet in a folder."""
    files = [expand_user(folder) / f"train_data_batch_{number}" for number in range(1, 11)]
    return [file for file in files if file.is_file()]


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that builds arrays and plain containers, and rejects anything that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {("multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
        if (module.rsplit(".", 1)[-1], name) in allowed and module.split(".")[0] in ("numpy", "_codecs"):
            # NumPy 2 has renamed this package; older pickles contain the former name.
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it contains {module}.{name}, which is not an array")
