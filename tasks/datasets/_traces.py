"""Shared parts of the datasets of traces: conversion of texts to tokens of one length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import RawSplit
from noisybench.data.traces.formats import TraceFormat


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


def max_length(texts: Sequence[str]) -> int:
    """Return the number of characters of the longest text, or 1 if there is none."""
    return max((len(text) for text in texts), default=1)
