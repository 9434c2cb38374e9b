"""Values in the containers that people use: tensors, pictures of Pillow and lists of them as arrays, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.errors import UserError

Restore = Callable[[NDArray[Any]], Any]
"""Function that puts other values of the same shape into the container, type and device of the given ones."""


def library_of(value: object) -> str:
    """Return the name of the package that defines the type of a value; nothing is imported.

    Example:
        >>> library_of(np.zeros(2)), library_of("text")
        ('numpy', 'builtins')
    """
    return type(value).__module__.partition(".")[0]


def is_picture(value: object) -> bool:
    """Return True for an image of Pillow."""
    return library_of(value) == "PIL"


def is_tensor(value: object) -> bool:
    """Return True for a tensor of torch, also of a subclass of another package."""
    return hasattr(value, "detach")


def as_array(value: Any, location: str = "the array") -> NDArray[Any]:
    """Return a tensor on any device, a picture or a list as an array; bfloat16, which NumPy lacks, as float32.

    Args:
        value: the tensor, picture, list or array.
        location: name of the value for messages.

    Raises:
        UserError: entries are masked, a tensor is sparse or has no values, or the entries of a list differ in shape.

    Examples:
        >>> import torch
        >>> as_array(torch.ones(2, dtype=torch.bfloat16, requires_grad=True))
        array([1., 1.], dtype=float32)
        >>> as_array(np.ma.array([1, 2], mask=[False, True]), "y")
        Traceback (most recent call last):
        noisybench.errors.UserError: y has 1 masked entry; remove it, or fill it in with y.filled(...)
    """
    if isinstance(value, np.ma.MaskedArray) and (masked := np.count_nonzero(value.mask)):
        entries, them = ("entry", "it") if masked == 1 else ("entries", "them")
        raise UserError(
            f"{location} has {masked} masked {entries}; remove {them}, or fill {them} in with {location}.filled(...)"
        )
    if not is_tensor(value):
        try:
            return np.asarray(value)
        except ValueError:
            raise UserError(
                f"{location} has entries of different shapes; pass one value, or one row, for each"
            ) from None
    import torch

    if value.layout != torch.strided:
        raise UserError(f"{location} is a sparse tensor; pass {location}.to_dense()")
    if value.is_meta:
        raise UserError(f"{location} is a tensor without values, on the device meta; pass one with values")
    host = value.detach().to("cpu", torch.float32 if value.dtype == torch.bfloat16 else value.dtype)
    return np.asarray(host.numpy())


def open_tensor(tensor: Any, location: str) -> tuple[NDArray[Any], Restore]:
    """Return a tensor as an array, and the way back to its type and device.

    Example:
        >>> import torch
        >>> array, restore = open_tensor(torch.tensor([1, 2], dtype=torch.int32), "y")
        >>> restore(array + 1)
        tensor([2, 3], dtype=torch.int32)
    """
    import torch

    return as_array(tensor, location), lambda values: torch.from_numpy(np.ascontiguousarray(values)).to(
        tensor.device, tensor.dtype
    )


def open_entries(entries: list[Any], location: str) -> tuple[NDArray[Any], Restore]:
    """Return arrays, tensors, pictures or lists of one shape as one array, and the way back to a list of them.

    Args:
        entries: at least one value.
        location: name of the values for messages.

    Raises:
        UserError: the shapes differ.

    Examples:
        >>> array, restore = open_entries([[0, 1], [1, 0]], "y")
        >>> array.shape, restore(1 - array)
        ((2, 2), [[1, 0], [0, 1]])
        >>> open_entries([[0, 1], [1]], "y")
        Traceback (most recent call last):
        noisybench.errors.UserError: y has entries of the shapes (1,) and (2,); resize or pad them to one shape
    """
    arrays = [as_array(entry, location) for entry in entries]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise UserError(
            f"{location} has entries of the shapes {shapes[0]} and {shapes[1]}; resize or pad them to one shape"
        )
    stacked, first = np.stack(arrays), entries[0]
    if is_picture(first):
        from PIL import Image

        return stacked, lambda values: [Image.fromarray(pixels) for pixels in values]
    if is_tensor(first):
        import torch

        return stacked, lambda values: [torch.from_numpy(row.copy()).to(first) for row in values]
    return stacked, list if isinstance(first, np.ndarray) else lambda values: values.tolist()
