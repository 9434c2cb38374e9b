"""Texts of many responses as arrays of bytes and lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from noisybench.errors import UserError


def pack_texts(rows: Sequence[Sequence[str]]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return rows of texts as arrays, from which `unpack_texts` reads them again.

    Args:
        rows: one list of texts for each row, all of the same length.

    Returns:
        (B,) bytes in UTF-8 of all texts, one after the other, and (rows, M) number of bytes of each.

    Example:
        >>> data, lengths = pack_texts([["1+1", "é"]])
        >>> len(data), lengths.tolist(), unpack_texts(data, lengths)
        (5, [[3, 2]], [['1+1', 'é']])
    """
    # A model may write half of a surrogate pair, which UTF-8 lacks; it is no part of an answer.
    encoded = [[text.encode("utf-8", "replace") for text in row] for row in rows]
    data = b"".join(text for row in encoded for text in row)
    lengths = np.array([[len(text) for text in row] for row in encoded], dtype=np.int32)
    return np.frombuffer(data, dtype=np.uint8), lengths.reshape(len(rows), -1 if rows else 0)


def unpack_texts(data: NDArray[np.uint8], lengths: NDArray[np.int32]) -> list[list[str]]:
    """Return the texts that `pack_texts` has packed.

    Args:
        data: (B,) bytes.
        lengths: (rows, M) number of bytes of each text.

    Raises:
        UserError: the lengths do not fit the bytes, or the bytes are not UTF-8.
    """
    stops = np.cumsum(lengths, dtype=np.int64)
    if (lengths < 0).any() or (int(stops[-1]) if len(stops) else 0) != len(data):
        raise UserError(f"the lengths of the texts do not have the sum of {len(data)} bytes")
    content, starts = data.tobytes(), [0, *stops[:-1].tolist()]
    try:
        texts = [content[start:stop].decode("utf-8") for start, stop in zip(starts, stops.tolist(), strict=False)]
    except UnicodeDecodeError as error:
        raise UserError(f"the texts are not UTF-8 ({error.reason})") from None
    width = lengths.shape[1]
    return [texts[row * width : (row + 1) * width] for row in range(len(lengths))]
