"""Random pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Fidelity
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

    fidelity = Fidelity(
        reference="",
        commit="",
        compared="it is a control without reference; the tests hold the size of the subset and its noise rate",
    )

    keep_fraction: float = parameter(
        0.5, gt=0, le=1, low=0.3, high=1.0, help="Fraction of training examples to keep", always_in_label=True
    )

    def check_data(self, training_set: TrainingSet, network: nn.Module, seed: int) -> list[str]:
        """Check that the subset contains an example of every class."""
        return self.check_kept(self._subset(training_set, seed), training_set)

    def kept(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return (N,) bool, True for a random subset."""
        return self._subset(training_set, task.seed)

    def _subset(self, training_set: TrainingSet, seed: int) -> Tensor:
        scores = torch.from_numpy(Stream("random subset", seed).uniform(len(training_set)))
        return select_by_score(scores, "drop_highest", self.keep_fraction)[0]
