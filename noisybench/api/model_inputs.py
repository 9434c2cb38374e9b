"""Inputs of a trained model: arrays, image files and texts, prepared as in training."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.api.paths import read_path
from noisybench.data.containers import is_picture
from noisybench.data.geometry import Geometry, Placement, parse_geometry
from noisybench.data.images.cache import image_files, problem_list
from noisybench.data.images.decoding import DecodedImage, DecodingRules, decode_image, intensity_range, quiet_decoding
from noisybench.data.in_memory_inputs import read_inputs
from noisybench.data.masks.layout import MaskLayout
from noisybench.data.texts import text_bytes, text_inputs, texts_of
from noisybench.errors import UserError, show
from noisybench.runs.saved_model import ModelDescription

CHUNK_SIZE = 1024
"""Number of image files that are in memory at a time."""


@dataclass(frozen=True)
class ModelInputs:
    """Inputs as networks take them, before their normalization.

    Attributes:
        values: (N, C, H, W) uint8 images, or (N, D, 1, 1) float32 features.
        layout: for image files, the name of each file and the place of the input in it; None for arrays.
    """

    values: NDArray[Any]
    layout: MaskLayout | None = None

    def __len__(self) -> int:
        return len(self.values)


def image_paths(inputs: Any) -> list[Path] | None:
    """Return the files of a path, a folder or a list of paths; None for other inputs.

    Raises:
        UserError: a path does not exist, or a folder has no images.
    """
    is_path = isinstance(inputs, str | os.PathLike)
    if not is_path and not (isinstance(inputs, list | tuple) and inputs and _are_paths(inputs)):
        return None
    given = [read_path(path, "inputs") for path in ([inputs] if is_path else inputs)]
    files: list[Path] = []
    for path in given:
        if path.is_dir():
            found = image_files(path)
            if not found:
                raise UserError(f"{path}: the folder has no image files")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"{path}: does not exist; give an image file, or a folder of images")
    return files


def _are_paths(inputs: Sequence[Any]) -> bool:
    return all(isinstance(entry, str | os.PathLike) for entry in inputs)


def read_values(description: ModelDescription, inputs: Any, location: str = "inputs") -> ModelInputs:
    """Return images, features or texts in memory as a model takes them.

    Args:
        description: the model.
        inputs: array, tensor or data frame of images or features; images of Pillow, or one of them.
        location: name of the inputs for messages.

    Raises:
        UserError: they have another kind, number of features or number of channels than in training.
    """
    if description.inputs == "features":
        return _read_features(description, inputs, location)
    if description.inputs == "texts":
        return ModelInputs(text_bytes(text_inputs(_read_solutions(description, inputs, location))))
    if is_picture(inputs):
        inputs = [inputs]
    if isinstance(inputs, list | tuple) and inputs and is_picture(inputs[0]):
        pictures = [np.asarray(picture.convert("RGB")).transpose(2, 0, 1) for picture in inputs]
        parts = [fit_image(description, pixels, f"{location}: image {row}") for row, pixels in enumerate(pictures)]
        return ModelInputs(_join([part for part, _ in parts]))
    channels = description.input_shape[0]
    shape = tuple(getattr(inputs, "shape", ()))
    if len(shape) == 3 and channels == 3 and 3 in (shape[0], shape[2]):
        inputs = inputs[None]  # one image in color
    read = read_inputs(inputs, location=location)
    if read.kind != "images":
        raise UserError(
            f"{location}: the model classifies images of {_size(description)}, but got {read.kind} of the shape "
            f"{tuple(read.inputs.shape[:2])}; pass (N, H, W), (N, H, W, C) or (N, C, H, W) images, or paths"
        )
    if read.inputs.shape[1:] == description.input_shape:
        return ModelInputs(np.ascontiguousarray(read.inputs))
    color = np.broadcast_to(read.inputs, (len(read), 3, *read.inputs.shape[2:]))
    parts = [fit_image(description, pixels, f"{location}: image {row}") for row, pixels in enumerate(color)]
    return ModelInputs(_join([part for part, _ in parts]))


def _read_features(description: ModelDescription, inputs: Any, location: str) -> ModelInputs:
    width = description.input_shape[0]
    shape = tuple(getattr(inputs, "shape", ()))
    if len(shape) == 4 and shape[2:] == (1, 1):
        inputs = inputs.reshape(shape[:2])
    if len(shape) == 1 and shape[0] == width:
        inputs = inputs.reshape(1, width)
    if isinstance(inputs, str | os.PathLike):
        raise UserError(
            f"{location}: the model reads {width} features of each example, not files; pass an (N, {width}) array "
            "(features of images: `noisybench embed`)"
        )
    read = read_inputs(inputs, location=location)
    if read.kind != "features" or read.inputs.shape[1] != width:
        found = f"{read.inputs.shape[1]} features" if read.kind == "features" else read.kind
        raise UserError(
            f"{location}: the model was trained on {width} features, but got {found}; compute them with the same backbone"
        )
    # In rows: sums over another layout differ in their last bits.
    return ModelInputs(np.ascontiguousarray(read.inputs))


def read_image_chunks(description: ModelDescription, files: Sequence[Path]) -> Iterator[ModelInputs]:
    """Yield the images of some files as a model takes them, some at a time.

    Raises:
        UserError: the model does not read images, or files cannot be decoded; lists them.
    """
    if description.inputs != "images":
        raise UserError(
            f"inputs: the model reads {description.inputs}, not image files; pass "
            + ("a list of prompts" if description.inputs == "texts" else f"an (N, {description.input_shape[0]}) array")
        )
    rules = _rules(description)
    for start in range(0, len(files), CHUNK_SIZE):
        problems: list[str] = []
        names: list[str] = []
        placements: list[Placement] = []
        parts = []
        with quiet_decoding():
            for file in files[start : start + CHUNK_SIZE]:
                try:
                    pixels = _decode(file, rules).pixels
                    fitted, places = fit_image(description, pixels, str(file))
                except UserError as error:
                    problems += error.problems
                    continue
                parts.append(fitted)
                names += [str(file)] * len(places)
                placements += places
        if problems:
            raise problem_list(problems)
        yield ModelInputs(_join(parts), MaskLayout(tuple(names), tuple(placements)))


def _decode(file: Path, rules: DecodingRules) -> DecodedImage:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    return decode_image((str(file), data), rules)


def _rules(description: ModelDescription) -> DecodingRules:
    reading = description.reading
    limits = intensity_range(reading.get("intensity_range"))
    return DecodingRules(limits, reading.get("transparent_color", "white"))


def fit_image(
    description: ModelDescription, pixels: NDArray[np.uint8], location: str
) -> tuple[NDArray[np.uint8], tuple[Placement, ...]]:
    """Return a (3, H, W) image in size and color of the training images: (tiles, C, H, W), and the place of each tile.

    Datasets of images with one class scale the shorter side and cut off both ends of the longer one; those with masks do
    what `dataset.resize_mode` says.

    Raises:
        UserError: the image is too small, or networks take another number of channels.
    """
    channels, *size = description.input_shape
    if channels not in (1, 3):
        raise UserError(
            f"{location}: the model reads inputs of {channels} channels, but images have 1 or 3; pass arrays of the shape "
            f"(N, {', '.join(map(str, description.input_shape))})"
        )
    shape = pixels.shape[1], pixels.shape[2]
    placements = _geometry(description, (size[0], size[1])).placements(shape)
    fitted = np.stack([placement.image(pixels) for placement in placements])
    return (to_gray(fitted) if channels == 1 else fitted), placements


def _geometry(description: ModelDescription, size: tuple[int, int]) -> Geometry:
    reading = description.reading
    if description.outputs != "masks":
        return Geometry(size, "crop")
    # Without these parameters, all images of the dataset had the same size.
    is_resized = reading.get("size") is not None and "resize_mode" in reading
    return parse_geometry(reading["size"], reading["resize_mode"]) if is_resized else Geometry(size, "resize")


def to_gray(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (N, 1, H, W) luminance of (N, 3, H, W) images (ITU-R 601); gray values stay as they are.

    Example:
        >>> to_gray(np.full((1, 3, 1, 2), 77, np.uint8))[0, 0]
        array([[77, 77]], dtype=uint8)
    """
    from PIL import Image

    rows = [
        np.asarray(Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).convert("L")) for image in images
    ]
    return np.stack(rows)[:, None]


