"""Where out-of-distribution images come from: drawn, made of the dataset itself, or read from files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset
from noisybench.data.images import image_files, read_files, read_parquet, to_size
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream

Pictures = NDArray[np.uint8]
"""(N, C, H, W)."""


def patterns(count: int, shape: tuple[int, ...], stream: Stream) -> Pictures:
    """Drawn images: stripes, checks, blobs and ramps in equal parts, each with its own direction, phase and colours.

    Args:
        count: how many.
        shape: channels, height and width.
        stream: decides all of it.
    """
    channels, height, width = shape
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    # One row of numbers per image, so that the first images are the same however many are drawn.
    drawn = stream.uniform(count, 5 + 2 * channels)
    angle, period, phase, across, down = drawn[:, :5].T[:, :, None, None]
    colours = drawn[:, 5:].reshape(count, 2, channels, 1, 1).swapaxes(0, 1)
    turned = np.cos(2 * np.pi * angle) * rows + np.sin(2 * np.pi * angle) * columns
    other = np.cos(2 * np.pi * angle) * columns - np.sin(2 * np.pi * angle) * rows
    waves = 2 * np.pi * (2 + 3 * period)
    stripes = np.sin(waves * turned + 2 * np.pi * phase)
    checks = stripes * np.sin(waves * other + 2 * np.pi * phase)
    distance = (rows - 0.2 - 0.6 * across) ** 2 + (columns - 0.2 - 0.6 * down) ** 2
    blobs = 2 * np.exp(-distance / (0.01 + 0.06 * period)) - 1
    low, high = turned.min((1, 2), keepdims=True), turned.max((1, 2), keepdims=True)
    ramps = 2 * (turned - low) / (high - low) - 1
    kind = (np.arange(count) % 4)[:, None, None]
    strength = (np.choose(kind, [stripes, checks, blobs, ramps])[:, None] + 1) / 2
    # Sines may differ in their last bit between machines; far fewer levels than that bit make the same bytes.
    strength = np.rint(np.clip(strength, 0, 1) * 63) / 63
    levels = np.rint(255 * (colours[0] + (colours[1] - colours[0]) * strength))
    return np.asarray(levels, dtype=np.uint8)


def shuffled(images: Pictures, stream: Stream) -> Pictures:
    """The images with their pixels in another place, the same for all: nothing to recognise, every value kept."""
    count, channels, height, width = images.shape
    order = stream.permutation(height * width)
    return np.ascontiguousarray(images.reshape(count, channels, -1)[:, :, order].reshape(images.shape))


def from_files(kind: str, path: Path, dataset: Dataset, convert: bool) -> Any:
    """All images of a source on disk, brought to the dataset's shape where that is asked for.

    Args:
        kind: image_folder, parquet, imagenet32 or places365.
        path: its folder or file.
        dataset: what they are to stand in.
        convert: bring images of another size or colour to the dataset's.

    Raises:
        UserError: the source is missing, damaged, or of another shape.
    """
    channels, height, width = dataset.train.inputs.shape[1:]
    # The published sets with Places365 are its photographs brought to the dataset's size.
    size = height if (convert or kind == "places365") and height == width else None
    if kind == "imagenet32":
        images = to_size(imagenet32(path), size)
    elif kind == "parquet":
        images = read_parquet(path, "noise.path", size)[0].images
    else:
        if not path.is_dir():
            raise UserError(f"noise.path: {path}: there is no such folder")
        files = image_files(path)
        if not files:
            raise UserError(f"noise.path: {path} holds no image")
        images = read_files(files, size).images
    if convert and channels == 1:
        # The weights of Pillow's conversion to grey (ITU-R 601).
        images = np.rint(np.tensordot(images, [0.299, 0.587, 0.114], (1, 0)))[:, None].astype(np.uint8)
    if images.shape[1:] != (channels, height, width):
        found, wanted = ("x".join(map(str, shape)) for shape in (images.shape[1:], (channels, height, width)))
        raise UserError(
            f"noise.path: the images in {path} are {found} (channels x height x width), but the dataset's are {wanted}; "
            "give noise.resize=true to bring them to that shape"
        )
    return images


def imagenet32(folder: Path) -> Pictures:
    """Downsampled ImageNet (Chrabaszcz et al. 2017): pickles `train_data_batch_1` to `_10` with channel-major pixels.

    Raises:
        UserError: none is there, or one is damaged.
    """
    files = [folder / f"train_data_batch_{number}" for number in range(1, 11)]
    files = [file for file in files if file.is_file()]
    if not files:
        raise UserError(f"noise.path: {folder} holds no train_data_batch_1 to _10; is it the folder of ImageNet32?")
    parts = []
    for file in files:
        try:
            with file.open("rb") as opened:
                content = _PlainUnpickler(opened, encoding="latin1").load()
            parts.append(np.asarray(content["data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
        except Exception as error:
            reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            raise UserError(f"noise.path: {file} is damaged or not a batch of ImageNet32 ({reason})") from None
    return np.concatenate(parts)


class _PlainUnpickler(pickle.Unpickler):
    """Builds arrays and plain containers, and refuses anything that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {("multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
        if (module.rsplit(".", 1)[-1], name) in allowed and module.split(".")[0] in ("numpy", "_codecs"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no array")
