"""Shared parts of the noise models for traces: contamination, intensity, and the status of every character."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.noise_model import NoiseModel
from noisybench.data.targets import IGNORED, TOKEN_CORRECT, TOKEN_CORRUPTED, TOKEN_PROPAGATED, TOKEN_UNKNOWN, Tokens
from noisybench.data.traces.formats import TraceFormat
from noisybench.utils.seeds import Stream

NoisyResponses = tuple[Tokens, NDArray[np.uint8] | None]
"""Tokens of observed responses and the status of each, or None if re-execution determines the status."""


class TraceNoise(NoiseModel):
    """Base class of noise models that corrupt a fraction of the traces with a given intensity.

    One random number per trace decides whether it is corrupted, so that a greater contamination with the same seed
    corrupts a superset of the traces. A trace that becomes too long, or whose program does not terminate, is cut: it has
    no characters, takes no part in training, and is counted in the manifest.
    """

    tasks = ("chain_of_thought",)
    convention: ClassVar[str] = (
        "fraction of characters that differ; `traces` in the manifest has the fractions of changed, incorrectly answered, "
        "invalid and cut traces"
    )

    contamination: float = parameter(
        1.0, ge=0, le=1, low=0.1, high=1.0, help="Fraction of the traces to corrupt", always_in_label=True
    )
    intensity: float = parameter(
        0.3,
        ge=0,
        le=1,
        low=0.05,
        high=0.6,
        help="Probability of an error within a corrupted trace",
        always_in_label=True,
    )
    answer: Literal["kept", "recomputed", "corrupted"]

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._last: tuple[Split, NDArray[np.int64], NoisyResponses] | None = None

    @abc.abstractmethod
    def corrupt_traces(
        self, trace_format: TraceFormat, split: Split, rows: NDArray[np.int64], stream: Stream
    ) -> NoisyResponses:
        """Return the noisy responses of some rows of a split, and the status of their tokens."""

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[Any]:
        """Return the (N, T) tokens of the observed responses."""
        rows, (noisy, _) = self._corrupted_rows(dataset, split, stream)
        observed: Tokens = split.targets.copy()
        observed[rows] = noisy
        return observed

    def error_spans(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.uint8]:
        """Return the (N, T) status of every token of the observed responses."""
        assert dataset.trace_format is not None
        rows, (noisy, status) = self._corrupted_rows(dataset, split, stream)
        token_status = np.full(split.targets.shape, TOKEN_CORRECT, dtype=np.uint8)
        if status is None:
            status = status_by_execution(dataset.trace_format, split, rows, noisy)
        token_status[rows] = status
        return token_status

    def _corrupted_rows(
        self, dataset: Dataset, split: Split, stream: Stream
    ) -> tuple[NDArray[np.int64], NoisyResponses]:
        """Return the corrupted rows and their noisy responses, computed once per split."""
        # By identity: a second call for the split reuses its noisy runs, which are slow to repeat.
        if self._last is not None and self._last[0] is split:
            return self._last[1:]
        assert dataset.trace_format is not None
        # The first numbers of the stream, so that the kind of noise does not influence which traces are corrupted.
        uniform = stream.uniform(len(split))
        rows = np.flatnonzero(uniform < self.contamination) if self.intensity else np.arange(0)
        responses: NoisyResponses = (split.targets[rows], None)
        if len(rows):
            responses = self.corrupt_traces(dataset.trace_format, split, rows, stream)
        self._last = split, rows, responses
        return rows, responses

    def source_info(self, dataset: Dataset) -> dict[str, Any]:
        """Return the fractions of training traces that are changed, incorrectly answered, invalid or cut."""
        assert dataset.trace_format is not None
        split, trace_format = dataset.train, dataset.trace_format
        observed = self.corrupt_labels(dataset, split, self.stream(dataset, split))
        # Cut traces have no text to check, and unchanged ones need no check, so neither is decoded.
        is_cut, is_changed = (observed == IGNORED).all(1), (observed != split.targets).any(1)
        rows = np.flatnonzero(is_changed & ~is_cut)
        prompts = trace_format.decode(split.inputs[:][rows, 0, 0])
        noisy, clean = trace_format.decode(observed[rows]), trace_format.decode(split.targets[rows])
        num_incorrect = sum(
            not trace_format.answers_match(
                trace_format.extract_answer(noisy_text), trace_format.extract_answer(clean_text) or ""
            )
            for noisy_text, clean_text in zip(noisy, clean, strict=True)
        )
        num_invalid = sum(
            not all(trace_format.check_steps(prompt, text)) for prompt, text in zip(prompts, noisy, strict=True)
        )
        num_traces = max(len(split), 1)
        return {
            "traces": {
                "changed": float(is_changed.mean()),
                "incorrect_answer": num_incorrect / num_traces,
                "invalid": num_invalid / num_traces,
                "cut": float(is_cut.mean()),
            }
        }


def encode_or_cut(trace_format: TraceFormat, texts: list[str | None], length: int) -> Tokens:
    """Return (N, length) tokens; those of missing or too long texts are all `IGNORED`."""
    return trace_format.encode([text if text is not None and len(text) <= length else "" for text in texts], length)


def status_by_execution(
    trace_format: TraceFormat, split: Split, rows: NDArray[np.int64], observed: Tokens
) -> NDArray[np.uint8]:
    """Return the (N, T) token status of noisy runs.

    Steps that do not follow from the earlier ones are corrupted; steps that follow but differ from the clean trace are
    propagated.

    Args:
        trace_format: format of the traces.
        split: split with the clean traces.
        rows: (N,) rows of the split that are corrupted.
        observed: (N, T) tokens of their observed responses.
    """
    token_status = np.full(observed.shape, TOKEN_CORRECT, dtype=np.uint8)
    # Cut traces have no characters of which a status could be known.
    token_status[(observed == IGNORED).all(1)] = TOKEN_UNKNOWN
    prompts = trace_format.decode(split.inputs[:][rows, 0, 0])
    clean_texts, noisy_texts = trace_format.decode(split.targets[rows]), trace_format.decode(observed)
    for status, prompt, clean, noisy in zip(token_status, prompts, clean_texts, noisy_texts, strict=True):
        if noisy == clean or not noisy:
            continue
        clean_spans, noisy_spans = trace_format.step_spans(clean), trace_format.step_spans(noisy)
        step_checks = trace_format.check_steps(prompt, noisy)
        for number, ((start, stop), is_correct) in enumerate(zip(noisy_spans, step_checks, strict=True)):
            if not is_correct:
                status[start:stop] = TOKEN_CORRUPTED
                continue
            # The last step is the answer, so answers are compared with each other even if the numbers of lines differ.
            if number == len(noisy_spans) - 1:
                clean_span = clean_spans[-1]
            else:
                clean_span = clean_spans[number] if number < len(clean_spans) - 1 else (0, 0)
            if noisy[start:stop] != clean[slice(*clean_span)]:
                status[start:stop] = TOKEN_PROPAGATED
    return token_status