def _join(parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.concatenate(parts))


def _size(description: ModelDescription) -> str:
    channels, height, width = description.input_shape
    return f"{width}x{height} pixels with {channels} channel{'s' if channels > 1 else ''}"


def _read_solutions(description: ModelDescription, inputs: Any, location: str) -> list[str]:
    """Return problems with their steps, each in a line that has an end, as in training.

    Raises:
        UserError: one of them is no text, or has no step.
    """
    texts = [text.removesuffix("\n") + "\n" for text in read_prompts(description, inputs, location)]
    for row, text in enumerate(texts):
        if text.count("\n") < 2:
            raise UserError(
                f"{location}: text {row}, {show(text[:40])}, has no step; write the problem in one line, then a line for each "
                "step, such as '1+1?\\n1+1=2\\n'"
            )
    return texts


def read_prompts(description: ModelDescription, inputs: Any, location: str = "inputs") -> list[str]:
    """Return the prompts of a text, or of a list, series or array of texts.

    Raises:
        UserError: they are not texts.
    """
    if isinstance(inputs, str):
        return [inputs]
    read = read_inputs(inputs, location=location)
    if read.kind != "texts":
        raise UserError(
            f"{location}: the model reads texts, but got {read.kind}; pass a text, or a list of texts such as "
            f"{show(['1+2:'])}"
        )
    return texts_of(read.inputs)
