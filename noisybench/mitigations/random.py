"""A random subset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.mitigations._pruning import Selection, chosen
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class Random(Selection):
    """Trains on a random subset: what pruning by a score must beat at the same size.

    Another seed of the run draws another subset.
    """

    keep: float = parameter(0.5, gt=0, le=1, low=0.3, high=1.0, help="share kept", always_in_label=True)

    def kept(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """So many, whoever they are."""
        scores = torch.from_numpy(Stream("random subset", task.seed).uniform(len(training_set)))
        return chosen(scores, "drop_highest", self.keep)[0]
