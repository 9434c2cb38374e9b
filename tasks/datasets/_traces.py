"""What datasets of traces have in common: texts as characters of one length."""

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


def examples_of(
    form: TraceFormat,
    prompts: Sequence[str],
    responses: Sequence[str],
    sizes: tuple[int, int],
    held_out: NDArray[np.bool_] | None = None,
    given: Sequence[str] | None = None,
) -> RawSplit:
    """Texts as characters: prompts end in the last column, responses begin in the first.

    Args:
        form: of the traces.
        prompts: texts.
        responses: texts with their end.
        sizes: columns of prompts and of responses.
        held_out: which are for validation.
        given: responses that came with the data, where these are not the known ones.
    """
    inputs = form.encode(prompts, sizes[0], left=True)[:, None, None, :]
    observed = None if given is None else form.encode(given, sizes[1])
    return RawSplit(inputs, form.encode(responses, sizes[1]), noisy_targets=observed, validation_mask=held_out)


def json_lines(path: Path, fields: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a file with one in each line, and the lines' numbers from 1; empty lines are passed over.

    Raises:
        UserError: no such file; a line is no object, or lacks a field.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not a text in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}: line {number} is not JSON ({error}); each line must hold one object") from None
        missing = [each for each in fields if not (isinstance(found, dict) and isinstance(found.get(each), str))]
        if missing:
            raise UserError(f"{path}: line {number} has no text `{missing[0]}`; each line needs {', '.join(fields)}")
        yield number, found


def longest(texts: Sequence[str]) -> int:
    """Characters of the longest text."""
    return max((len(each) for each in texts), default=1)
