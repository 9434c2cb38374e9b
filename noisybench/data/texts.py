"""Texts as inputs: arrays of strings of any length, of shape (N, 1, 1, 1) as inputs of one value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.errors import UserError

PADDING = 255
"""Value after the end of a text as bytes, which UTF-8 never has."""


def text_inputs(texts: Sequence[str]) -> NDArray[Any]:
    """Return texts as (N, 1, 1, 1) inputs.

    Raises:
        UserError: a text has half of a character, which UTF-8 cannot store.

    Example:
        >>> text_inputs(["a cat", "a dog"]).shape
        (2, 1, 1, 1)
    """
    try:
        # Arrays of a fixed width would give every text the memory of the longest one.
        return np.array(texts, dtype=np.dtypes.StringDType()).reshape(-1, 1, 1, 1)
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise UserError(f"a text has {half!r}, half of a character; write the whole character") from None


def is_text(inputs: Any) -> bool:
    """Return True for inputs that are texts, and False for images and features.

    Example:
        >>> is_text(text_inputs(["a cat"])), is_text(np.zeros((1, 1, 2, 2)))
        (True, False)
    """
    return bool(inputs.dtype.kind == "T")


def texts_of(inputs: NDArray[Any]) -> list[str]:
    """Return the texts of (N, 1, 1, 1) inputs.

    Example:
        >>> texts_of(text_inputs(["a cat", "a dog"]))
        ['a cat', 'a dog']
    """
    texts: list[str] = inputs.reshape(-1).tolist()
    return texts


def content_bytes(inputs: NDArray[Any]) -> bytes:
    """Return the bytes that are the content of inputs, for digests.

    Example:
        >>> content_bytes(text_inputs(["é"])), content_bytes(np.array([1], dtype=np.uint8))
        (b'\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\xc3\\xa9', b'\\x01')
    """
    if not is_text(inputs):
        return inputs.tobytes()
    # With lengths, because "ab" and "c" are other texts than "a" and "bc".
    encoded = [text.encode() for text in texts_of(inputs)]
    return b"".join(len(text).to_bytes(8, "little") + text for text in encoded)


def text_bytes(inputs: NDArray[Any]) -> NDArray[np.uint8]:
    """Return (N, 1, 1, 1) texts as (N, 1, 1, L) bytes of UTF-8, followed by `PADDING`.

    Example:
        >>> text_bytes(text_inputs(["é", "abc"]))[:, 0, 0]
        array([[195, 169, 255],
               [ 97,  98,  99]], dtype=uint8)
    """
    encoded = [np.frombuffer(text.encode(), np.uint8) for text in texts_of(inputs)]
    rows = np.full((len(encoded), 1, 1, max(map(len, encoded), default=1) or 1), PADDING, dtype=np.uint8)
    for row, content in zip(rows, encoded, strict=True):
        row[0, 0, : len(content)] = content
    return rows
