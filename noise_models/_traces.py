"""What noise models for traces have in common: how many documents, how much in each, and the truth about every character."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.dataset import IGNORED, Dataset, Split
from noisybench.labels import CARRIED_ON, FITS, UNTOLD, WRONG
from noisybench.noise import NoiseModel
from noisybench.parameters import parameter
from noisybench.seeds import Stream
from noisybench.traces.formats import TraceFormat

Noised = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Characters of observed responses, and for each of them its position in `labels.EVENTS`."""


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
        1.0, ge=0, le=1, low=0.1, high=1.0, help="share of the traces that are noised", shown=True
    )
    intensity: float = parameter(
        0.3, ge=0, le=1, low=0.05, high=0.6, help="probability inside of a noised trace", shown=True
    )
    answer: Literal["kept", "recomputed", "corrupted"]

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._last: tuple[Split, Noised] | None = None

    @abc.abstractmethod
    def noised(self, form: TraceFormat, split: Split, rows: NDArray[np.int64], stream: Stream) -> Noised:
        """The noised responses of some rows of a split, and what is wrong in them."""

    def observe(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[Any]:
        """Responses as they are trained on."""
        return self._made(dataset, split, stream)[0]

    def events(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.uint8]:
        """What every character of them is."""
        return self._made(dataset, split, stream)[1]

    def _made(self, dataset: Dataset, split: Split, stream: Stream) -> Noised:
        if self._last is not None and self._last[0] is split:
            return self._last[1]
        assert dataset.traces is not None
        observed, events = split.targets.copy(), np.full(split.targets.shape, FITS, dtype=np.uint8)
        gates = stream.uniform(len(split))
        rows = np.flatnonzero(gates < self.contamination)
        if len(rows) and self.intensity:
            observed[rows], events[rows] = self.noised(dataset.traces, split, rows, stream)
        self._last = split, (observed, events)
        return observed, events

    def provenance(self, dataset: Dataset) -> dict[str, Any]:
        """How many training traces are changed, have a wrong answer, do not replay, or were cut."""
        assert dataset.traces is not None
        split, form = dataset.train, dataset.traces
        observed = self._made(dataset, split, self.stream(dataset, split))[0]
        cut = (observed == IGNORED).all(1)
        changed = (observed != split.targets).any(1)
        told = changed & ~cut
        prompts, responses = form.decode(split.inputs[:][told, 0, 0]), form.decode(observed[told])
        clean = form.decode(split.targets[told])
        judged = [form.judge(*pair) for pair in zip(prompts, responses, strict=True)]
        wrong = [
            not form.same_answer(each.answer, form.answer(known) or "")
            for each, known in zip(judged, clean, strict=True)
        ]
        count = max(len(split), 1)
        return {
            "traces": {
                "changed": float(changed.mean()),
                "wrong_answer": sum(wrong) / count,
                "not_replaying": sum(not each.replays for each in judged) / count,
                "cut": float(cut.mean()),
            }
        }


def fitted(form: TraceFormat, texts: list[str | None], length: int) -> NDArray[np.uint8]:
    """(N, length) characters; those of texts that do not fit, or are none, are `IGNORED`."""
    return form.encode([text if text is not None and len(text) <= length else "" for text in texts], length)


def told_by_execution(form: TraceFormat, prompt: str, clean: str, noised: str, length: int) -> NDArray[np.uint8]:
    """(length,) events of a run that went wrong: steps that do not follow, and steps that follow from these."""
    found = np.full(length, FITS, dtype=np.uint8)
    steps = form.judge(prompt, noised).steps
    before = [clean[start:stop] for start, stop in form.step_spans(clean)]
    for number, step in enumerate(steps):
        # The answer is last, however many lines there are.
        other = before[-1] if step is steps[-1] else before[number] if number < len(before) - 1 else ""
        if not step.right:
            found[step.start : step.stop] = WRONG
        elif noised[step.start : step.stop] != other:
            found[step.start : step.stop] = CARRIED_ON
    return found


def blank(count: int, length: int) -> NDArray[np.uint8]:
    """(count, length) events of which nothing is told yet."""
    return np.full((count, length), UNTOLD, dtype=np.uint8)
