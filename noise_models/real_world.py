"""The labels that came with the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from noisybench.data.dataset import Dataset, Split
from noisybench.data.noise_model import NoiseModel
from noisybench.data.targets import TOKEN_CORRECT, TOKEN_UNKNOWN, UNKNOWN_TARGET
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream


class RealWorld(NoiseModel):
    """The labels that came with the data: those of crawled or cheaply annotated sets, wrong as they are.

    For datasets that hold labels beside the best known targets, such as `cnwl`, `mini_webvision`, `webly_fg`,
    `clothing1m` and `animal10n`. Where nobody knows an example's class, it counts in no measure of detection.
    """

    stream_name = "Native"
    tasks = ("classification", "segmentation", "chain_of_thought")
    convention = "labels as they came with the data; the realised rate is measured where the class is known"
    requires_clean_labels = False

    @classmethod
    def example_dataset(cls, dataset: Dataset) -> Dataset:
        """Every fifth example has the next class as its label, and nobody knows every seventh example's class."""
        splits = {}
        for name in ("train", "validation"):
            split = getattr(dataset, name)
            given = (split.targets + (split.index % 5 == 0)) % dataset.num_classes
            splits[name] = replace(
                split, noisy_targets=given, targets=np.where(split.index % 7, split.targets, UNKNOWN_TARGET)
            )
        return replace(dataset, **splits)

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.int64]:
        """The given labels of this split."""
        if split.noisy_targets is None:
            raise UserError(
                f"noise: {dataset.name} has no labels beside its targets; corrupt these with another noise model "
                "(`noisybench list noise_models`), or bring labels with noise=from_file"
            )
        return split.noisy_targets.copy()

    def error_spans(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.uint8] | None:
        """Of a trace that differs from the known one nobody knows where it goes wrong."""
        if dataset.trace_format is None or split.noisy_targets is None:
            return None
        found = np.full(split.noisy_targets.shape, TOKEN_CORRECT, dtype=np.uint8)
        found[(split.noisy_targets != split.targets).any(1)] = TOKEN_UNKNOWN
        return found
