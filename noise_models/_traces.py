"""What noise models for traces have in common: how many documents, how much in each, and the truth about every character."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.noise_model import NoiseModel
from noisybench.data.targets import IGNORED, TOKEN_CORRECT, TOKEN_CORRUPTED, TOKEN_PROPAGATED, TOKEN_UNKNOWN
from noisybench.data.traces.formats import TraceFormat
from noisybench.utils.seeds import Stream

Noised = tuple[NDArray[np.uint8], NDArray[np.uint8] | None]
"""Characters of observed responses, and for each of them its position in `labels.EVENTS`; None where execution tells it."""


class TraceNoise(NoiseModel):
    """Contaminates some traces, each with an intensity.

    The gate of a document is one number of its own, so that with a greater contamination of the same seed more documents are
    contaminated, and never fewer. A trace that becomes too long, or whose program does not end, is cut: it has no
    characters, is not trained on, and is counted in the manifest.
    """

    tasks = ("chain_of_thought",)
    convention: ClassVar[str] = (
        "share of characters that differ; `traces` in the manifest has the shares of changed traces, wrong answers, wrong steps"
    )

    contamination: float = parameter(
        1.0, ge=0, le=1, low=0.1, high=1.0, help="share of the traces that are noised", always_in_label=True
    )
    intensity: float = parameter(
        0.3, ge=0, le=1, low=0.05, high=0.6, help="probability inside of a noised trace", always_in_label=True
    )
    answer: Literal["kept", "recomputed", "corrupted"]

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._last: tuple[Split, NDArray[np.int64], Noised] | None = None

    @abc.abstractmethod
    def noised(self, form: TraceFormat, split: Split, rows: NDArray[np.int64], stream: Stream) -> Noised:
        """The noised responses of some rows of a split, and what is wrong in them."""

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[Any]:
        """Responses as they are trained on."""
        rows, (made, _) = self._made(dataset, split, stream)
        observed: NDArray[np.uint8] = split.targets.copy()
        observed[rows] = made
        return observed

    def error_spans(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.uint8]:
        """What every character of them is."""
        assert dataset.trace_format is not None
        rows, (made, told) = self._made(dataset, split, stream)
        found = np.full(split.targets.shape, TOKEN_CORRECT, dtype=np.uint8)
        found[rows] = told_by_execution(dataset.trace_format, split, rows, made) if told is None else told
        return found

    def _made(self, dataset: Dataset, split: Split, stream: Stream) -> tuple[NDArray[np.int64], Noised]:
        """Which rows are contaminated, and what becomes of them; made once for each split."""
        if self._last is not None and self._last[0] is split:
            return self._last[1:]
        assert dataset.trace_format is not None
        gates = stream.uniform(len(split))
        rows = np.flatnonzero(gates < self.contamination) if self.intensity else np.arange(0)
        made = self.noised(dataset.trace_format, split, rows, stream) if len(rows) else (split.targets[rows], None)
        self._last = split, rows, made
        return rows, made

    def source_info(self, dataset: Dataset) -> dict[str, Any]:
        """How many training traces are changed, have a wrong answer, do not replay, or were cut."""
        assert dataset.trace_format is not None
        split, form = dataset.train, dataset.trace_format
        observed = self.corrupt_labels(dataset, split, self.stream(dataset, split))
        cut, changed = (observed == IGNORED).all(1), (observed != split.targets).any(1)
        rows = np.flatnonzero(changed & ~cut)
        prompts = form.decode(split.inputs[:][rows, 0, 0])
        responses, clean = form.decode(observed[rows]), form.decode(split.targets[rows])
        wrong = [
            not form.answers_match(form.extract_answer(text), form.extract_answer(known) or "")
            for text, known in zip(responses, clean, strict=True)
        ]
        broken = [not all(form.check_steps(*pair)) for pair in zip(prompts, responses, strict=True)]
        count = max(len(split), 1)
        return {
            "traces": {
                "changed": float(changed.mean()),
                "wrong_answer": sum(wrong) / count,
                "not_replaying": sum(broken) / count,
                "cut": float(cut.mean()),
            }
        }


def fitted(form: TraceFormat, texts: list[str | None], length: int) -> NDArray[np.uint8]:
    """(N, length) characters; those of texts that do not fit, or are none, are `IGNORED`."""
    return form.encode([text if text is not None and len(text) <= length else "" for text in texts], length)


def told_by_execution(
    form: TraceFormat, split: Split, rows: NDArray[np.int64], observed: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """(N, length) events of runs that went wrong: steps that do not follow, and steps that follow from these."""
    found = np.full(observed.shape, TOKEN_CORRECT, dtype=np.uint8)
    found[(observed == IGNORED).all(1)] = TOKEN_UNKNOWN
    prompts = form.decode(split.inputs[:][rows, 0, 0])
    texts = zip(found, prompts, form.decode(split.targets[rows]), form.decode(observed), strict=True)
    for events, prompt, clean, noised in texts:
        if noised == clean or not noised:
            continue
        before, spans = form.step_spans(clean), form.step_spans(noised)
        for number, ((start, stop), right) in enumerate(zip(spans, form.check_steps(prompt, noised), strict=True)):
            # The answer is last, however many lines there are.
            last = number == len(spans) - 1
            other = before[-1] if last else before[number] if number < len(before) - 1 else (0, 0)
            if not right:
                events[start:stop] = TOKEN_CORRUPTED
            elif noised[start:stop] != clean[slice(*other)]:
                events[start:stop] = TOKEN_PROPAGATED
    return found
