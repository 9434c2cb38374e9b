"""Tokens of texts by a tokenizer of Hugging Face, each text tokenized once: epochs read the same texts again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_TEXTS = 2**18
"""Number of texts that are kept; their tokens take about 2 KiB each."""


class Encoding(NamedTuple):
    """Tokens of a text.

    Attributes:
        tokens: (T,) tokens.
        starts: (T,) positions of the first character of each token.
    """

    tokens: NDArray[np.int32]
    starts: NDArray[np.int32]


class TextEncodings:
    """Tokenize texts without special tokens, each at most once.

    Args:
        tokenizer: fast tokenizer of Hugging Face.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._encodings: dict[str, Encoding] = {}

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Return the tokens of texts."""
        unknown = [text for text in dict.fromkeys(texts) if text not in self._encodings]
        if len(self._encodings) + len(unknown) > MAX_TEXTS:
            self._encodings.clear()
            unknown = list(dict.fromkeys(texts))
        if unknown:
            # All in one call, which tokenizes texts in parallel.
            found = self._tokenizer(unknown, add_special_tokens=False, return_offsets_mapping=True)
            for text, tokens, offsets in zip(unknown, found["input_ids"], found["offset_mapping"], strict=True):
                starts = [start for start, _ in offsets]
                self._encodings[text] = Encoding(np.array(tokens, np.int32), np.array(starts, np.int32))
        return [self._encodings[text] for text in texts]
