"""Real-world noise: the labels that come with the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Fidelity
from noisybench.config.licenses import License
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets.label_set import SPLITS
from noisybench.data.noise_model import NoiseModel
from noisybench.data.targets import TOKEN_CORRECT, TOKEN_UNKNOWN, UNKNOWN_TARGET, Targets
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream


class RealWorld(NoiseModel):
    """Use the labels that come with the data: those of crawled or cheaply annotated datasets.

    For datasets with noisy labels beside the best known targets, such as `cnwl`, `mini_webvision`, `webly_fg`,
    `clothing1m` and `animal10n`. Examples whose class is unknown are excluded from every detection metric.
    """

    stream_name = "Native"
    tasks = ("classification", "segmentation", "chain_of_thought")
    convention = "labels that come with the data; the actual noise rate is measured where the class is known"
    requires_clean_labels = False
    license = License("not applicable", access="dataset", note="the labels have the license of the dataset")
    fidelity = Fidelity(
        reference="",
        commit="",
        compared="that the labels are those that come with the data, and that examples of unknown class are in no "
        "detection metric",
    )

    @classmethod
    def example_dataset(cls, dataset: Dataset) -> Dataset:
        """Mislabel every fifth example with the next class, and hide the class of every seventh example."""
        splits = {}
        for name in SPLITS:
            split = getattr(dataset, name)
            noisy_targets = (split.targets + (split.index % 5 == 0)) % dataset.num_classes
            targets = np.where(split.index % 7, split.targets, UNKNOWN_TARGET)
            splits[name] = replace(split, noisy_targets=noisy_targets, targets=targets)
        return replace(dataset, **splits)

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> Targets:
        """Return the noisy labels of the split."""
        if split.noisy_targets is None:
            raise UserError(
                f"noise: {dataset.name} has no noisy labels of its own; corrupt its targets with another noise model "
                "(`noisybench list noise_models`), or provide labels with noise=from_file"
            )
        return split.noisy_targets.copy()

    def error_spans(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.uint8] | None:
        """Return the status of each character: unknown in traces that differ from the clean one."""
        if dataset.trace_format is None or split.noisy_targets is None:
            return None
        # A different trace can be a correct solution, and equal characters in it can be incorrect, so none of it is
        # known.
        spans = np.full(split.noisy_targets.shape, TOKEN_CORRECT, dtype=np.uint8)
        spans[(split.noisy_targets != split.targets).any(1)] = TOKEN_UNKNOWN
        return spans
