"""Shared parts of the datasets of traces: conversion of texts to tokens of one length, and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import RawSplit
from noisybench.data.traces.formats import TraceFormat
from noisybench.errors import UserError
from noisybench.utils.files import first_line
from noisybench.utils.places import read_text


def encode_split(
    trace_format: TraceFormat,
    prompts: Sequence[str],
    responses: Sequence[str],
    lengths: tuple[int, int],
    validation_mask: NDArray[np.bool_] | None = None,
    noisy_responses: Sequence[str] | None = None,
) -> RawSplit:
    """Return a split of traces: prompts end in the last column, responses begin in the first one.

    Args:
        trace_format: format of the traces.
        prompts: texts of the prompts.
        responses: clean responses with their end.
        lengths: number of columns of prompts and of responses.
        validation_mask: (N,) mask of the examples for validation.
        noisy_responses: observed responses with their end, if the data have noise of their own.
    """
    # (N, 1, 1, P): prompts have the four axes of images, so that everything that handles inputs works for both.
    inputs = trace_format.encode(prompts, lengths[0], left=True)[:, None, None, :]
    noisy_targets = None if noisy_responses is None else trace_format.encode(noisy_responses, lengths[1])
    targets = trace_format.encode(responses, lengths[1])
    return RawSplit(inputs, targets, noisy_targets=noisy_targets, validation_mask=validation_mask)


def read_json_lines(path: Path, fields: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a file of JSON lines with their line numbers from 1; empty lines are skipped.

    Args:
        path: file in UTF-8.
        fields: names of the fields that every object must have as strings.

    Raises:
        UserError: the file does not exist, or a line is not an object with these fields.
    """
    text = read_text(path)
    # Not `splitlines`, which would also break lines at U+2028 and similar characters, which JSON allows within
    # strings.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}: line {number} is not JSON ({first_line(error)}); each line must hold one object"
            ) from None
        missing = [field for field in fields if not (isinstance(row, dict) and isinstance(row.get(field), str))]
        if missing:
            raise UserError(f"{path}: line {number} lacks the text `{missing[0]}`; each line needs {', '.join(fields)}")
        yield number, row


def max_length(texts: Sequence[str]) -> int:
    """Return the number of characters of the longest text, or 1 if there is none."""
    return max((len(text) for text in texts), default=1)
