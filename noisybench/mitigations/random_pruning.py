"""Random pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.mitigations._pruning import Pruning, select_by_score
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class RandomPruning(Pruning):
    """Train on a random subset of the examples.

    This is the baseline that pruning by a score must beat at the same size. Each seed of the run draws another subset.
    """

    keep_fraction: float = parameter(
        0.5, gt=0, le=1, low=0.3, high=1.0, help="Fraction of training examples to keep", always_in_label=True
    )

    def kept(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return (N,) bool, True for a random subset."""
        scores = torch.from_numpy(Stream("random subset", task.seed).uniform(len(training_set)))
        return select_by_score(scores, "drop_highest", self.keep_fraction)[0]
