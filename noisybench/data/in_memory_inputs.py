"""Inputs that people hold in memory, as images, features or texts of the harness, and back in their layout."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.data.containers import Restore, as_array, is_picture, is_tensor, library_of, open_entries, open_tensor
from noisybench.data.dataset import Dataset, Split
from noisybench.data.images.arrays import Channels, array_images
from noisybench.data.images.decoding import DEFAULT_RULES, DecodingRules
from noisybench.data.texts import text_inputs
from noisybench.errors import UserError, show
from noisybench.utils.text import printable


@dataclass(frozen=True)
class InMemoryInputs:
    """Inputs as the harness uses them.

    Attributes:
        inputs: (N, C, H, W) uint8 images, (N, D, 1, 1) float32 features, or (N, 1, 1, 1) texts.
        kind: what the inputs are.
        restore: returns other inputs of this kind in the layout, type and device of the given ones.

    Example:
        >>> given = np.zeros((2, 5, 6, 3), np.uint8)
        >>> images = read_inputs(given)
        >>> images.kind, images.inputs.shape, images.restore(images.inputs).shape
        ('images', (2, 3, 5, 6), (2, 5, 6, 3))
    """

    inputs: NDArray[Any]
    kind: Literal["images", "features", "texts"]
    restore: Restore

    def __len__(self) -> int:
        return len(self.inputs)


def read_inputs(inputs: Any, channels: Channels | None = None, location: str = "X") -> InMemoryInputs:
    """Read inputs from arrays, tensors, data frames, or lists of images or texts.

    Args:
        inputs: images of (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels, 8 bits or floating-point numbers
            from 0 to 1; (N, D) features, or a data frame of numbers; texts; or a list of images of one size.
        channels: position of the channels, if the shape allows both.
        location: name of the inputs for messages.

    Raises:
        UserError: the shape or the type is none of these, or a value is not finite.

    Examples:
        >>> read_inputs([[0.5, 1.0], [2.0, 3.0]]).inputs.shape
        (2, 2, 1, 1)
        >>> read_inputs(["a cat", "a dog"]).kind
        'texts'
        >>> read_inputs(np.array([[0.0, np.nan]]))
        Traceback (most recent call last):
        noisybench.errors.UserError: X: row 0 has the value nan in column 1; replace values that are not finite
    """
    array, restore = _to_array(inputs, location)
    if array.ndim == 0:
        raise UserError(f"{location} must have an entry for each example, but is the single value {show(array)}")
    if not len(array):
        raise UserError(f"{location} has no examples (shape {array.shape}); pass at least one")
    if array.dtype.kind in "UT" or (array.dtype == object and all(isinstance(entry, str) for entry in array.flat)):
        return _texts(array, restore, location)
    if array.dtype == object:
        for entry in array.flat:
            if not isinstance(entry, int | float | np.integer | np.floating | np.bool_):
                raise UserError(
                    f"{location} must be numbers or texts, but has {show(entry)}; encode such values as numbers first"
                )
        array = array.astype(np.float64)
    if array.dtype.kind not in "buif":
        raise UserError(f"{location} must be numbers or texts, but is {array.dtype}; convert it")
    if array.ndim == 2:
        return _features(array, restore, location)
    if array.ndim not in (3, 4):
        hint = "; for one feature, use X.reshape(-1, 1)" if array.ndim == 1 else ""
        raise UserError(
            f"{location} has the shape {array.shape}, but must be (N, D) features, or (N, H, W), (N, H, W, C) or (N, C, H, W) "
            f"images{hint}"
        )
    return _images(array, restore, channels, location)


def no_inputs(count: int) -> NDArray[np.float32]:
    """Return the inputs of examples of which only the labels are known: (N, 0, 1, 1), without values."""
    return np.empty((count, 0, 1, 1), dtype=np.float32)


def _texts(array: NDArray[Any], restore: Restore, location: str) -> InMemoryInputs:
    if (array.ndim == 2 and array.shape[1] != 1) or array.ndim > 2:
        raise UserError(f"{location} has texts of the shape {array.shape}; pass one text for each example")
    return InMemoryInputs(text_inputs(array.reshape(-1).tolist()), "texts", restore)


def _features(array: NDArray[Any], restore: Restore, location: str) -> InMemoryInputs:
    if not array.shape[1]:
        raise UserError(f"{location} has 0 feature(s) (shape {array.shape}); at least one is needed")
    # Features are computed with in single precision, in which large values are infinite.
    with np.errstate(over="ignore"):
        features = array.astype(np.float32)
    invalid = np.argwhere(~np.isfinite(features))
    if len(invalid):
        row, column = invalid[0].tolist()
        raise UserError(
            f"{location}: row {row} has the value {array[row, column]} in column {column}; replace values that are not finite"
        )
    return InMemoryInputs(
        features[:, :, None, None], "features", lambda inputs: restore(inputs[:, :, 0, 0].astype(array.dtype))
    )


def _images(array: NDArray[Any], restore: Restore, channels: Channels | None, location: str) -> InMemoryInputs:
    if not array.size:
        raise UserError(f"{location} has images without pixels (shape {array.shape}); pass at least one pixel for each")
    first = _channels_first(array.shape, channels, location)
    rules, scale = DEFAULT_RULES, 1
    if array.dtype.kind != "b" and array.dtype != np.uint8:
        if not np.isfinite(array).all():
            raise UserError(f"{location} contains NaN or infinite values; replace them, or remove these images")
        low, high = array.min().item(), array.max().item()
        scale = 255 if array.dtype.kind == "f" and high <= 1 else 1
        limit = 1 if scale == 255 else 255
        if low < 0 or high > limit:
            raise UserError(
                f"{location} has {array.dtype} pixels from {low:g} to {high:g}; pass images before their normalization, as "
                "uint8 from 0 to 255 or floating-point numbers from 0 to 1"
            )
        rules = DecodingRules((0.0, float(limit)))
    images, _ = array_images(array, location, rules, "first" if first else "last")

    def back(pixels: NDArray[np.uint8]) -> Any:
        ordered = pixels if first else pixels.transpose(0, 2, 3, 1)
        ordered = ordered[:, 0] if array.ndim == 3 else ordered
        if array.dtype.kind == "b":
            return restore(ordered >= 128)
        return restore((ordered / scale).astype(array.dtype) if scale > 1 else ordered.astype(array.dtype))

    return InMemoryInputs(images, "images", back)


def _channels_first(shape: tuple[int, ...], channels: Channels | None, location: str) -> bool:
    """Return True if the channels of images are the second axis, and False if they are the last."""
    if len(shape) == 3:
        return True
    possible = [name for name, axis in (("first", 1), ("last", 3)) if shape[axis] in (1, 3)]
    if channels is not None:
        possible = [name for name in possible if name == channels]
    if not possible:
        raise UserError(
            f"{location} has the shape {shape}, but images must be (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels"
        )
    if len(possible) > 1:
        raise UserError(
            f"{location} has the shape {shape}, in which the channels could be first or last; pass channels=..."
        )
    return possible == ["first"]


def _to_array(inputs: Any, location: str) -> tuple[NDArray[Any], Restore]:
    """Return inputs as an array, and a function that puts such an array into their container."""
    library = library_of(inputs)
    if isinstance(inputs, np.ndarray):
        return as_array(inputs, location), lambda array: array
    if is_tensor(inputs):
        return open_tensor(inputs, location)
    if library == "pyarrow":
        inputs, library = inputs.to_pandas(), "pandas"
    if library == "pandas":
        return _from_pandas(inputs, location)
    if library == "scipy":
        raise UserError(f"{location} is a sparse matrix; pass X.toarray()")
    if isinstance(inputs, Dataset | Split):
        example = "dataset.train.inputs" if isinstance(inputs, Dataset) else "split.inputs"
        raise UserError(f"{location} must be inputs alone, such as {example}, but is a {type(inputs).__name__.lower()}")
    if isinstance(inputs, str | bytes | Mapping | Set) or not (
        hasattr(inputs, "__len__") and hasattr(inputs, "__iter__")
    ):
        raise UserError(f"{location} must be an array, a data frame or a list, but is {show(inputs)}")
    return _from_list(list(inputs), location)


def _from_pandas(inputs: Any, location: str) -> tuple[NDArray[Any], Restore]:
    import pandas

    if isinstance(inputs, pandas.Series | pandas.Index):
        return inputs.to_numpy(), lambda array: pandas.Series(array, index=getattr(inputs, "index", None))

    def back(array: NDArray[Any]) -> Any:
        return pandas.DataFrame(array, index=inputs.index, columns=inputs.columns)

    if inputs.shape[1] == 1 and all(isinstance(value, str) for value in inputs.iloc[:, 0]):
        return inputs.to_numpy(dtype=object), back
    for column, dtype in zip(inputs.columns, inputs.dtypes, strict=True):
        if not pandas.api.types.is_numeric_dtype(dtype):
            raise UserError(
                f"{location}: the column `{printable(str(column))}` is {dtype}, but features must be numbers; "
                "encode it, or leave it out"
            )
    return inputs.to_numpy(dtype=np.float64, na_value=np.nan), back


def _from_list(entries: list[Any], location: str) -> tuple[NDArray[Any], Restore]:
    if not entries:
        return np.empty((0, 0)), list
    if all(isinstance(entry, str) for entry in entries):
        texts = np.empty(len(entries), dtype=object)
        texts[:] = entries
        return texts, list
    if is_picture(entries[0]):
        modes = sorted({entry.mode for entry in entries})
        if not set(modes) <= {"1", "L", "RGB"} or len(modes) > 1:
            raise UserError(f"{location} has images of the modes {', '.join(modes)}; use image.convert('RGB') for each")
    return open_entries(entries, location)
