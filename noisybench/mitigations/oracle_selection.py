"""The truth as a selection."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torch import Tensor

from noisybench.data.targets import IN_DISTRIBUTION, OUT_OF_DISTRIBUTION
from noisybench.mitigations._pruning import Selection
from noisybench.training.mitigation import Requirements
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class OracleSelection(Selection):
    """Leaves out exactly the wrong labels, which it is told: the ceiling of every pruning, not a remedy."""

    @property
    def requirements(self) -> Requirements:
        """The status of every label."""
        return dataclasses.replace(super().requirements, privileged=("label_status",))

    def kept(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """The right labels."""
        states = self.privileged.label_status
        wrong: Tensor = (states == IN_DISTRIBUTION) | (states == OUT_OF_DISTRIBUTION)
        return ~wrong
