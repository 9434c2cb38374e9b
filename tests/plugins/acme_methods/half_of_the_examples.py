"""A mitigation that selects samples and changes the trained network."""

from __future__ import annotations

import torch
from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.training.learner import Learner
from noisybench.training.roles import PostProcessor, SampleSelector
from noisybench.training.training_set import TrainingSet


class HalfOfTheExamples(SampleSelector, PostProcessor):
    """Train on the first examples only, and optionally reset the classifier after training."""

    share: float = parameter(0.5, ge=0, le=1, low=0.1, high=0.9, help="Fraction of training examples to keep")
    reset: bool = parameter(False, help="Set the last layer to zero after training")

    def sample_weights(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return weight one for the first examples."""
        return (torch.arange(len(training_set)) < self.share * len(training_set)).float()

    def refine(self, task: Learner, training_set: TrainingSet) -> bool:
        """Reset the classifier."""
        if self.reset:
            torch.nn.init.zeros_(list(task.networks[0].parameters())[-2])
        return self.reset
