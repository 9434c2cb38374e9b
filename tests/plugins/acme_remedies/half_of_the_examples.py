"""A mitigation with a selection and a refinement."""

from __future__ import annotations

import torch
from torch import Tensor

from noisybench.config.parameters import parameter
from noisybench.training.roles import PostProcessor, SampleSelector
from noisybench.training.task import Task
from noisybench.training.training_set import TrainingSet


class HalfOfTheExamples(SampleSelector, PostProcessor):
    """Trains on the first part of the examples only, and may forget its classifier at the end."""

    share: float = parameter(0.5, ge=0, le=1, low=0.1, high=0.9, help="share of the examples to train on")
    reset: bool = parameter(False, help="set the last layer to zero after training")

    def sample_weights(self, task: Task, training_set: TrainingSet) -> Tensor:
        """Weight one for the first part."""
        return (torch.arange(len(training_set)) < self.share * len(training_set)).float()

    def refine(self, task: Task, training_set: TrainingSet) -> bool:
        """Forget the classifier."""
        if self.reset:
            torch.nn.init.zeros_(list(task.networks[0].parameters())[-2])
        return self.reset
