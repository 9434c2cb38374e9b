"""A page of traces, with what is wrong in them marked."""

from __future__ import annotations

import html

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset
from noisybench.data.label_set import CARRIED_ON, IN_DISTRIBUTION, WRONG, LabelSet

SHOWN = 60
"""Traces on a page."""

STYLE = (
    "body{font:14px monospace;margin:2em}td{padding:.3em 1em;border-top:1px solid #ccc;vertical-align:top;white-space:pre-wrap}"
    ".wrong{background:#f88}.on{background:#fd9}"
)


def trace_page(dataset: Dataset, labels: LabelSet, title: str) -> str:
    """A page in HTML: noised training traces, the clean and the observed one, marked as the noise model told."""
    form, train = dataset.traces, dataset.train
    assert form is not None
    chosen = np.flatnonzero((train.targets != labels.train).any(1))[:SHOWN]
    if "train" in labels.error_spans:
        events: NDArray[np.uint8] = labels.error_spans["train"]
    else:
        events = np.where(labels.label_status(train.targets) == IN_DISTRIBUTION, np.uint8(WRONG), np.uint8(0))
    prompts = form.decode(np.asarray(train.inputs[:][chosen, 0, 0]))
    texts = zip(chosen, prompts, form.decode(train.targets[chosen]), form.decode(labels.train[chosen]), strict=True)
    rows = []
    for row, prompt, clean, observed in texts:
        marked = "".join(_marked(*pair) for pair in zip(observed, events[row], strict=False))
        rows.append(f"<tr><td>{html.escape(prompt)}<td>{html.escape(clean)}<td>{marked or '<i>cut</i>'}</tr>")
    return (
        f'<!doctype html><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{html.escape(title)}</h1><p>{_marked('goes wrong here', WRONG)} {_marked('follows from that', CARRIED_ON)}</p>"
        f"<table><tr><th>prompt<th>clean<th>observed</tr>{''.join(rows)}</table>\n"
    )


def _marked(text: str, event: int) -> str:
    """A text, marked by what it is."""
    if event not in (WRONG, CARRIED_ON):
        return html.escape(text)
    return f"<mark class={'wrong' if event == WRONG else 'on'}>{html.escape(text)}</mark>"
