"""What noise models for traces have in common: how many documents, how much in each, and the truth about every step."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from noisybench.dataset import Dataset, Split
from noisybench.noise import NoiseModel
from noisybench.parameters import parameter
from noisybench.seeds import Stream
from noisybench.traces import decode, encode, score


class TraceNoise(NoiseModel):
    """Contaminates some traces, each with an intensity.

    The gate of a document is one number of its own, so that with a greater contamination of the same seed more documents are
    contaminated, and never fewer.
    """

    tasks = ("chain_of_thought",)
    convention: ClassVar[str] = (
        "share of tokens that differ; `traces` in the manifest has contaminated and wrong traces"
    )

    contamination: float = parameter(
        1.0, ge=0, le=1, low=0.1, high=1.0, help="share of the traces that are noised", shown=True
    )
    intensity: float = parameter(
        0.3, ge=0, le=1, low=0.05, high=0.6, help="probability inside of a noised trace", shown=True
    )

    @abc.abstractmethod
    def noised(self, split: Split, rows: NDArray[np.int64], stream: Stream, length: int) -> list[str]:
        """The noised responses of some rows of a split."""

    def observe(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[Any]:
        """Responses as they are trained on."""
        found = split.targets.copy()
        gates = stream.uniform(len(split))
        rows = np.flatnonzero(gates < self.contamination)
        if len(rows) and self.intensity:
            length = found.shape[1]
            found[rows] = encode(self.noised(split, rows, stream, length), length)
        return found

    def provenance(self, dataset: Dataset) -> dict[str, Any]:
        """How many training traces are changed, have a wrong answer, or do not replay."""
        split = dataset.train
        observed = self.observe(dataset, split, self.stream(dataset, split))
        changed = (observed != split.targets).any(1)
        prompts = split.inputs[:][changed, 0, 0]
        scores = [score(prompt, decode(row)) for prompt, row in zip(prompts, observed[changed], strict=True)]
        count = max(len(split), 1)
        return {
            "traces": {
                "changed": float(changed.mean()),
                "wrong_answer": sum(not each.right for each in scores) / count,
                "not_replaying": sum(each.right_steps < each.steps for each in scores) / count,
            }
        }

    example_classes = ("0", "1")
