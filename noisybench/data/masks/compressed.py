"""Masks of many images as compressed bytes: small, exact, and bounded when they are read."""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

from noisybench.errors import UserError

LEVEL = 6
"""Compression level of zlib; higher ones take several times as long for a few percent."""


def compress_masks(masks: NDArray[np.uint8]) -> bytes:
    """Return masks as bytes, from which `decompress_masks` reads them again.

    Neighboring lines of a mask are alike, so that each line is stored as its difference from the line above (the filter "Up"
    of PNG), in one zlib stream for all masks.

    Args:
        masks: (N, H, W) classes; N may be 0.

    Example:
        >>> masks = np.zeros((10, 64, 64), dtype=np.uint8)
        >>> len(compress_masks(masks)) < 100
        True
    """
    lines = masks.reshape(-1, masks.shape[-1])
    # Differences wrap around in uint8, and so do the sums that undo them.
    differences = np.diff(lines, axis=0, prepend=np.zeros((1, lines.shape[1]), dtype=np.uint8))
    return zlib.compress(differences.tobytes(), LEVEL)


def decompress_masks(data: bytes, shape: tuple[int, int, int]) -> tuple[NDArray[np.uint8], bytes]:
    """Return the masks at the beginning of some bytes, and the bytes after them.

    At most one byte more than the masks have is unpacked, whatever the bytes contain.

    Args:
        data: results of `compress_masks`, one after the other.
        shape: (N, H, W) of the first of them.

    Returns:
        (N, H, W) masks, and the rest of the bytes.

    Raises:
        UserError: the bytes do not begin with masks of this shape.

    Example:
        >>> masks = np.array([[[0, 1], [2, 255]]], dtype=np.uint8)
        >>> decoded, rest = decompress_masks(compress_masks(masks) + b"more", (1, 2, 2))
        >>> decoded.tolist(), rest
        ([[[0, 1], [2, 255]]], b'more')
    """
    size, stream = math.prod(shape), zlib.decompressobj()
    try:
        content = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise UserError(f"the compressed masks are damaged ({error})") from None
    if len(content) != size or not stream.eof:
        raise UserError(f"the compressed masks are not {shape[0]} masks of {shape[1]}x{shape[2]} pixels")
    lines = np.frombuffer(content, np.uint8).reshape(shape[0] * shape[1], shape[2])
    return np.cumsum(lines, axis=0, dtype=np.uint8).reshape(shape), stream.unused_data
