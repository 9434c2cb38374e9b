"""HTML page of noisy traces with their errors marked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.targets import IN_DISTRIBUTION, TOKEN_CORRECT, TOKEN_CORRUPTED, TOKEN_STATUS
from noisybench.utils.pages.rendering import render_page

MAX_TRACES = 60
"""Number of traces on a page."""


def render_trace_page(dataset: Dataset, labels: LabelSet, title: str) -> str:
    """Return an HTML page with the first noisy training traces, clean and observed, with their errors marked.

    Args:
        dataset: dataset of traces.
        labels: label set; without recorded error spans, all characters that differ from the clean trace are marked.
        title: heading of the page.
    """
    traces = list(_noisy_traces(dataset, labels))
    return render_page("noisybench.plots", "traces.html", styles=("traces.css",), title=title, traces=traces)


def _noisy_traces(dataset: Dataset, labels: LabelSet) -> Iterator[dict[str, Any]]:
    trace_format, train = dataset.trace_format, dataset.train
    assert trace_format is not None
    # Limited before decoding, so that only the traces on the page are turned into text.
    rows = np.flatnonzero((train.targets != labels.train).any(1))[:MAX_TRACES]
    if "train" in labels.error_spans:
        token_status: NDArray[np.uint8] = labels.error_spans["train"]
    else:
        mislabeled = labels.label_status(train.targets) == IN_DISTRIBUTION
        token_status = np.where(mislabeled, np.uint8(TOKEN_CORRUPTED), np.uint8(TOKEN_CORRECT))
    prompts = trace_format.decode(np.asarray(train.inputs[:][rows, 0, 0]))
    clean, observed = trace_format.decode(train.targets[rows]), trace_format.decode(labels.train[rows])
    for row, prompt, clean_text, observed_text in zip(rows, prompts, clean, observed, strict=True):
        yield {"prompt": prompt, "clean": clean_text, "observed": _runs(observed_text, token_status[row].tolist())}


def _runs(text: str, statuses: list[int]) -> list[tuple[str, str]]:
    """Return the text in pieces of equal token status, each with the name of its status."""
    # Not strict: statuses cover the padding as well, which the decoded text does not have.
    runs = itertools.groupby(zip(text, statuses, strict=False), key=itemgetter(1))
    return [
        ("".join(character for character, _ in run), TOKEN_STATUS[status] if status < len(TOKEN_STATUS) else "unknown")
        for status, run in runs
    ]
